package relay

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider"
)

// TestAuth: what a smart host says to our credentials never fails a message, and
// what keeps it waiting says what to do. No word that anybody may read holds the
// password, also where the host repeats it.
func TestAuth(t *testing.T) {
	const (
		at     = "smart.example[192.0.2.9]:25"
		advice = ": check username and password_file of the route"
	)
	plain, name, word := encoded("\x00"+user+"\x00"+password), encoded(user), encoded(password)
	dest := func(s string) string { return "1 deferred/dest 451 " + s }
	for _, test := range []authTest{
		{name: "PLAIN", replies: map[string]string{"AUTH": "504 5.5.4 no", "AUTH PLAIN " + plain: "235 2.7.0 welcome"}, want: "1 tls"},
		{name: "LOGIN", secured: "AUTH LOGIN NTLM", want: "1 tls", replies: map[string]string{
			"AUTH": "504 5.5.4 no", "AUTH LOGIN": "334 VXNlcm5hbWU6", name: "334 UGFzc3dvcmQ6", word: "235 2.7.0 welcome"}},
		{name: "verified", policy: postrider.TLSVerify, want: "1 tls"},
		{name: "RFC 4954 14: another host, under the default", of: "other.example",
			want: dest("4.7.5 the certificate of " + at + " cannot be trusted: x509: certificate is valid for other.example, not smart.example: " +
				"let the host show one for smart.example that an authority signed, or have this machine trust who signed it"), silent: true},
		{name: "another host, and the route says so", of: "other.example", policy: postrider.TLSRequire, want: "1 tls"},
		{name: "refused", replies: map[string]string{"AUTH": "535 5.7.8 bad credentials"},
			want: dest("4.7.8 " + at + ` refused the user "us@example.org" (535 5.7.8 bad credentials)` + advice)},
		{name: "too weak", replies: map[string]string{"AUTH": "534 5.7.9 too weak"},
			want: dest("4.7.8 " + at + ` refused the user "us@example.org" (534 5.7.9 too weak)` + advice)},
		{name: "not now", replies: map[string]string{"AUTH": "454 4.7.0 the database is away"},
			want: dest("4.7.0 " + at + ` cannot authenticate the user "us@example.org" now (454 4.7.0 the database is away)`)},
		{name: "enough", replies: map[string]string{"AUTH": "421 4.7.0 enough"}, want: "1 deferred/dest 421 4.7.0 enough (smart.example)"},
		{name: "hangs up", replies: map[string]string{"AUTH": "<close>"},
			want: dest("4.4.2 lost connection with " + at + " while authenticating: the peer closed the connection")},
		{name: "another protocol", replies: map[string]string{"AUTH": "334 -", "*": "501 5.7.0 cancelled"},
			want: dest("4.7.0 authentication with " + at + " failed: the peer sent a challenge that cannot be decoded" + advice)},
		{name: "the line repeated", replies: map[string]string{"AUTH": "535 5.7.8 bad: " + plain},
			want: dest("4.7.8 " + at + ` refused the user "us@example.org" (535 5.7.8 (the text is withheld, for it repeats the credentials))` + advice)},
		{name: "the password repeated", replies: map[string]string{"AUTH": "535 5.7.8 " + password + " is bad"},
			want: dest("4.7.8 " + at + ` refused the user "us@example.org" (535 5.7.8 (the text is withheld, for it repeats the password))` + advice)},
		{name: "the password repeated at the end", replies: map[string]string{"AUTH": "421 4.7.0 " + password},
			want: "1 deferred/dest 421 4.7.0 (the text is withheld, for it repeats the password) (smart.example)"},
		{name: "not offered", secured: "AUTH GSSAPI",
			want: dest("4.7.4 " + at + " does not offer AUTH SCRAM-SHA-256-PLUS, SCRAM-SHA-256, PLAIN or LOGIN, which the route wants")},
		{name: "in the clear", clear: true, want: dest("4.7.4 " + at + " does not offer STARTTLS, and a password is never sent in the clear")},
		{name: "in the clear on purpose", policy: postrider.TLSNone,
			want: dest("4.7.11 no TLS with " + at + `, since the route says tls = "none", and a password is never sent in the clear`)},
		{name: "no TLS today", replies: map[string]string{"STARTTLS": "454 4.7.0 not today"},
			want: dest("4.7.4 " + at + " refused STARTTLS (454 4.7.0 not today), and a password is never sent in the clear")},
		{name: "a handshake that fails", replies: map[string]string{"STARTTLS": "220 go <hangs up>"},
			want: dest("4.7.5 TLS with " + at + " failed: io: read/write on closed pipe, and a password is never sent in the clear")},
		{name: "530 to MAIL all the same", replies: map[string]string{"MAIL": "530 5.7.0 Authentication required"},
			want: dest("4.7.0 " + at + " wants TLS or authentication before mail (530 5.7.0 Authentication required)")},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test.run(t, plain, word) })
		})
	}
}

// TestAuthAsked: a route that says how to authenticate gets that or waits, and a
// host that must prove itself and does not gets no mail. The password goes out only
// where the route lets it.
func TestAuthAsked(t *testing.T) {
	const at = "smart.example[192.0.2.9]:25"
	plain, name, word := encoded("\x00"+user+"\x00"+password), encoded(user), encoded(password)
	bearer := encoded("n,a=" + user + ",\x01auth=Bearer " + password + "\x01\x01")
	dest := func(s string) string { return "1 deferred/dest 451 " + s }
	const all = "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN OAUTHBEARER EXTERNAL"
	for _, test := range []authTest{
		{name: "plain wanted", auth: "plain", secured: all, replies: map[string]string{"AUTH": "504 no", "AUTH PLAIN " + plain: "235 2.7.0 welcome"}, want: "1 tls"},
		{name: "scram wanted and not there", auth: "scram", silent: true,
			want: dest("4.7.4 " + at + " does not offer AUTH SCRAM-SHA-256-PLUS or SCRAM-SHA-256, which the route wants")},
		{name: "scram refused", secured: all, replies: map[string]string{"AUTH": "535 5.7.8 no"},
			want: dest("4.7.8 " + at + ` refused the user "us@example.org" (535 5.7.8 no)`)},
		{name: "a welcome without proof", secured: all, replies: map[string]string{"AUTH": "235 2.7.0 welcome"},
			want: dest("4.7.0 " + at + ` has not proved that it knows the password of "us@example.org"`)},
		{name: "not our nonce", auth: "scram", secured: "AUTH SCRAM-SHA-256", replies: map[string]string{"AUTH": "334 " + encoded("r=x,s=AAAA,i=4096"), "*": "501 5.7.0 cancelled"},
			want: dest("4.7.0 authentication with " + at + " failed: smtp: SCRAM: the server does not go on with our nonce")},
		{name: "token", auth: "oauthbearer", secured: all, replies: map[string]string{"AUTH": "504 no", "AUTH OAUTHBEARER " + bearer: "235 2.7.0 welcome"}, want: "1 tls"},
		{name: "token refused", auth: "oauthbearer", secured: all,
			replies: map[string]string{"AUTH": "334 " + encoded(`{"status":"invalid_token"}`), "AQ==": "535 5.7.8 expired"},
			want:    dest("4.7.8 " + at + ` refused the user "us@example.org" (535 5.7.8 expired)`)},
		{name: "token not wanted", auth: "oauthbearer", silent: true, want: dest("4.7.4 " + at + " does not offer AUTH OAUTHBEARER, which the route wants")},
		{name: "certificate", auth: "external", secured: all, replies: map[string]string{"AUTH": "504 no", "AUTH EXTERNAL =": "235 2.7.0 welcome"}, want: "1 tls"},
		{name: "certificate refused", auth: "external", secured: all, replies: map[string]string{"AUTH": "535 5.7.8 who"},
			want: dest("4.7.8 " + at + " refused our certificate (535 5.7.8 who): check cert and key of the route")},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test.run(t, plain, word, bearer, name) })
		})
	}
}

const user, password = "us@example.org", "hunter2-secret"

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

type authTest struct {
	name    string
	replies map[string]string
	secured string // the extension under TLS; "AUTH LOGIN PLAIN" if there is none
	policy  postrider.TLSPolicy
	clear   bool // STARTTLS is not offered, and AUTH is
	auth    string
	silent  bool   // the host hears no AUTH
	of      string // whom the certificate is for; empty: the host
	want    string
}

func (test authTest) run(t *testing.T, secrets ...string) {
	p := offering(trusted(cmp.Or(test.of, "smart.example")), test.replies)
	p.secured = []string{"AUTH LOGIN PLAIN"}
	if test.secured != "" {
		p.secured = []string{test.secured}
	}
	if test.clear {
		p.exts = p.secured
	}
	route := smart(test.policy)
	route.Username, route.Password, route.Auth = user, password, test.auth
	if test.auth == "external" {
		route.Username, route.Password, route.Certificate = "", "", "no PEM: the host must do without"
	}
	got := policied(t, p, route)
	if !strings.HasPrefix(got, test.want) {
		t.Errorf("got  %s\nwant %s", got, test.want)
	}
	for _, secret := range append(secrets, password) {
		if strings.Contains(got, secret) {
			t.Errorf("the password can be read: %s", got)
		}
	}
	if auth := p.said("AUTH"); (test.clear || test.silent || test.policy == postrider.TLSNone) && len(auth) > 0 {
		t.Errorf("the host heard %q", auth)
	}
}

// TestAuthOnce: a kept connection is authenticated once, for its user alone, and
// the hosts of a domain never hear of anybody's credentials.
func TestAuthOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.zone.A("smart.example", "192.0.2.9").A("example.org", "192.0.2.9")
		p := offering(trusted("smart.example"), nil)
		p.secured = []string{"AUTH PLAIN"}
		w.peers[smartAddr] = p
		var log bytes.Buffer
		r := w.relay(Options{Roots: roots(), Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer w.done(t, r)
		one, two := smart(postrider.TLSRequire), smart(postrider.TLSRequire)
		one.Username, one.Password, two.Username, two.Password = "one", "1", "two", "2"
		mx := postrider.Route{Via: postrider.ViaMX, TLS: postrider.TLSRequire, Username: "one", Password: "1"}
		for i, test := range []struct {
			route postrider.Route
			auths int
		}{{one, 1}, {one, 1}, {two, 2}, {one, 2}, {smart(postrider.TLSRequire), 2}, {mx, 2}} {
			d := delivery(t, postrider.ViaSMTP, "b@example.org")
			d.Route = test.route
			if o := r.Deliver(t.Context(), d)[0]; o.Result != postrider.ResultDelivered || len(p.said("AUTH")) != test.auths {
				t.Errorf("%d: AUTH %q, want %d: %s", i, p.said("AUTH"), test.auths, describe(o))
			}
		}
		if p.dials != 3 || log.Len() > 0 {
			t.Errorf("%d connections, want 3; the log says %q", p.dials, log.String())
		}
	})
}

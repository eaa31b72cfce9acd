package relay

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
)

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// authorities are one that is trusted and one that is not, made once.
var authorities = sync.OnceValue(func() [2]authority {
	var list [2]authority
	for i, name := range []string{"trusted", "unknown"} {
		list[i] = authority{}.sign(&x509.Certificate{
			Subject: pkix.Name{CommonName: name}, NotAfter: time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		})
	}
	return list
})

// sign makes a key and its certificate, which the zero authority lets sign itself.
func (a authority) sign(template *x509.Certificate) authority {
	template.SerialNumber, template.NotBefore = big.NewInt(1), time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // which TLS 1.1 knows too
	if err != nil {
		panic(err)
	}
	if a.cert == nil {
		a = authority{template, private}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return authority{cert, private}
}

// server is the TLS of a server with a certificate for a name of that authority.
func (a authority) server(name string, until int) *tls.Config {
	leaf := a.sign(&x509.Certificate{
		DNSNames: []string{name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotAfter: time.Date(until, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	return &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}},
		SessionTicketsDisabled: true,
	}
}

func trusted(name string) *tls.Config { return authorities()[0].server(name, 2089) }

func roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(authorities()[0].cert)
	return pool
}

// offering is a peer that offers STARTTLS and does it so.
func offering(config *tls.Config, replies map[string]string) *peer {
	p := &peer{exts: []string{"STARTTLS"}, tls: config, replies: map[string]string{"STARTTLS": "220 go<tls>"}}
	for line, reply := range replies {
		p.replies[line] = reply
	}
	return p
}

// smart is the route to a host by its name.
func smart(policy postrider.TLSPolicy) postrider.Route {
	return postrider.Route{Via: postrider.ViaSMTP, Host: "smart.example", TLS: policy}
}

const smartAddr = "192.0.2.9:25"

// TestPolicies: each policy with each way in which a peer may do TLS. What must
// come of it is "tls" or "clear" for mail that went so, or the status and the
// beginning of the words with which it waits, and how often was dialled.
func TestPolicies(t *testing.T) {
	old := trusted("smart.example")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	waits := func(status, text string) string { return "1 deferred/dest 451 " + status + " " + text }
	lacks := waits("4.7.4", "smart.example[192.0.2.9]:25 does not offer STARTTLS")
	refused := waits("4.7.4", "smart.example[192.0.2.9]:25 refused STARTTLS")
	failed := waits("4.7.5", "TLS with smart.example[192.0.2.9]:25 failed")
	untrusted := waits("4.7.5", "the certificate of smart.example[192.0.2.9]:25 cannot be trusted: x509: ")
	for _, test := range []struct {
		name string
		peer *peer
		// under opportunistic, require, verify, and none
		want [4]string
	}{
		{"as it should be", offering(trusted("smart.example"), nil), [4]string{"1 tls", "1 tls", "1 tls", "1 clear"}},
		{"a wildcard", offering(trusted("*.example"), nil), [4]string{"1 tls", "1 tls", "1 tls", "1 clear"}},
		{"another name", offering(trusted("other.example"), nil),
			[4]string{"1 tls", "1 tls", untrusted + "certificate is valid for other.example, not smart.example", "1 clear"}},
		{"a name above", offering(trusted("example"), nil), [4]string{"1 tls", "1 tls", untrusted + "certificate is valid for example", "1 clear"}},
		{"another authority", offering(authorities()[1].server("smart.example", 2089), nil),
			[4]string{"1 tls", "1 tls", untrusted + "certificate signed by unknown authority", "1 clear"}},
		{"no longer valid", offering(authorities()[0].server("smart.example", 1999), nil),
			[4]string{"1 tls", "1 tls", untrusted + "certificate has expired", "1 clear"}},
		{"RFC 9325 3.1.1: TLS 1.1", offering(old, nil), [4]string{"2 clear", failed, failed, "1 clear"}},
		{"no STARTTLS", &peer{}, [4]string{"1 clear", lacks, lacks, "1 clear"}},
		{"RFC 3207 4: TLS not available now", offering(nil, map[string]string{"STARTTLS": "454 4.7.0 not today"}),
			[4]string{"1 clear", refused, refused, "1 clear"}},
		{"a STARTTLS that nobody knows", offering(nil, map[string]string{"STARTTLS": "502 5.5.1 what"}),
			[4]string{"1 clear", refused, refused, "1 clear"}},
		{"no handshake", offering(nil, map[string]string{"STARTTLS": "220 go <hangs up>"}), [4]string{"2 clear", failed, failed, "1 clear"}},
		{"silence", offering(nil, map[string]string{"STARTTLS": "<silence>"}), [4]string{"2 clear", failed + ": timed out", failed, "1 clear"}},
		{"another protocol", offering(nil, map[string]string{"STARTTLS": "220 go\n250 and on we go"}),
			[4]string{"2 clear", failed, failed, "1 clear"}},
		{"nothing under TLS", offering(trusted("smart.example"), map[string]string{"tls:EHLO": "<close>"}),
			[4]string{"2 clear", waits("4.4.2", "lost connection with smart.example[192.0.2.9]:25 while saying hello"),
				waits("4.4.2", "lost connection"), "1 clear"}},
		{"421 in place of TLS", offering(nil, map[string]string{"STARTTLS": "421 4.3.2 going down"}), [4]string{
			"1 deferred/dest 421 4.3.2 going down", "1 deferred/dest 421 4.3.2 going down", "1 deferred/dest 421 4.3.2 going down", "1 clear"}},
	} {
		for policy, want := range test.want {
			name := test.name + "/" + policyName(postrider.TLSPolicy(policy))
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &peer{replies: test.peer.replies, exts: test.peer.exts, tls: test.peer.tls}
					if got := policied(t, p, smart(postrider.TLSPolicy(policy))); !strings.HasPrefix(got, want) {
						t.Errorf("got  %s\nwant %s", got, want)
					}
				})
			})
		}
	}
}

// policied delivers one message to a peer and says how it went.
func policied(t *testing.T, p *peer, route postrider.Route) string {
	w := newWorld()
	w.zone.A("smart.example", "192.0.2.9")
	w.peers["192.0.2.9:"+map[bool]string{false: "25", true: "465"}[route.Implicit]] = p
	r := w.relay(Options{Roots: roots()})
	defer w.done(t, r)
	d := delivery(t, postrider.ViaSMTP, "b@example.org")
	d.Route = route
	o := r.Deliver(t.Context(), d)[0]
	p.mu.Lock()
	defer p.mu.Unlock()
	dials := string(rune('0'+len(w.dials))) + " "
	switch {
	case len(p.contents) == 0:
		return dials + describe(o)
	case o.Result != postrider.ResultDelivered || len(p.contents) != 1 || strings.HasPrefix(o.Reply.Text, "lost"):
		return "delivered " + dials + describe(o)
	case p.secure[0]:
		return dials + "tls"
	}
	return dials + "clear"
}

// TestImplicit: TLS from the first octet, and never the clear in its place.
func TestImplicit(t *testing.T) {
	const hint = ": check that the host speaks TLS from the first octet on this port"
	good := func() *peer { return &peer{tls: trusted("smart.example"), replies: map[string]string{"": "<tls>"}} }
	other := func() *peer { return &peer{tls: trusted("other.example"), replies: map[string]string{"": "<tls>"}} }
	for _, test := range []struct {
		name   string
		peer   *peer
		policy postrider.TLSPolicy
		want   string
	}{
		{"any certificate", other(), postrider.TLSOpportunistic, "1 tls"},
		{"the right one", good(), postrider.TLSVerify, "1 tls"},
		{"another", other(), postrider.TLSVerify, "1 deferred/dest 451 4.7.5 the certificate of smart.example[192.0.2.9]:465 cannot be trusted"},
		{"none is no word for it", good(), postrider.TLSNone, "1 tls"},
		{"a peer in the clear", &peer{}, postrider.TLSOpportunistic,
			"1 deferred/dest 451 4.7.5 TLS with smart.example[192.0.2.9]:465 failed: timed out" + hint},
		{"a peer that hangs up", &peer{replies: map[string]string{"": "<close>"}}, postrider.TLSRequire,
			"1 deferred/dest 451 4.7.5 TLS with smart.example[192.0.2.9]:465 failed: io: read/write on closed pipe" + hint},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				route := smart(test.policy)
				route.Implicit = true
				if got := policied(t, test.peer, route); !strings.HasPrefix(got, test.want) {
					t.Errorf("got  %s\nwant %s", got, test.want)
				}
			})
		})
	}
}

// TestStrippedTold: the log hears of mail that goes in the clear since TLS failed.
func TestStrippedTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		*p = peer{exts: []string{"STARTTLS"}, replies: map[string]string{"STARTTLS": "220 go <hangs up>"}}
		var log bytes.Buffer
		r := w.relay(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer w.done(t, r)
		wantDelivered(t, deliver(t, r, "b@example.org"))
		for _, want := range []string{"in the clear", "relay=example.org[192.0.2.1]:25", "cause="} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log lacks %s: %s", want, log.String())
			}
		}
	})
}

// TestWantsTLS: RFC 3207 4: "530 Must issue a STARTTLS command first". Where TLS
// was offered and failed, or the operator named the host, mail waits; a stranger
// who wants what he does not offer has refused it.
func TestWantsTLS(t *testing.T) {
	wants := map[string]string{"MAIL": "530 5.7.0 Must issue a STARTTLS command first"}
	failing := map[string]string{"STARTTLS": "454 4.7.0 not today", "MAIL": wants["MAIL"]}
	play(t, []story{
		{
			name: "a stranger whose TLS failed",
			world: func(w *world) {
				w.zone.A("example.org", "192.0.2.1")
				w.peers[mx1] = &peer{exts: []string{"STARTTLS"}, replies: failing}
			},
			want: []string{"deferred/dest 451 4.7.0 example.org[192.0.2.1]:25 wants TLS or authentication before mail " +
				"(530 5.7.0 Must issue a STARTTLS command first): check tls, username and password_file of the route"}, dials: []string{mx1},
		}, {
			name: "a stranger whose handshake failed",
			world: func(w *world) {
				w.zone.A("example.org", "192.0.2.1")
				w.peers[mx1] = &peer{exts: []string{"STARTTLS"}, replies: map[string]string{"STARTTLS": "220 go <hangs up>", "MAIL": wants["MAIL"]}}
			},
			want: []string{"deferred/dest 451 4.7.0 example.org[192.0.2.1]:25 wants TLS or authentication before mail " +
				"(530 5.7.0 Must issue a STARTTLS command first): check tls, username and password_file of the route"}, dials: []string{mx1, mx1},
		}, {
			name: "a stranger who does not offer TLS",
			world: func(w *world) {
				w.zone.A("example.org", "192.0.2.1")
				w.peers[mx1] = &peer{replies: wants}
			},
			want: []string{"failed/message 530 5.7.0 Must issue a STARTTLS command first (example.org)"}, dials: []string{mx1},
		}, {
			name: "a host that the operator named",
			world: func(w *world) {
				w.zone.A("smart.example", "192.0.2.9")
				w.peers[smartAddr] = &peer{replies: wants}
			},
			set: func(d *postrider.Delivery) { d.Route = smart(postrider.TLSNone) },
			want: []string{"deferred/dest 451 4.7.0 smart.example[192.0.2.9]:25 wants TLS or authentication before mail " +
				"(530 5.7.0 Must issue a STARTTLS command first): check tls, username and password_file of the route"}, dials: []string{smartAddr},
		},
	})
}

// TestNextIsSafe: a host without TLS is no good where TLS must be, and the next
// of the domain takes the mail.
func TestNextIsSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		two(w)
		w.peers[mx1], w.peers[mx2] = &peer{}, offering(trusted("mx2.example"), nil)
		r := w.relay(Options{Roots: roots()})
		defer w.done(t, r)
		d := delivery(t, postrider.ViaMX, "b@example.org")
		d.Route.TLS = postrider.TLSVerify
		if got := describe(r.Deliver(t.Context(), d)[0]); got != delivered+" (mx2.example)" {
			t.Errorf("got %s", got)
		}
		if w.peers[mx1].contents != nil || len(w.peers[mx1].said("QUIT")) != 1 {
			t.Errorf("the first host heard %q", w.peers[mx1].commands)
		}
	})
}

// TestKey: whatever makes another connection makes another key, and nobody's
// credentials are meant for a host that the DNS names.
func TestKey(t *testing.T) {
	of := func(r postrider.Route) key {
		a := &attempt{d: &postrider.Delivery{Route: r}}
		return a.key(target{host: "smart.example"})
	}
	seen := map[key]bool{}
	for _, r := range []postrider.Route{
		{Via: postrider.ViaSMTP}, {Via: postrider.ViaLMTP}, {Via: postrider.ViaSMTP, Implicit: true}, {Via: postrider.ViaSMTP, TLS: postrider.TLSNone},
		{Via: postrider.ViaSMTP, Username: "u", Password: "p"}, {Via: postrider.ViaSMTP, Username: "u", Password: "q"}, {Via: postrider.ViaSMTP, Username: "v", Password: "p"},
		{Via: postrider.ViaSMTP, Username: "u", Password: "p", Auth: "scram"}, {Via: postrider.ViaSMTP, Auth: "external", Certificate: "c"},
		{Via: postrider.ViaSMTP, Auth: "external", Certificate: "d"}, {Via: postrider.ViaSMTP, Limits: postrider.Limits{Messages: 5}},
	} {
		if seen[of(r)] {
			t.Errorf("%+v shares a connection with another", r)
		}
		seen[of(r)] = true
	}
	if of(postrider.Route{Via: postrider.ViaMX, Username: "u", Password: "p"}) != of(postrider.Route{Via: postrider.ViaMX}) {
		t.Error("credentials for a host of the DNS")
	}
}

// TestKeptApart: a connection is kept for those who would have opened it so.
func TestKeptApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.zone.A("smart.example", "192.0.2.9").A("alias.example", "192.0.2.9")
		p := offering(trusted("*.example"), nil)
		w.peers[smartAddr] = p
		r := w.relay(Options{Roots: roots()})
		defer w.done(t, r)
		alias := smart(postrider.TLSVerify)
		alias.Host = "alias.example"
		for i, test := range []struct {
			route postrider.Route
			dials int
		}{
			{smart(postrider.TLSNone), 1}, {smart(postrider.TLSOpportunistic), 2}, {smart(postrider.TLSRequire), 3},
			{smart(postrider.TLSVerify), 4}, {alias, 5}, {smart(postrider.TLSVerify), 5}, {alias, 5}, {smart(postrider.TLSNone), 5},
		} {
			d := delivery(t, postrider.ViaSMTP, "b@example.org")
			d.Route = test.route
			if o := r.Deliver(t.Context(), d)[0]; o.Result != postrider.ResultDelivered || p.dials != test.dials {
				t.Errorf("%d: %d connections, want %d: %s", i, p.dials, test.dials, describe(o))
			}
		}
		if want := []bool{false, true, true, true, true, true, true, false}; !slices.Equal(p.secure, want) {
			t.Errorf("over TLS %v, want %v", p.secure, want)
		}
	})
}

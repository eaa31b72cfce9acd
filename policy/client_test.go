package policy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// someone is who has authenticated.
type someone struct{}

func (someone) Name() string           { return "alice@our.example" }
func (someone) MaySend(smtp.Path) bool { return true }

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// RFC 5321 3.1 and RFC 7504 3: whom we serve at all.
func TestRefuse(t *testing.T) {
	for _, tt := range []struct {
		networks []netip.Prefix
		peer     string
		want     string
	}{
		{nil, "192.0.2.1", ""},
		{prefixes("192.0.2.0/24"), "192.0.2.1", "554 5.7.1 No SMTP service here for 192.0.2.1"},
		{prefixes("192.0.2.0/24"), "::ffff:192.0.2.1", "554 5.7.1 No SMTP service here for 192.0.2.1"},
		{prefixes("192.0.2.0/24"), "198.51.100.1", ""},
		{prefixes("192.0.2.0/24", "0.0.0.0/0"), "192.0.2.1", "521 5.3.2 Host does not accept mail"},
		{prefixes("192.0.2.0/24", "::/0"), "192.0.2.1", "554 5.7.1 No SMTP service here for 192.0.2.1"},
		{prefixes("0.0.0.0/0"), "2001:db8::1", ""},
		{prefixes("0.0.0.0/0", "::/0"), "2001:db8::1%eth0", "521 5.3.2 Host does not accept mail"},
	} {
		for _, role := range []Role{RoleMX, RoleSubmission, RoleLMTP} {
			v := Standard(Options{Role: role, Refuse: tt.networks}).Open.Check(t.Context(), transaction(tt.peer, 0, smtp.Path{}))
			got := ""
			if v.Refuse {
				got = v.Reply.String()
			}
			want := tt.want
			if role == RoleSubmission && strings.HasPrefix(want, "521") { // RFC 6409 7
				want = "554 5.7.1 No SMTP service here for " + strings.TrimSuffix(tt.peer, "%eth0")
			}
			if got != want {
				t.Errorf("%v, %s, %s: %q, want %q", tt.networks, tt.peer, role, got, want)
			}
		}
	}
}

// RFC 5321 7.3: who gets answers to VRFY and EXPN.
func TestAsk(t *testing.T) {
	const stranger, inside = "198.51.100.1", "192.0.2.1"
	for _, tt := range []struct {
		who    Who
		peer   string
		authed bool
		want   bool
	}{
		{"", stranger, false, false},
		{"", inside, false, false},
		{"", stranger, true, true},
		{WhoAuthenticated, stranger, false, false},
		{WhoAuthenticated, stranger, true, true},
		{WhoRelay, stranger, false, false},
		{WhoRelay, inside, false, true},
		{WhoRelay, stranger, true, true},
		{WhoAnyone, stranger, false, true},
		{WhoNobody, inside, true, false},
		{"everyone", stranger, false, false}, // a word that nobody knows opens nothing
	} {
		for _, role := range []Role{RoleMX, RoleSubmission, RoleLMTP} {
			tx := transaction(tt.peer, 0, smtp.Path{})
			if tt.authed {
				tx.Submitter = someone{}
			}
			ask := Standard(Options{Role: role, Verify: tt.who, RelayFrom: prefixes("192.0.2.0/24")}).Ask
			if got := !ask.Check(t.Context(), tx).Refuse; got != tt.want {
				t.Errorf("%q, %s, authenticated %v, %s: %v", tt.who, tt.peer, tt.authed, role, got)
			}
		}
	}
}

// RFC 5321 3.4 and RFC 6531 3.7.4.1: what RCPT is answered for an address that
// has another.
func TestToldAddress(t *testing.T) {
	reply := func(code int, class uint8, detail uint16, to string) smtp.Reply {
		return smtp.Reply{Code: code, Status: smtp.Status{Class: class, Subject: 1, Detail: detail}, Text: "see <" + to + ">"}
	}
	for _, tt := range []struct {
		kind postrider.Kind
		told smtp.Reply
		utf8 bool
		want string
	}{
		{postrider.KindAlias, reply(251, 2, 5, "x@far.example"), false, "251 2.1.5 see <x@far.example>"},
		{postrider.KindUnknown, reply(551, 5, 6, "x@far.example"), false, "551 5.1.6 see <x@far.example>"},
		{postrider.KindAlias, reply(251, 2, 5, "ö@far.example"), false, "250 2.1.5 Recipient OK"},
		{postrider.KindUnknown, reply(551, 5, 6, "ö@far.example"), false, "550 5.6.8 User not local; the new address is beyond ASCII, and is told where MAIL has SMTPUTF8"},
		{postrider.KindAlias, reply(251, 2, 5, "ö@far.example"), true, "251 2.1.5 see <??@far.example>"},
		{postrider.KindUnknown, reply(551, 5, 6, "ö@far.example"), true, "551 5.1.6 see <??@far.example>"},
		// Whatever a Router makes of it, nobody unknown is taken, and nobody known refused.
		{postrider.KindUnknown, reply(251, 2, 5, "x@far.example"), false, "550 5.1.1 No such user here"},
		{postrider.KindMailbox, reply(551, 5, 6, "x@far.example"), false, "250 2.1.5 Recipient OK"},
		{postrider.KindRemote, reply(251, 2, 5, "x@far.example"), false, "550 5.7.1"},
	} {
		tx := transaction("198.51.100.1", tt.kind, smtp.Path{Local: "bob", Domain: "our.example"})
		tx.Resolution.Reply, tx.Params.UTF8 = tt.told, tt.utf8
		v := Standard(Options{}).Rcpt.Check(t.Context(), tx)
		got := v.Reply.String()
		if tt.kind == postrider.KindRemote {
			got = got[:len(tt.want)]
		}
		if got != tt.want || v.Refuse == v.Reply.Positive() {
			t.Errorf("kind %d, %v: refuse %v, %s; want %s", tt.kind, tt.told, v.Refuse, got, tt.want)
		}
	}
}

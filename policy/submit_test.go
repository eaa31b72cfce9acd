package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// user is a Submitter with the addresses that it may send as.
type user []string

func (u user) Name() string                { return u[0] }
func (u user) MaySend(from smtp.Path) bool { return slices.Contains(u, from.String()) }

var alice = user{"alice@our.example", "info@our.example", "root@localhost"}

// parse is ParsePath of what is right.
func parse(t *testing.T, s string) smtp.Path {
	t.Helper()
	p, err := smtp.ParsePath(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return p
}

func TestMailOfSubmitters(t *testing.T) {
	const sub, mx = RoleSubmission, RoleMX
	for _, tt := range []struct {
		role Role
		who  postrider.Submitter
		tls  string
		from string
		want string
	}{
		{sub, nil, "", "alice@our.example", "530 5.7.0 Authentication required: STARTTLS"},
		{sub, nil, "TLS 1.3 X", "alice@our.example", "530 5.7.0 Authentication required"},
		{sub, nil, "TLS 1.3 X", "", "530 5.7.0"},
		{sub, alice, "TLS 1.3 X", "alice@our.example", "250 2.1.0"},
		{sub, alice, "TLS 1.3 X", "info@our.example", "250 2.1.0"},
		{sub, alice, "TLS 1.3 X", "root@localhost", "250 2.1.0"},
		{sub, alice, "TLS 1.3 X", "", "250 2.1.0"},
		{sub, alice, "TLS 1.3 X", "bob@our.example", "550 5.7.1 Account alice@our.example may not send as this address: the operator allows it with --send-as"},
		{sub, alice, "TLS 1.3 X", "alice@far.example", "550 5.7.1"},
		{sub, alice, "TLS 1.3 X", "alice@[192.0.2.1]", "550 5.7.1"},
		{sub, alice, "TLS 1.3 X", "postmaster", "554 5.1.8"},
		{sub, alice, "TLS 1.3 X", "alice@our", "554 5.1.8"},
		{mx, nil, "", "bob@far.example", "250 2.1.0"},
		{mx, nil, "TLS 1.3 X", "", "250 2.1.0"},
		{mx, alice, "TLS 1.3 X", "alice@our.example", "250 2.1.0"},
		{mx, alice, "TLS 1.3 X", "", "250 2.1.0"},
		{mx, alice, "TLS 1.3 X", "bob@far.example", "550 5.7.1"},
		{RoleLMTP, nil, "", "bob@far.example", "250 2.1.0"},
	} {
		mail := Standard(Options{Role: tt.role}).Mail
		v := mail.Check(t.Context(), &postrider.Transaction{Source: postrider.Source{TLS: tt.tls}, Submitter: tt.who, From: parse(t, tt.from)})
		if got := v.Reply.String(); !strings.HasPrefix(got, tt.want) || v.Refuse == v.Reply.Positive() {
			t.Errorf("%s, %v, from %q: %s, want %s", tt.role, tt.who, tt.from, got, tt.want)
		}
	}
}

func TestRcptOfSubmitters(t *testing.T) {
	const sub, mx, lmtp = RoleSubmission, RoleMX, RoleLMTP
	const ours, far, nobody = postrider.KindMailbox, postrider.KindRemote, postrider.KindUnknown
	for _, tt := range []struct {
		role Role
		who  postrider.Submitter
		kind postrider.Kind
		to   string
		want string
	}{
		{sub, nil, ours, "bob@our.example", "530 5.7.0"},
		{sub, nil, far, "bob@far.example", "530 5.7.0"},
		{sub, alice, far, "bob@far.example", "250 2.1.5"},
		{sub, alice, ours, "bob@our.example", "250 2.1.5"},
		{sub, alice, ours, "bob@localhost", "250 2.1.5"},
		{sub, alice, ours, "postmaster", "250 2.1.5"},
		{sub, alice, far, "bob@[192.0.2.1]", "250 2.1.5"},
		{sub, alice, far, "bob@sales", "554 5.1.2"},
		{sub, alice, nobody, "bob@localhost", "550 5.1.1"},
		{mx, nil, far, "bob@far.example", "550 5.7.1"},
		{mx, alice, far, "bob@far.example", "250 2.1.5"},
		{lmtp, nil, far, "bob@far.example", "550 5.7.1"},
		{lmtp, alice, far, "bob@far.example", "550 5.7.1"},
		{lmtp, nil, ours, "bob@our.example", "250 2.1.5"},
		{lmtp, nil, nobody, "bob@our.example", "550 5.1.1"},
	} {
		// relay_from is for the role of an MX alone.
		rcpt := Standard(Options{Role: tt.role, RelayFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}).Rcpt
		peer := "192.0.2.1"
		if tt.role == mx {
			peer = "203.0.113.1"
		}
		tx := transaction(peer, tt.kind, parse(t, tt.to))
		tx.Submitter = tt.who
		v := rcpt.Check(t.Context(), tx)
		if got := v.Reply.String(); !strings.HasPrefix(got, tt.want) || v.Refuse == v.Reply.Positive() {
			t.Errorf("%s, %v, to %s: %s, want %s", tt.role, tt.who, tt.to, got, tt.want)
		}
	}
}

// Nobody gets as far as a message without the checks of the phases before; if
// somebody does, it is refused.
// RFC 6409 4.2: "sites SHOULD reject" what is not fully qualified: the dot of the root makes
// one label no more than one.
func TestQualified(t *testing.T) {
	for domain, want := range map[string]bool{
		"a.example": true, "a.example.": true, "[192.0.2.1]": true, "[IPv6:2001:db8::1]": true, "sales": false, "sales.": false, ".": false, "": false,
	} {
		if qualified(domain) != want {
			t.Errorf("%q: %v", domain, !want)
		}
	}
}

func TestDataOfSubmitters(t *testing.T) {
	data := Standard(Options{Role: RoleSubmission}).Data
	if v := data.Check(t.Context(), &postrider.Transaction{}); !v.Refuse || v.Reply.Code != 530 {
		t.Errorf("%+v", v)
	}
	if v := data.Check(t.Context(), &postrider.Transaction{Submitter: alice, Hops: 100}); !v.Refuse || v.Reply.Code != 554 {
		t.Errorf("%+v", v)
	}
	if v := data.Check(t.Context(), &postrider.Transaction{Submitter: alice}); v.Refuse {
		t.Errorf("%+v", v)
	}
}

package policy

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// fixed is a check with one verdict.
type fixed postrider.Verdict

func (f fixed) Check(context.Context, *postrider.Transaction) postrider.Verdict {
	return postrider.Verdict(f)
}

func TestChain(t *testing.T) {
	ok := func(text string) fixed { return fixed{Reply: smtp.Reply{Code: 250, Text: text}} }
	no := func(code int) fixed { return fixed{Refuse: true, Reply: smtp.Reply{Code: code}} }
	tests := []struct {
		name  string
		chain Chain
		want  postrider.Verdict
	}{
		{"empty", nil, postrider.Verdict{}},
		{"no opinion", Chain{fixed{}, fixed{}}, postrider.Verdict{}},
		{"the first refusal decides", Chain{fixed{}, no(550), no(451)}, postrider.Verdict{Refuse: true, Reply: smtp.Reply{Code: 550}}},
		{"to accept skips nothing", Chain{ok("a"), no(550)}, postrider.Verdict{Refuse: true, Reply: smtp.Reply{Code: 550}}},
		{"the last words stand", Chain{ok("a"), fixed{}, ok("b")}, postrider.Verdict{Reply: smtp.Reply{Code: 250, Text: "b"}}},
		{"a refusal never accepts", Chain{no(250)}, postrider.Verdict{Refuse: true}},
		{"a refusal never goes on", Chain{no(354)}, postrider.Verdict{Refuse: true}},
		{"words of failure without refusal", Chain{fixed{Reply: smtp.Reply{Code: 550}}}, postrider.Verdict{}},
		{"a chain in a chain", Chain{Chain{no(450)}, ok("a")}, postrider.Verdict{Refuse: true, Reply: smtp.Reply{Code: 450}}},
	}
	for _, tt := range tests {
		if got := tt.chain.Check(t.Context(), &postrider.Transaction{}); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// transaction is one in the phase of RCPT.
func transaction(peer string, kind postrider.Kind, to smtp.Path) *postrider.Transaction {
	return &postrider.Transaction{Source: postrider.Source{Peer: netip.AddrPortFrom(netip.MustParseAddr(peer), 1)},
		To: to, Resolution: postrider.Resolution{Kind: kind, To: []smtp.Path{to}}}
}

func TestRcpt(t *testing.T) {
	rcpt := Standard(Options{RelayFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("fe80::/10")}}).Rcpt
	bob := smtp.Path{Local: "bob", Domain: "example.org"}
	tests := []struct {
		name, peer string
		kind       postrider.Kind
		to         smtp.Path
		want       string // how the reply begins
	}{
		{"mailbox from anywhere", "198.51.100.1", postrider.KindMailbox, bob, "250 2.1.5"},
		{"unknown from anywhere", "198.51.100.1", postrider.KindUnknown, bob, "550 5.1.1"},
		{"unknown from a trusted network", "192.0.2.9", postrider.KindUnknown, bob, "550 5.1.1"},
		{"a kind that nobody knows", "192.0.2.9", 99, bob, "550 5.1.1"},
		{"relaying for a stranger", "198.51.100.1", postrider.KindRemote, bob, "550 5.7.1"},
		{"relaying for this machine", "127.0.0.1", postrider.KindRemote, bob, "550 5.7.1"},
		{"relaying for a trusted network", "192.0.2.9", postrider.KindRemote, bob, "250 2.1.5"},
		{"mapped address", "::ffff:192.0.2.9", postrider.KindRemote, bob, "250 2.1.5"},
		{"address with a zone", "fe80::1%eth0", postrider.KindRemote, bob, "250 2.1.5"},
		{"address literal", "192.0.2.9", postrider.KindRemote, smtp.Path{Local: "bob", Domain: "[198.51.100.7]"}, "250 2.1.5"},
		{"domain that cannot exist", "192.0.2.9", postrider.KindRemote, smtp.Path{Local: "bob", Domain: "a\u202eb.example"}, "550 5.1.2"},
		{"the same for a stranger", "198.51.100.1", postrider.KindRemote, smtp.Path{Local: "bob", Domain: "a\u202eb.example"}, "550 5.7.1"},
	}
	for _, tt := range tests {
		v := rcpt.Check(t.Context(), transaction(tt.peer, tt.kind, tt.to))
		if got := v.Reply.String(); !strings.HasPrefix(got, tt.want) || v.Refuse == v.Reply.Positive() {
			t.Errorf("%s: refuse %v, %s; want %s", tt.name, v.Refuse, got, tt.want)
		}
	}
	v := rcpt.Check(t.Context(), transaction("198.51.100.1", postrider.KindRemote, bob))
	if !strings.Contains(v.Reply.Text, "relay_from") || !strings.Contains(v.Reply.Text, "198.51.100.1") {
		t.Errorf("the refusal does not say what to change: %s", v.Reply.Text)
	}
}

// The zero Relay trusts nobody, and a zero peer is nobody.
func TestRelayZero(t *testing.T) {
	tx := &postrider.Transaction{}
	if !(Relay{}).Check(t.Context(), tx).Refuse || !(Relay{From: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}).Check(t.Context(), tx).Refuse {
		t.Fatal("relayed for nobody")
	}
}

func TestMail(t *testing.T) {
	waiting := 0
	mail := Standard(Options{Waiting: func() int { return waiting }, MaxWaiting: 10}).Mail
	try := func(from smtp.Path, want string) {
		t.Helper()
		v := mail.Check(t.Context(), &postrider.Transaction{From: from})
		if got := v.Reply.String(); !strings.HasPrefix(got, want) || v.Refuse == v.Reply.Positive() {
			t.Errorf("%q with %d waiting: refuse %v, %s; want %s", from, waiting, v.Refuse, got, want)
		}
	}
	try(smtp.Path{}, "250 2.1.0")
	try(smtp.Path{Local: "a", Domain: "example.org"}, "250 2.1.0")
	try(smtp.Path{Local: "a", Domain: "[192.0.2.1]"}, "250 2.1.0")
	try(smtp.Path{Local: "a", Domain: "a\u202eb.example"}, "550 5.1.8")
	waiting = 9
	try(smtp.Path{}, "250 2.1.0")
	waiting = 10
	try(smtp.Path{}, "452 4.3.1")
	if (Full{}).Check(t.Context(), nil).Refuse || (Full{Waiting: func() int { return 1 << 30 }}).Check(t.Context(), nil).Refuse {
		t.Error("refused without a limit")
	}
}

// The bound of what waits in the spool holds for mail by whichever listener it comes, also
// for that of users and of the server before us: both can hold it back and come again.
func TestFullOfEachRole(t *testing.T) {
	for _, role := range []Role{"", RoleMX, RoleSubmission, RoleLMTP} {
		for waiting, refuse := range map[int]bool{9: false, 10: true, 11: true} {
			mail := Standard(Options{Role: role, Waiting: func() int { return waiting }, MaxWaiting: 10}).Mail
			v := mail.Check(t.Context(), &postrider.Transaction{Submitter: alice, From: parse(t, "alice@our.example")})
			if v.Refuse != refuse || refuse && v.Reply.Code != 452 {
				t.Errorf("role %q, %d waiting: %+v", role, waiting, v)
			}
		}
	}
}

// RFC 5321 6.3: "SHOULD use a large rejection threshold, normally at least 100
// Received entries."
func TestLoop(t *testing.T) {
	data := Standard(Options{}).Data
	for hops, refuse := range map[int]bool{0: false, 99: false, 100: true, 10_000: true} {
		v := data.Check(t.Context(), &postrider.Transaction{Hops: hops})
		if v.Refuse != refuse || refuse && !strings.HasPrefix(v.Reply.String(), "554 5.4.6") {
			t.Errorf("%d hops: %+v", hops, v)
		}
	}
	if !(Loop{Max: 3}).Check(t.Context(), &postrider.Transaction{Hops: 3}).Refuse {
		t.Error("Max is not held to")
	}
}

// RFC 5321 6.3: "Whatever mechanisms are used, servers MUST contain provisions for
// detecting and stopping trivial loops." Mail may go round through whichever listener we
// have, and comes to an end through each.
func TestLoopOfEachRole(t *testing.T) {
	for _, role := range []Role{"", RoleMX, RoleSubmission, RoleLMTP} {
		data := Standard(Options{Role: role}).Data
		for hops, refuse := range map[int]bool{0: false, 99: false, 100: true, 101: true} {
			v := data.Check(t.Context(), &postrider.Transaction{Submitter: alice, Hops: hops})
			if v.Refuse != refuse || refuse && !strings.HasPrefix(v.Reply.String(), "554 5.4.6") {
				t.Errorf("role %q, %d hops: %+v", role, hops, v)
			}
		}
	}
}

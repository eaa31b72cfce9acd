package policy

import (
	"net/netip"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/smtp"
)

// Addresses that made open relays of other servers.
var relayTricks = []string{
	"u@far.example", `"u"@far.example`, "u%far.example@our.example", "u%far.example@[198.51.100.5]",
	`"u%far.example"@our.example`, `"u@far.example"@our.example`, `"u@far.example"`, "u%far.example",
	"far.example!u@our.example", `"far.example!u"@our.example`, "far.example!u", "far.example!u@[198.51.100.5]",
	"@our.example:u@far.example", "@our.example,@[198.51.100.5]:u@far.example", "@[198.51.100.5]:u@far.example",
	"u@far.example@our.example", "u@our.example@far.example", "u@[203.0.113.1]", "u@[IPv6:2001:db8::1]",
	"alice@sub.our.example", "alice@our.example.far.example", "u@partner.example", "u@localhost", "u@our", "our.example",
	"alice%our.example@far.example", "alice@our.example%far.example", "alice@our.example\x00.far.example", "u@", "@far.example", "u@.our.example",
}

// A stranger gets none of the tricks through, by a real Router, as long as
// "alice" is all we have: at a listener of no role, whatever sender it names and
// over TLS or not.
func TestNoOpenRelay(t *testing.T) {
	for _, role := range []Role{"", RoleMX, RoleSubmission, RoleLMTP} {
		for _, from := range []string{"", "alice@our.example", "u@far.example"} {
			for _, tls := range []string{"", "TLS 1.3 TLS_AES_128_GCM_SHA256"} {
				noOpenRelay(t, role, from, tls)
			}
		}
	}
}

func noOpenRelay(t *testing.T, role Role, from, tls string) {
	t.Helper()
	router, err := route.New(route.Table{
		Hostname: "mx.our.example",
		Addrs:    []netip.Addr{netip.MustParseAddr("198.51.100.5")},
		Domains: []route.Domain{{Name: "our.example", Mailboxes: []string{"alice"},
			Deliver: postrider.Route{Via: postrider.ViaMaildir, Dir: "/m/{user}"}}},
		Rules: []route.Rule{{Pattern: "partner.example", To: postrider.Route{Via: postrider.ViaMX}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	rcpt := Standard(Options{Role: role, RelayFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}).Rcpt
	try := func(s string) (taken bool, to smtp.Path) {
		p, err := smtp.ParsePath(s)
		if err != nil {
			return false, p // 501: the grammar refuses it
		}
		tx := transaction("203.0.113.9", 0, p)
		tx.Source.TLS, tx.From = tls, parse(t, from)
		if tx.Resolution, err = router.Resolve(t.Context(), p, tx.Source); err != nil {
			t.Fatal(err)
		}
		v := rcpt.Check(t.Context(), tx)
		if !v.Refuse && !v.Reply.Positive() {
			t.Fatalf("%s: no reply at all", s)
		}
		return !v.Refuse, tx.Resolution.To[0]
	}
	for _, s := range relayTricks {
		if taken, to := try(s); taken {
			t.Errorf("%s: %q was taken, for %s", role, s, to)
		}
	}
	for _, s := range []string{"alice@our.example", "ALICE@OUR.example", "alice@[198.51.100.5]", "postmaster", "Postmaster@our.example",
		"@far.example:alice@our.example"} {
		taken, to := try(s)
		if role == RoleSubmission {
			if taken {
				t.Errorf("%q was taken without AUTH", s)
			}
		} else if !taken {
			t.Errorf("%q was refused", s)
		} else if way := router.Route(to); way.Via != postrider.ViaMaildir {
			t.Errorf("%q leaves us: %+v", s, way)
		}
	}
}

// An account relays from its own addresses and from no other, whatever the
// listener; and what it may send to is an address that can be delivered to.
func TestAccountsRelayAsThemselves(t *testing.T) {
	for _, role := range []Role{"", RoleMX, RoleSubmission} {
		chains := Standard(Options{Role: role})
		for _, from := range append(relayTricks, "bob@our.example", `"alice@our.example"@far.example`, "alice@our.example.", "alice") {
			p, err := smtp.ParsePath(from)
			if err != nil {
				continue
			}
			if !chains.Mail.Check(t.Context(), &postrider.Transaction{Submitter: alice, From: p}).Refuse {
				t.Errorf("%s: alice sends as %q", role, from)
			}
		}
		tx := transaction("203.0.113.9", postrider.KindRemote, parse(t, "u@far.example"))
		if !chains.Rcpt.Check(t.Context(), tx).Refuse {
			t.Errorf("%s: a stranger relays", role)
		}
		tx.Source.Account = "alice@our.example" // a name alone is nobody
		if !chains.Rcpt.Check(t.Context(), tx).Refuse {
			t.Errorf("%s: a name relays", role)
		}
		tx.Submitter = alice
		if v := chains.Rcpt.Check(t.Context(), tx); v.Refuse {
			t.Errorf("%s: alice does not relay: %s", role, v.Reply)
		}
	}
}

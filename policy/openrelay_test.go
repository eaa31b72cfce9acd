package policy

import (
	"net/netip"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/smtp"
)

// Addresses that made open relays of other servers: a stranger gets none of them
// through, by a real Router, as long as "alice" is all we have.
func TestNoOpenRelay(t *testing.T) {
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
	rcpt := Standard(Options{RelayFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}).Rcpt
	try := func(s string) (taken bool, to smtp.Path) {
		p, err := smtp.ParsePath(s)
		if err != nil {
			return false, p // 501: the grammar refuses it
		}
		tx := transaction("203.0.113.9", 0, p)
		if tx.Resolution, err = router.Resolve(t.Context(), p, tx.Source); err != nil {
			t.Fatal(err)
		}
		v := rcpt.Check(t.Context(), tx)
		if !v.Refuse && !v.Reply.Positive() {
			t.Fatalf("%s: no reply at all", s)
		}
		return !v.Refuse, tx.Resolution.To[0]
	}
	for _, s := range []string{
		"u@far.example", `"u"@far.example`, "u%far.example@our.example", "u%far.example@[198.51.100.5]",
		`"u%far.example"@our.example`, `"u@far.example"@our.example`, `"u@far.example"`, "u%far.example",
		"far.example!u@our.example", `"far.example!u"@our.example`, "far.example!u", "far.example!u@[198.51.100.5]",
		"@our.example:u@far.example", "@our.example,@[198.51.100.5]:u@far.example", "@[198.51.100.5]:u@far.example",
		"u@far.example@our.example", "u@our.example@far.example", "u@[203.0.113.1]", "u@[IPv6:2001:db8::1]",
		"alice@sub.our.example", "alice@our.example.far.example", "u@partner.example", "u@localhost", "u@our", "our.example",
		"alice%our.example@far.example", "alice@our.example%far.example", "alice@our.example\x00.far.example", "u@", "@far.example", "u@.our.example",
	} {
		if taken, to := try(s); taken {
			t.Errorf("%q was taken, for %s", s, to)
		}
	}
	for _, s := range []string{"alice@our.example", "ALICE@OUR.example", "alice@[198.51.100.5]", "postmaster", "Postmaster@our.example",
		"@far.example:alice@our.example"} {
		if taken, to := try(s); !taken {
			t.Errorf("%q was refused", s)
		} else if way := router.Route(to); way.Via != postrider.ViaMaildir {
			t.Errorf("%q leaves us: %+v", s, way)
		}
	}
}

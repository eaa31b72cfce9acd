package route

import (
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A destination has the limits of the route that its mail takes, by name and by
// recipient alike; rules that lead to one host share the least of each.
func TestLimits(t *testing.T) {
	rate := func(n int, per time.Duration) postrider.Rate { return postrider.Rate{Messages: n, Per: per} }
	mx := postrider.Route{Via: postrider.ViaMX, Port: 25}
	slow := mx
	slow.Limits = postrider.Limits{Connections: 5, Messages: 50, Rate: rate(100, time.Minute)}
	gw := postrider.Route{Via: postrider.ViaSMTP, Host: "gw.example", Port: 25}
	few, rare := gw, gw
	few.Limits = postrider.Limits{Connections: 7, Rate: rate(10, time.Minute)}
	rare.Limits = postrider.Limits{Connections: 9, Messages: 3, Rate: rate(100, time.Hour)}
	r := router(t, Table{
		Domains: []Domain{{Name: "ours.example", Mailboxes: []string{"*"}, Deliver: gw}, {Name: "backup.big.example", Mailboxes: []string{"*"}, Deliver: mx}},
		Rules: []Rule{{"big.example", slow}, {".big.example", slow}, {"few.example", few}, {"rare.example", rare},
			{"gw.example", gw}, {"held.example", postrider.Route{Via: postrider.ViaHold}}, {"*", mx}},
	})
	both := postrider.Limits{Connections: 7, Messages: 3, Rate: rare.Limits.Rate}
	for to, want := range map[string]postrider.Limits{
		"x@big.example": slow.Limits, "x@BIG.example": slow.Limits, "x@a.big.example": slow.Limits, "x@backup.big.example": {},
		"x@few.example": both, "x@rare.example": both, "x@gw.example": both, "x@ours.example": both,
		"x@other.example": {}, "x@held.example": {}, "x@[192.0.2.1]": {},
	} {
		p, err := smtp.ParsePath(to)
		if err != nil {
			t.Fatal(err)
		}
		got := r.Route(p)
		if got.Limits != want {
			t.Errorf("%s: %+v, want %+v", to, got.Limits, want)
		}
		if l := r.Limits(got.Dest); l != want {
			t.Errorf("%s: %+v, want %+v", got.Dest, l, want)
		}
	}
	for _, d := range []postrider.Dest{"mx:held.example", "mx:few.example"} {
		if l := r.Limits(d); l != (postrider.Limits{}) {
			t.Errorf("%s, past its route: %+v", d, l)
		}
	}
}

package relay

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider"
)

// RFC 5321 5.1: what a domain is called is what the DNS is asked for, and what an MX
// record holds is a name.
func TestNamesAreAskedAsTheyStand(t *testing.T) {
	play(t, []story{
		{
			name: "one label",
			to:   []string{"b@mail"},
			world: func(w *world) {
				w.zone.MX("mail.us.example", 10, "mx1.example").MX("mail.example", 10, "mx1.example").A("mx1.example", "192.0.2.1")
				w.peers[mx1] = &peer{}
			},
			want: []string{"failed/message 550 5.1.2 domain mail does not exist"},
		}, {
			name: "an alias has the hosts of what it stands for",
			world: func(w *world) {
				w.zone.CNAME("example.org", "example.net").MX("example.net", 10, "mx1.example").A("example.net", "192.0.2.2").A("mx1.example", "192.0.2.1")
				w.peers[mx1], w.peers[mx2] = &peer{}, &peer{}
			},
			want: []string{delivered + " (mx1.example)"}, dials: []string{mx1},
		}, {
			name: "an alias of a host without MX",
			world: func(w *world) {
				w.zone.CNAME("example.org", "mx1.example").A("mx1.example", "192.0.2.1")
				w.peers[mx1] = &peer{}
			},
			want: []string{delivered + " (example.org)"}, dials: []string{mx1},
		}, {
			name: "an MX that holds an address",
			world: func(w *world) {
				w.zone.MX("example.org", 10, "192.0.2.1")
				w.peers[mx1] = &peer{}
			},
			want: []string{"failed/message 550 5.4.4 mail host 192.0.2.1 has no address"},
		},
	})
}

// RFC 5321 5.1: where we are an exchanger no other of our preference has the mail, also
// where there are more of them than are tried and we come last.
func TestOursAmongMoreHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range hostsMax {
			name, addr := fmt.Sprintf("mx%d.example", i), fmt.Sprintf("192.0.2.%d", i)
			w.zone.MX("example.org", 10, name).A(name, addr)
			w.peers[addr+":25"] = &peer{}
		}
		w.zone.MX("example.org", 10, "us.example")
		r := w.relay(Options{})
		defer w.done(t, r)
		got := describe(r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org"))[0])
		if want := "failed/message 554 5.4.6 mail for example.org loops back to myself"; got != want || len(w.dials) > 0 {
			t.Errorf("%s after %q", got, w.dials)
		}
	})
}

package relay

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
)

// odd are replies that are none, or make no sense anywhere.
var odd = map[string]string{
	"200 KB line":   "250 " + strings.Repeat("x", 200<<10),
	"60,000 lines":  strings.Repeat("250-x\n", 60_000) + "250 x",
	"NUL":           "\x00\x00\x00",
	"NUL in a code": "2\x0050 ok",
	"000":           "000 x",
	"999":           "999 x",
	"150":           "150 x",
	"650":           "650 x",
	"25":            "25",
	"2500":          "2500 ok",
	"letters":       "OK",
	"HTTP":          "HTTP/1.1 400 Bad Request",
	"two codes":     "250-x\n550 x",
	"escapes":       "25\x1b[2J",
}

// A peer that answers nonsense in any state is left with nothing but the
// connection lost: the mail waits, or goes to the next host, and is neither
// delivered nor failed; and no octet of it that is not printable reaches a report.
func TestOddReplies(t *testing.T) {
	for _, state := range []string{"", "EHLO", "MAIL", "RCPT", "DATA", ".", "QUIT"} {
		for name, reply := range odd {
			t.Run(state+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld()
					two(w)
					w.peers[mx1] = &peer{replies: map[string]string{state: reply, "HELO": reply}}
					r := w.relay(Options{IdleMax: -1})
					defer w.done(t, r)
					begin := time.Now()
					out := r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org", "c@example.org"))
					want := postrider.ResultDeferred
					if state == "QUIT" {
						want = postrider.ResultDelivered
					}
					for _, o := range out {
						if o.Result != want || (o.Uncertain != "") != (state == ".") {
							t.Errorf("%s", describe(o))
						}
						if strings.ContainsFunc(o.Reply.Text, func(r rune) bool { return r < ' ' && r != '\n' || r > '~' }) || len(o.Reply.Text) > 2000 {
							t.Errorf("the reply is %q", o.Reply.Text)
						}
					}
					if time.Since(begin) > time.Hour {
						t.Errorf("it took %v", time.Since(begin))
					}
					// The next host has what this one has not taken.
					w.peers[mx2] = &peer{}
					if state == "QUIT" || state == "." {
						return
					}
					for _, o := range r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org")) {
						if o.Result != postrider.ResultDelivered || o.Remote != "mx2.example" {
							t.Errorf("at the next host: %s", describe(o))
						}
					}
				})
			})
		}
	}
}

// Names that lead in a circle or to thousands of hosts cost a bounded number of
// questions and connections, and what they cannot tell waits.
func TestOddNames(t *testing.T) {
	loop := "deferred/dest 451 4.4.3 "
	play(t, []story{
		{
			name: "an MX that is an alias",
			world: func(w *world) {
				w.zone.MX("example.org", 10, "alias.example").CNAME("alias.example", "mx1.example").A("mx1.example", "192.0.2.1")
				w.peers[mx1] = &peer{}
			},
			want: []string{delivered + " (alias.example)"}, dials: []string{mx1},
		}, {
			name: "a domain that is an alias of itself",
			world: func(w *world) {
				w.zone.CNAME("example.org", "example.net").CNAME("example.net", "example.org")
			},
			want: []string{loop + "MX of example.org: dns: MX example.org from the zone: CNAME loop"},
		}, {
			name: "an MX that is an alias of itself",
			world: func(w *world) {
				w.zone.MX("example.org", 10, "mx.example").CNAME("mx.example", "mx.example")
			},
			want: []string{loop + "address of mx.example: dns: AAAA mx.example from the zone: CNAME loop"},
		}, {
			name: "an alias that leads into our own network",
			world: func(w *world) {
				w.zone.MX("example.org", 10, "mx.example").CNAME("mx.example", "home.example").A("home.example", "127.0.0.1")
				w.peers["127.0.0.1:25"] = &peer{}
			},
			want: []string{"failed/message 550 5.4.6 mail host mx.example has an address that leads back to the sender's own machine"},
		}, {
			name: "the name localhost as an MX",
			world: func(w *world) {
				w.zone.MX("example.org", 10, "localhost").A("localhost", "127.0.0.1")
				w.peers["127.0.0.1:25"] = &peer{}
			},
			want: []string{"failed/message 550 5.4.6 mail host localhost has an address that leads back to the sender's own machine"},
		},
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 5000 {
			w.zone.MX("example.org", uint16(i%3), fmt.Sprintf("mx%d.example", i))
		}
		w.zone.A("mx4999.example", "192.0.2.1")
		r := w.relay(Options{Rand: seeded()})
		defer w.done(t, r)
		for _, o := range r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org")) {
			if o.Result != postrider.ResultDeferred || len(w.dials) > triesMax {
				t.Errorf("%s after %d dials", describe(o), len(w.dials))
			}
		}
	})
}

// Mail does not fail for what some hosts of a domain say while there are others
// that nobody has asked; where all were asked, it does.
func TestMoreHostsThanAreTried(t *testing.T) {
	no := &peer{replies: map[string]string{"": "521 5.3.2 no mail"}}
	for _, c := range []struct {
		hosts, perHost int
		own            bool
		want           string
	}{
		{hostsMax, 1, false, "failed/message 521 5.3.2 no mail"},
		{hostsMax + 1, 1, false, "deferred/dest 451 4.4.4 example.org has more mail hosts than are tried at a time, and the first take no mail"},
		{hostsMax, 0, false, "failed/message 550 5.4.4 mail host mx"},
		{hostsMax + 1, 0, false, "deferred/dest 451 4.4.4 example.org has more"},
		{hostsMax + 1, 1, true, "failed/message 554 5.4.6 mail for example.org loops back"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			for i := range c.hosts {
				name := fmt.Sprintf("mx%d.example", i)
				w.zone.MX("example.org", uint16(i), name)
				w.zone.TXT(name, "x")
				for j := range c.perHost {
					addr := fmt.Sprintf("193.0.%d.%d", i, j)
					w.zone.A(name, addr)
					w.peers[addr+":25"] = no
					w.own[addr+":25"] = c.own
				}
			}
			r := w.relay(Options{})
			defer w.done(t, r)
			for _, o := range r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org")) {
				if got := describe(o); !strings.HasPrefix(got, c.want) {
					t.Errorf("%d hosts with %d addresses: %s, want %s", c.hosts, c.perHost, got, c.want)
				}
			}
		})
	}
}

// A peer that uses up nearly all of each wait does not hold its slot for days, and
// its destination is told apart from one that is only slow.
func TestSlowPeer(t *testing.T) {
	var to []string
	for i := range 100 {
		to = append(to, fmt.Sprintf("r%d@example.org", i))
	}
	for _, c := range []struct {
		name  string
		wait  time.Duration // before each reply
		want  string
		least time.Duration
		most  time.Duration
	}{
		{"a tarpit", 25 * time.Second, delivered + " (mx1.example)", 40 * time.Minute, time.Hour},
		{"a slot for the day", 290 * time.Second, "deferred/dest 451 4.4.2 the delivery took longer than 2h50m0s", 170 * time.Minute, 171 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.zone.MX("example.org", 10, "mx1.example").A("mx1.example", "192.0.2.1")
				w.peers[mx1] = &peer{wait: c.wait}
				r := w.relay(Options{IdleMax: -1})
				defer w.done(t, r)
				begin := time.Now()
				out := r.Deliver(t.Context(), delivery(t, postrider.ViaMX, to...))
				if took := time.Since(begin); took < c.least || took > c.most {
					t.Errorf("it took %v", took)
				}
				for _, o := range out {
					if got := describe(o); got != c.want {
						t.Fatalf("got %s, want %s", got, c.want)
					}
				}
			})
		})
	}
}

package relay

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtpc"
)

// quits are the ways in which a peer answers QUIT.
var quits = map[string]func(p *peer){
	"at once": func(*peer) {},
	"slow":    func(p *peer) { p.wait = time.Second },
	"never": func(p *peer) {
		if p.replies == nil {
			p.replies = map[string]string{}
		}
		p.replies["QUIT"] = "<silence>"
	},
}

// A site that is to have one connection never has two: one that has had its messages
// ends before the next is dialled, and one that says QUIT counts until it has.
func TestOneConnection(t *testing.T) {
	for answer, set := range quits {
		for _, c := range []struct {
			name  string
			o     Options
			rcpts int // in a transaction; 0: as many as there are
			pause time.Duration
			all   bool // at a time
			dials int  // for 6 messages, or recipients
		}{
			{name: "one after the other", dials: 3},
			{name: "all at a time", all: true, dials: 3},
			{name: "none is kept", o: Options{IdleMax: -1}, dials: 6},
			{name: "none is kept, all at a time", o: Options{IdleMax: -1}, all: true, dials: 6},
			{name: "each when the one before has lain for too long", pause: 10*time.Second + 500*time.Millisecond, dials: 6},
			{name: "in one attempt", rcpts: 1, dials: 3},
		} {
			t.Run(c.name+", QUIT "+answer, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, p := single()
					set(p)
					p.exts = []string{fmt.Sprintf("LIMITS RCPTMAX=%d", c.rcpts)}
					c.o.Timeouts.Quit = 7 * time.Second
					r := w.relay(c.o)
					send := func(to ...string) {
						d := delivery(t, postrider.ViaMX, to...)
						d.Route.Limits = postrider.Limits{Connections: 1, Messages: 2}
						for _, o := range r.Deliver(t.Context(), d) {
							wantDelivered(t, []string{describe(o)})
						}
					}
					var wg sync.WaitGroup
					began := time.Now()
					for i := range 6 {
						switch {
						case c.rcpts > 0 && i > 0:
						case c.rcpts > 0:
							send("a@example.org", "b@example.org", "c@example.org", "d@example.org", "e@example.org", "f@example.org")
						case c.all:
							wg.Go(func() { send("b@example.org") })
						default:
							send("b@example.org")
							time.Sleep(c.pause)
						}
					}
					wg.Wait()
					if took := time.Since(began); took > 3*time.Minute {
						t.Errorf("it took %v", took)
					}
					w.done(t, r)
					if len(p.contents) != 6 || w.most[mx1] != 1 || p.dials != c.dials || len(p.said("QUIT")) != c.dials || len(r.pool.gates) != 0 {
						t.Errorf("%d messages over %d connections, %d at a time, %d QUIT, %d gates are left",
							len(p.contents), p.dials, w.most[mx1], len(p.said("QUIT")), len(r.pool.gates))
					}
				})
			})
		}
	}
}

// kinds are routes to one host that cannot share a connection.
var kinds = []func(r *postrider.Route){
	func(r *postrider.Route) { r.TLS = postrider.TLSNone },
	func(r *postrider.Route) { r.TLS = postrider.TLSOpportunistic },
	func(r *postrider.Route) { r.TLS, r.Username, r.Password = postrider.TLSVerify, "us", "secret" },
}

// kind is a delivery by one of them, where the host may have so many connections.
func kind(t *testing.T, k, most int) *postrider.Delivery {
	d := delivery(t, postrider.ViaSMTP, "b@example.org")
	d.Route.Host = "smart.example"
	kinds[k](&d.Route)
	d.Route.Limits.Connections = most
	return d
}

// What lies in the pool has a place, too: one of another kind goes before the next is
// dialled where it has the last, whoever waits comes in the end, and connections to
// other hosts stay.
func TestOtherKindGoesFirst(t *testing.T) {
	for answer, set := range quits {
		for _, most := range []int{1, 2} {
			for _, all := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d connections, all at a time %v, QUIT %s", most, all, answer), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w, p := single()
						p.tls, p.exts, p.secured = trusted("smart.example"), []string{"STARTTLS"}, []string{"AUTH PLAIN"}
						p.replies = map[string]string{"STARTTLS": "220 go<tls>"}
						set(p)
						other := &peer{}
						w.peers[mx2] = other
						w.zone.A("other.example", "192.0.2.2").A("smart.example", "192.0.2.1")
						r := w.relay(Options{Roots: roots(), Timeouts: smtpc.Timeouts{Quit: 7 * time.Second}, IdleTimeout: time.Hour})
						r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@other.example"))
						var wg sync.WaitGroup
						began := time.Now()
						for i := range 12 {
							send := func() {
								if o := r.Deliver(t.Context(), kind(t, i%len(kinds), most))[0]; o.Result != postrider.ResultDelivered {
									t.Errorf("message %d: %s", i, describe(o))
								}
							}
							if all {
								wg.Go(send)
							} else {
								send()
							}
						}
						wg.Wait()
						if took := time.Since(began); took > 20*time.Minute {
							t.Errorf("it took %v", took)
						}
						synctest.Wait()
						if w.most[mx1] > most || len(p.contents) != 12 || len(other.said("QUIT")) != 0 {
							t.Errorf("%d at a time, %d messages; the other host was told %q", w.most[mx1], len(p.contents), other.said("QUIT"))
						}
						w.done(t, r)
						if len(r.pool.gates) != 0 {
							t.Errorf("%d gates are left", len(r.pool.gates))
						}
					})
				})
			}
		}
	}
}

// With room for both, two kinds keep their connections.
func TestKindsBesideEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		w.zone.A("smart.example", "192.0.2.1")
		r := w.relay(Options{})
		for i := range 10 {
			if o := r.Deliver(t.Context(), kind(t, i%2, 2))[0]; o.Result != postrider.ResultDelivered {
				t.Error(describe(o))
			}
		}
		w.done(t, r)
		if p.dials != 2 || w.most[mx1] != 2 || len(p.said("QUIT")) != 2 {
			t.Errorf("%d connections, %d at a time, %d QUIT", p.dials, w.most[mx1], len(p.said("QUIT")))
		}
	})
}

// As many go as stand in the way, at one time, and no more.
func TestAsManyGoAsMust(t *testing.T) {
	for _, c := range []struct {
		name        string
		idle        int // of one kind
		busy        int // of the same, until 3 s from now
		most        int // when one of another kind comes
		quits, open int // then, when the busy ones are idle
	}{
		{"there is room", 2, 0, 3, 0, 3},
		{"the last place", 2, 1, 3, 1, 3},
		{"a place is free in the end", 1, 1, 2, 1, 2},
		{"the operator says one, where there were five", 5, 0, 1, 5, 1},
		{"and some of the five are busy", 3, 2, 3, 3, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, p := single()
				w.zone.A("smart.example", "192.0.2.1")
				p.wait = time.Second // four replies bring a connection, three another message
				r := w.relay(Options{Timeouts: smtpc.Timeouts{Quit: 7 * time.Second}, IdleTimeout: time.Hour})
				var wg sync.WaitGroup
				send := func(k, most int) {
					wg.Go(func() {
						if o := r.Deliver(t.Context(), kind(t, k, most))[0]; o.Result != postrider.ResultDelivered {
							t.Error(describe(o))
						}
					})
				}
				for range c.idle + c.busy {
					send(0, 10)
				}
				wg.Wait()
				p.mu.Lock()
				p.replies = map[string]string{"QUIT": "<silence>"}
				p.mu.Unlock()
				for range c.busy {
					send(0, 10)
				}
				synctest.Wait()
				began := time.Now()
				send(1, c.most)
				wg.Wait()
				if took := time.Since(began); took > 15*time.Second {
					t.Errorf("it took %v", took)
				}
				synctest.Wait()
				if quits := len(p.said("QUIT")); quits != c.quits || w.holds(mx1) != c.open || len(p.contents) != c.idle+2*c.busy+1 {
					t.Errorf("%d have gone, want %d; %d are open, want %d; %d messages", quits, c.quits, w.holds(mx1), c.open, len(p.contents))
				}
				w.done(t, r)
				if len(r.pool.gates) != 0 {
					t.Errorf("%d gates are left", len(r.pool.gates))
				}
			})
		})
	}
}

// Who gives up while he waits for a QUIT leaves no hole, and who comes then has the
// place.
func TestGivesUpWhileOneQuits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		w.zone.A("smart.example", "192.0.2.1")
		p.replies = map[string]string{"QUIT": "<silence>"}
		r := w.relay(Options{Timeouts: smtpc.Timeouts{Quit: 7 * time.Second}})
		r.Deliver(t.Context(), kind(t, 0, 1))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if o := r.Deliver(ctx, kind(t, 1, 1))[0]; !o.Untried {
			t.Errorf("who gave up: %s", describe(o))
		}
		if g := r.pool.gates[siteA]; g == nil || g.used != 1 || len(g.waiters) != 0 || w.holds(mx1) != 1 {
			t.Errorf("while it quits: %+v, %d are open", g, w.holds(mx1))
		}
		began := time.Now()
		if o := r.Deliver(t.Context(), kind(t, 1, 1))[0]; o.Result != postrider.ResultDelivered || time.Since(began) != 5*time.Second {
			t.Errorf("who came then: %s after %v", describe(o), time.Since(began))
		}
		w.done(t, r)
		if w.most[mx1] != 1 || len(r.pool.gates) != 0 {
			t.Errorf("%d at a time, %d gates are left", w.most[mx1], len(r.pool.gates))
		}
	})
}

// A stop does not wait for the answer to a QUIT between two connections.
func TestStopWhileOneQuits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.replies, p.exts = map[string]string{"QUIT": "<silence>"}, []string{"LIMITS RCPTMAX=1 MAILMAX=1"}
		r := w.relay(Options{Timeouts: smtpc.Timeouts{Quit: time.Hour}})
		setup, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		d := delivery(t, postrider.ViaMX, "b@example.org", "c@example.org")
		d.Setup = setup
		began := time.Now()
		out := r.Deliver(t.Context(), d)
		if took := time.Since(began); took != 3*time.Second || out[0].Result != postrider.ResultDelivered || !out[1].Untried {
			t.Errorf("%s and %s after %v", describe(out[0]), describe(out[1]), took)
		}
		w.done(t, r)
	})
}

// A host whose only connection says QUIT is not shown as one with no limit.
func TestSlowedWhileOneQuits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		w.zone.A("smart.example", "192.0.2.1")
		p.replies = map[string]string{"QUIT": "<silence>"}
		r := w.relay(Options{Timeouts: smtpc.Timeouts{Quit: 7 * time.Second}})
		time.Sleep(time.Hour)
		d := kind(t, 0, 0)
		d.Route.Limits.Rate = postrider.Rate{Messages: 1, Per: time.Hour}
		r.Deliver(t.Context(), d)
		time.Sleep(11 * time.Second) // it lay for too long
		if s := r.Slowed(); len(s) != 1 || s[0].Limit != 20 || s[0].Most != 20 || w.holds(mx1) != 1 {
			t.Errorf("%+v, %d are open", s, w.holds(mx1))
		}
		w.done(t, r)
	})
}

// A mad is a content that panics.
type mad struct {
	content
	early bool // where it is asked for, and not where it is read
}

func (m *mad) Reader() io.Reader {
	if m.early {
		panic("a bug")
	}
	return io.MultiReader(strings.NewReader(m.text), m)
}

func (m *mad) Read([]byte) (int, error) { panic("a bug") }

// A panic in the middle of a transaction ends the connection: nobody has it later, and
// the place at the host is free.
func TestPanicEndsConnection(t *testing.T) {
	for _, early := range []bool{false, true} {
		for _, kept := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w, p := single()
				r := w.relay(Options{ConnMax: 1})
				before := 0
				if kept {
					wantDelivered(t, deliver(t, r, "b@example.org"))
					before = 1
				}
				func() {
					defer func() {
						if recover() == nil {
							t.Error("no panic came through")
						}
					}()
					d := delivery(t, postrider.ViaMX, "b@example.org")
					d.Content = &mad{content{m: d.Message, text: strings.Repeat("x\r\n", 100<<10)}, early}
					r.Deliver(t.Context(), d)
				}()
				synctest.Wait()
				if g := r.pool.gates[siteA]; w.holds(mx1) != 0 || len(r.pool.idle) != 0 || g != nil && g.used != 0 {
					t.Errorf("%d are open, %d lie in the pool, the gate is %+v", w.holds(mx1), len(r.pool.idle), g)
				}
				wantDelivered(t, deliver(t, r, "b@example.org"))
				w.done(t, r)
				if p.dials != 2 || len(p.contents) != before+1 {
					t.Errorf("%d connections, and the host has %d messages", p.dials, len(p.contents))
				}
			})
		}
	}
}

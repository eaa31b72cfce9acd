package relay

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
)

func limited(t *testing.T, to string, l postrider.Limits) *postrider.Delivery {
	d := delivery(t, postrider.ViaMX, to)
	d.Route.Limits = l
	return d
}

// shared is a host that takes mail for two domains.
func shared() (*world, *peer) {
	w, p := single()
	w.zone.MX("a.example", 10, "example.org").MX("b.example", 10, "example.org")
	return w, p
}

// Two domains at one host have its rate together, to the message for hours, and half
// of it each. Who may not go is not attempted, and is told when to come again.
func TestHostHoldsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := shared()
		r := w.relay(Options{})
		limits := postrider.Limits{Rate: postrider.Rate{Messages: 60, Per: time.Hour}}
		start, span := time.Now(), 6*time.Hour
		var wg sync.WaitGroup
		var went [2]int
		for i, to := range []string{"u@a.example", "u@b.example"} {
			wg.Go(func() {
				for tried := 0; ; tried++ {
					o := r.Deliver(t.Context(), limited(t, to, limits))[0]
					if time.Since(start) > span {
						return
					}
					if o.Result == postrider.ResultDelivered {
						went[i]++
						continue
					}
					if !o.Untried || o.Rest <= 0 || o.Rest > 2*time.Minute || o.Scope != postrider.ScopeMessage || tried > 2000 {
						t.Errorf("%+v", o)
						return
					}
					time.Sleep(o.Rest)
				}
			})
		}
		wg.Wait()
		if n := went[0] + went[1]; n != 6*60 || went[0] < 179 || went[1] < 179 {
			t.Errorf("%v in %v, want 360", went, span)
		}
		if n := len(p.said("MAIL")); n < 360 || n > 362 { // each has one more under way when the time is over
			t.Errorf("the host heard of %d", n)
		}
		w.done(t, r)
	})
}

// Another rate holds at once, what has none is not counted, and an operator may send
// the line away.
func TestRateChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := single()
		r := w.relay(Options{})
		hourly := postrider.Limits{Rate: postrider.Rate{Messages: 1, Per: time.Hour}}
		go5 := postrider.Limits{Rate: postrider.Rate{Messages: 5, Per: time.Second}}
		try := func(l postrider.Limits) postrider.Outcome {
			return r.Deliver(t.Context(), limited(t, "b@example.org", l))[0]
		}
		if o := try(hourly); !o.Untried || o.Rest != time.Hour {
			t.Errorf("after the start: %+v", o)
		}
		s := r.Slowed()
		if len(s) != 1 || s[0].Addr != "192.0.2.1:25" || s[0].Rate != hourly.Rate || !s[0].Next.Equal(time.Now().Add(time.Hour)) || s[0].Most != 20 || s[0].Limit != 20 {
			t.Errorf("%+v", s)
		}
		if o := try(hourly); o.Rest != 2*time.Hour && o.Rest != time.Hour {
			t.Errorf("the second in line: %+v", o)
		}
		if o := try(postrider.Limits{}); o.Result != postrider.ResultDelivered {
			t.Errorf("without a rate: %+v", o)
		}
		time.Sleep(time.Second)
		if o := try(go5); o.Result != postrider.ResultDelivered {
			t.Errorf("with another rate: %+v", o)
		}
		time.Sleep(time.Hour)
		if o := try(hourly); o.Result != postrider.ResultDelivered {
			t.Errorf("an hour later: %+v", o)
		}
		if o := try(hourly); !o.Untried || o.Rest.Round(time.Minute) != time.Hour {
			t.Errorf("then: %+v", o)
		}
		by := postrider.Limits{Rate: postrider.Rate{Messages: 1, Per: time.Minute}}
		for i := range 4 {
			if o := try(by); o.Untried != (i > 0) || o.Rest.Round(time.Second) != time.Duration(i)*time.Minute {
				t.Errorf("in line %d: %+v", i, o)
			}
		}
		r.Forget()
		if o := try(by); o.Rest.Round(time.Second) != time.Minute {
			t.Errorf("when the line was sent away: %+v", o)
		}
		w.done(t, r)
	})
}

// The flows that are over are forgotten, once there are many.
func TestFlowsForgotten(t *testing.T) {
	p := newPool(Options{}.orDefaults())
	defer p.close(t.Context())
	for i := range 3 * gatesMax {
		p.mu.Lock()
		p.meter(siteA, postrider.Rate{Messages: 1, Per: time.Duration(i + 1)})
		p.mu.Unlock()
	}
	if n := len(p.flows); n > gatesMax+1 {
		t.Errorf("%d flows are kept", n)
	}
}

// A route says how many connections a host has at most.
func TestRouteConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := shared()
		p.replies = map[string]string{"MAIL": "<silence>"}
		r := w.relay(Options{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { r.Deliver(t.Context(), limited(t, "u@a.example", postrider.Limits{Connections: 3})) })
			synctest.Wait()
		}
		r.pool.mu.Lock()
		if g := r.pool.gates[siteA]; g.used != 3 || len(g.waiters) != 5 {
			t.Errorf("%d used, %d wait", g.used, len(g.waiters))
		}
		r.pool.mu.Unlock()
		wg.Wait()
		if p.dials != 8 { // each falls silent
			t.Errorf("%d dials", p.dials)
		}
		w.done(t, r)
	})
}

// Who wants few connections waits until there are few, whoever has them; who wants
// more stands behind him.
func TestLimitsAtOneGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(Options{}.orDefaults())
		defer p.close(t.Context())
		for range 5 {
			if _, err := p.enter(t.Context, keyA, postrider.Limits{}); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for _, l := range []postrider.Limits{{Connections: 3}, {}} {
			wg.Go(func() {
				if _, err := p.enter(t.Context, keyA, l); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		g := p.gates[siteA]
		for i, want := range []int{2, 2, 2, 0} {
			if len(g.waiters) != want {
				t.Errorf("after %d have left %d wait, want %d", i, len(g.waiters), want)
			}
			p.leave(siteA)
			synctest.Wait()
		}
		wg.Wait()
	})
}

// What a kept connection takes does not raise the limit of a host that answers no new
// one, and the reason stays.
func TestKeptSaysNothingOfNew(t *testing.T) {
	p := newPool(Options{}.orDefaults())
	defer p.close(t.Context())
	p.enter(t.Context, keyA, postrider.Limits{})
	p.slower(siteA, "421")
	p.silent(siteA, false, context.DeadlineExceeded)
	for range 1000 {
		p.faster(siteA)
	}
	if g := p.gates[siteA]; g.pace.Limit != 1 || !strings.HasPrefix(g.pace.Reason, "no connection") {
		t.Errorf("%+v", g)
	}
	p.reached(siteA)
	for range 1000 {
		p.faster(siteA)
	}
	if g := p.gates[siteA]; g.pace.Limit != 20 || g.pace.Reason != "" {
		t.Errorf("when it answers: %+v", g)
	}
}

// TestRouteMessages: a connection has as many messages as the route says.
func TestRouteMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for most, dials := range map[int]int{0: 1, 1: 6, 2: 3, 4: 2} {
			w, p := single()
			r := w.relay(Options{})
			for range 6 {
				d := limited(t, "b@example.org", postrider.Limits{Messages: most})
				if o := r.Deliver(t.Context(), d)[0]; o.Result != postrider.ResultDelivered {
					t.Errorf("%+v", o)
				}
			}
			if p.dials != dials {
				t.Errorf("at most %d: %d connections for 6 messages, want %d", most, p.dials, dials)
			}
			w.done(t, r)
		}
	})
}

// A message in several transactions keeps to it too: they are as many as a connection
// may have.
func TestRouteMessagesOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.exts = []string{"LIMITS RCPTMAX=1"}
		r := w.relay(Options{})
		d := delivery(t, postrider.ViaMX, "b@example.org", "c@example.org", "d@example.org")
		d.Route.Limits.Messages = 2
		for i, o := range r.Deliver(t.Context(), d) {
			if o.Result != postrider.ResultDelivered {
				t.Errorf("%d: %+v", i, o)
			}
		}
		if p.dials != 2 || len(p.said("MAIL")) != 3 {
			t.Errorf("%d connections, heard %s", p.dials, strings.Join(p.said("MAIL"), ", "))
		}
		w.done(t, r)
	})
}

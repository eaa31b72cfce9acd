package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

var (
	siteA = site{addr: netip.MustParseAddrPort("192.0.2.1:25")}
	keyA  = key{site: siteA}
)

// A gate has half its limit when a host wants less, one more for each message up to
// half of what it was, and from there one more for as many as go at a time.
func TestGatePace(t *testing.T) {
	p := newPool(Options{}.orDefaults())
	defer p.close(t.Context())
	enter := func(n int) {
		for range n {
			if _, err := p.enter(t.Context, keyA, postrider.Limits{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	limit := func() int { return p.gates[siteA].pace.Limit }
	enter(20)
	for i, want := range []int{10, 5, 2, 1, 1} {
		if p.slower(siteA, "421 too many"); limit() != want {
			t.Errorf("after %d times 421: %d, want %d", i+1, limit(), want)
		}
	}
	for range 20 {
		p.leave(siteA)
	}
	for i, want := range []int{2, 2, 3, 3, 3, 4} {
		if p.faster(siteA); limit() != want {
			t.Errorf("after message %d: %d, want %d", i+1, limit(), want)
		}
	}
	for range 200 {
		p.faster(siteA)
	}
	if g := p.gates[siteA]; limit() != 20 || g.pace.Reason != "" {
		t.Errorf("at last: %d, %q", limit(), g.pace.Reason)
	}
}

// A host that has wanted less gets more when it takes mail, and not for its refusals.
func TestRefusalsMakeNothingFaster(t *testing.T) {
	p := newPool(Options{}.orDefaults())
	defer p.close(t.Context())
	if _, err := p.enter(t.Context, keyA, postrider.Limits{}); err != nil {
		t.Fatal(err)
	}
	p.slower(siteA, "421 too many")
	ok, no := smtp.Reply{Code: 250}, smtp.Reply{Code: 550}
	for _, c := range []struct {
		name string
		res  smtpc.Result
		more int
	}{
		{"MAIL is refused", smtpc.Result{Mail: no, Rcpts: []smtp.Reply{{}}}, 0},
		{"each recipient is refused", smtpc.Result{Mail: ok, Rcpts: []smtp.Reply{no, no}}, 0},
		{"the connection breaks", smtpc.Result{Mail: ok, Rcpts: []smtp.Reply{ok}, Err: &smtpc.Error{Err: io.EOF}}, 0},
		{"it is taken", smtpc.Result{Mail: ok, Rcpts: []smtp.Reply{no, ok}, Final: ok}, 1},
	} {
		before := p.gates[siteA].pace.Limit
		for range 2 { // one more for each message, and at first for two
			p.heard(&link{key: keyA}, &c.res)
		}
		if got := p.gates[siteA].pace.Limit - before; (got > 0) != (c.more > 0) {
			t.Errorf("%s: %d more at a time than %d", c.name, got, before)
		}
	}
	p.leave(siteA)
}

// Who waits at a gate comes in order; more than may do not wait, and who gives up
// leaves no hole.
func TestGateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(Options{ConnMax: 1}.orDefaults())
		if _, err := p.enter(t.Context, keyA, postrider.Limits{}); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		var came []int
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for i := range waitersMax {
			wg.Go(func() {
				ctx := t.Context()
				if i%2 == 1 {
					ctx = soon
				}
				if _, err := p.enter(func() context.Context { return ctx }, keyA, postrider.Limits{}); err == nil {
					mu.Lock()
					came = append(came, i)
					mu.Unlock()
					p.leave(siteA)
				}
			})
			synctest.Wait()
		}
		if _, err := p.enter(t.Context, keyA, postrider.Limits{}); !errors.Is(err, errCrowded) {
			t.Errorf("one too many: %v", err)
		}
		time.Sleep(2 * time.Second)
		p.leave(siteA)
		wg.Wait()
		if got := fmt.Sprint(came); got != "[0 2 4 6 8 10 12 14 16 18]" {
			t.Errorf("came in the order %s", got)
		}
		p.close(t.Context())
		if len(p.gates) != 0 {
			t.Errorf("%d gates are left", len(p.gates))
		}
	})
}

// A message that finds a crowd was not tried, unless another host has answered before: an
// address that cannot be reached from here is no attempt either.
func TestCrowded(t *testing.T) {
	const four = "192.0.2.1:25"
	for _, c := range []struct {
		name  string
		world func(w *world) // of example.org, beside the crowded host
		tried bool
	}{
		{"the only host", func(w *world) { w.zone.A("example.org", "192.0.2.1") }, false},
		{"behind an address where nobody is", func(w *world) { w.zone.A("example.org", "2001:db8::1", "192.0.2.1") }, false},
		{"behind a host that puts it off", func(w *world) {
			w.zone.MX("example.org", 10, "first.example").A("first.example", "192.0.2.2").MX("example.org", 20, "crowd.example")
			w.peers[mx2] = &peer{replies: map[string]string{"MAIL": "451 4.3.2 not now"}}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.zone.A("crowd.example", "192.0.2.1")
				w.peers[four] = &peer{replies: map[string]string{"MAIL": "<silence>"}}
				c.world(w)
				r := w.relay(Options{ConnMax: 1})
				var wg sync.WaitGroup
				for range 1 + waitersMax {
					wg.Go(func() { deliver(t, r, "b@crowd.example") })
				}
				synctest.Wait()
				o := r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org"))[0]
				if o.Untried == c.tried || o.Result != postrider.ResultDeferred || o.Scope != postrider.ScopeMessage {
					t.Errorf("%+v", o)
				}
				wg.Wait()
				w.done(t, r)
			})
		})
	}
}

// A host that lets us wait until we give up is called by one at a time from then on,
// and by nobody for a while, whatever the domain; an operator may say that it is called.
func TestBlackHoleIsCalledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 30 {
			w.zone.A(fmt.Sprintf("d%d.example", i), "192.0.2.1")
		}
		w.hung[mx1] = true
		r := w.relay(Options{DialTimeout: 10 * time.Second})
		start := time.Now()
		try := func(i int) string { return deliver(t, r, fmt.Sprintf("b@d%d.example", i))[0] }
		first := try(0)
		for i := range 29 {
			if got := try(i + 1); got != strings.Replace(first, "d0.", fmt.Sprintf("d%d.", i+1), 1) {
				t.Errorf("%s, want %s", got, first)
			}
		}
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("30 attempts took %v", got)
		}
		time.Sleep(downMin)
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() { try(i) })
		}
		wg.Wait()
		if got := time.Since(start); got != 20*time.Second+downMin {
			t.Errorf("30 more ended after %v", got)
		}
		if s := r.Slowed(); len(s) != 1 || s[0].Probe.IsZero() || s[0].Addr != "192.0.2.1:25" || !strings.Contains(s[0].Reason, "timed out") {
			t.Errorf("%+v", s)
		}
		w.hung[mx1] = false
		w.peers[mx1] = &peer{}
		if got := try(0); got != first {
			t.Errorf("while nobody calls: %s", got)
		}
		r.Forget()
		if got := try(0); !strings.HasPrefix(got, delivered) {
			t.Errorf("when it is called again: %s", got)
		}
		if got := try(1); !strings.HasPrefix(got, delivered) {
			t.Errorf("then: %s", got)
		}
		w.done(t, r)
	})
}

// A host that says 421 to one of many has fewer, and the reason is kept.
func TestHostWantsLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.replies = map[string]string{"RCPT TO:<c@example.org>": "421 4.7.0 too many connections"}
		r := w.relay(Options{})
		deliver(t, r, "c@example.org")
		s := r.Slowed()
		if len(s) != 1 || s[0].Limit != 1 || s[0].Reason != "421 4.7.0 too many connections" {
			t.Errorf("%+v", s)
		}
		for range 300 {
			deliver(t, r, "b@example.org")
		}
		if s := r.Slowed(); len(s) != 0 {
			t.Errorf("after 300 messages: %+v", s)
		}
		w.done(t, r)
	})
}

// Two who are let in at one instant do not race for the connection that is kept: who
// stood first has it (seed 1 of the simulator told two stories of that).
func TestTurnBringsKeptConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(Options{ConnMax: 2}.orDefaults())
		for range 2 {
			if kept, err := p.enter(t.Context, keyA, postrider.Limits{}); kept != nil || err != nil {
				t.Fatal(kept, err)
			}
		}
		got := make([]*link, 3)
		var wg sync.WaitGroup
		over, cancel := context.WithCancel(t.Context())
		for i := range got {
			wg.Go(func() {
				ctx := t.Context()
				if i == 2 {
					ctx = over
				}
				got[i], _ = p.enter(func() context.Context { return ctx }, keyA, postrider.Limits{})
			})
			synctest.Wait()
		}
		kept := &link{key: keyA}
		p.idle = append(p.idle, kept)
		p.mu.Lock() // both at once
		g := p.gates[siteA]
		g.used = 0
		p.next(g)
		p.mu.Unlock()
		synctest.Wait()
		if got[0] != kept || got[1] != nil || len(p.idle) != 0 {
			t.Errorf("the first has %p, the second %p, want %p and nothing", got[0], got[1], kept)
		}
		cancel()
		wg.Wait()
		if got[2] != nil || g.used != 2 || len(g.waiters) != 0 {
			t.Errorf("who gave up has %p; %d are in, %d wait", got[2], g.used, len(g.waiters))
		}
		p.close(t.Context())
	})
}

// A host that let us wait, and refuses the call that finds out, is called again by the
// next attempt: to be refused costs no time, and leaves nobody who finds out.
func TestRefusedAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.zone.A("example.org", "192.0.2.1")
		w.hung[mx1] = true
		r := w.relay(Options{DialTimeout: 10 * time.Second})
		try := func() string { return deliver(t, r, "b@example.org")[0] }
		const prefix = "deferred/dest 451 4.4.1 connect to example.org[192.0.2.1]:25: "
		if got := try(); got != prefix+"timed out" {
			t.Errorf("when nobody answers: %s", got)
		}
		time.Sleep(downMin)
		delete(w.hung, mx1)
		for i := range 3 {
			if got := try(); got != prefix+"connection refused" || len(w.dials) != i+2 {
				t.Errorf("call %d after that: %s; %d calls in all", i, got, len(w.dials))
			}
		}
		w.peers[mx1] = &peer{}
		if got := try(); !strings.HasPrefix(got, delivered) {
			t.Errorf("when it is back: %s", got)
		}
		w.done(t, r)
	})
}

// Who gives up at the moment when its turn comes gives the turn back, and the connection
// that came with it: the host has as many connections after it as before.
func TestTurnTooLate(t *testing.T) {
	for _, kept := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w, p := single()
			r := w.relay(Options{ConnMax: 1, IdleTimeout: time.Hour})
			pool := r.pool
			wantDelivered(t, deliver(t, r, "b@example.org"))
			k := pool.idle[0].key
			k.lmtp = !kept // of another kind, there is none
			over, cancel := context.WithCancel(t.Context())
			cancel()
			took, gave := 0, 0
			for range 64 { // which of the two comes first is left to chance
				first, err := pool.enter(t.Context, k, postrider.Limits{})
				if err != nil || (first != nil) != kept {
					t.Fatalf("nobody is there: %v, %v", first, err)
				}
				l, err := pool.enter(func() context.Context { // it waits by now
					if first != nil {
						pool.give(first)
					}
					pool.leave(k.site)
					return over
				}, k, postrider.Limits{})
				if gave++; err == nil {
					gave, took = gave-1, took+1
					if l != nil {
						pool.give(l)
					}
					pool.leave(k.site)
				}
				synctest.Wait()
				if g := pool.gates[k.site]; g != nil && !g.idle() {
					t.Fatalf("%d took their turn, %d gave it back, and %d are in, %d wait", took, gave, g.used, len(g.waiters))
				}
			}
			if gave == 0 || len(pool.idle) != map[bool]int{true: 1}[kept] {
				t.Errorf("%d gave it back, %d connections are kept", gave, len(pool.idle))
			}
			wantDelivered(t, deliver(t, r, "b@example.org"))
			w.done(t, r)
			if want := map[bool]int{true: 1, false: 2}[kept]; p.dials != want {
				t.Errorf("kept %v: %d connections, want %d", kept, p.dials, want)
			}
		})
	}
}

// Who began to call a host before it was found dead neither ends the call of the one
// who finds out, nor counts as a call of his.
func TestStragglerIsNoProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(Options{}.orDefaults())
		defer p.close(t.Context())
		knock := func() (probe, ok bool) { probe, ok, _ = p.knock(siteA); return probe, ok }
		for range 3 {
			if probe, ok := knock(); probe || !ok {
				t.Fatal("a host of which nothing is known is not called")
			}
		}
		p.silent(siteA, false, context.DeadlineExceeded) // the first of three
		time.Sleep(downMin + time.Second)
		if probe, ok := knock(); !probe || !ok {
			t.Fatal("nobody finds out")
		}
		p.silent(siteA, false, context.DeadlineExceeded) // the second
		p.unknown(siteA, false)                          // and the third
		if _, ok := knock(); ok {
			t.Error("a second one finds out at the same time")
		}
		if g := p.gates[siteA]; g.fails != 1 {
			t.Errorf("%d calls in a row have failed, want 1", g.fails)
		}
		p.unknown(siteA, true)
		if probe, ok := knock(); !probe || !ok {
			t.Error("the one who was to find out was cut short, and nobody does")
		}
	})
}

// Where one who wants few connections stood before one who wants more and gives up, the
// other enters.
func TestWhoGivesUpMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(Options{}.orDefaults())
		defer p.close(t.Context())
		if _, err := p.enter(t.Context, keyA, postrider.Limits{}); err != nil {
			t.Fatal(err)
		}
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go p.enter(func() context.Context { return soon }, keyA, postrider.Limits{Connections: 1})
		synctest.Wait()
		late, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := p.enter(func() context.Context { return late }, keyA, postrider.Limits{}); err != nil {
			t.Errorf("there was room for a second: %v", err)
		}
		p.leave(siteA)
		p.leave(siteA)
	})
}

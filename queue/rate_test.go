package queue

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

func rateOf(n int, per time.Duration) postrider.Limits {
	return postrider.Limits{Rate: postrider.Rate{Messages: n, Per: per}}
}

// Two destinations have their rates to the message for hours, whatever waits for them
// and however long an attempt takes, and no lease comes back for it.
func TestRateIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newCrowd(
			&crowdDest{dest: "minute", next: time.Now().Add(-time.Hour), left: 100_000},
			&crowdDest{dest: "hour", next: time.Now().Add(-time.Hour), left: 100_000},
		)
		s.limits = map[postrider.Dest]postrider.Limits{"minute": rateOf(60, time.Minute), "hour": rateOf(100, time.Hour)}
		began := map[postrider.Dest][]time.Time{}
		crowd(t, s, 4*time.Hour+time.Second/2, "", func(d *postrider.Delivery) (postrider.Outcome, time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			began[d.Route.Dest] = append(began[d.Route.Dest], time.Now())
			return ok, 2 * time.Second
		})
		for dest, want := range map[postrider.Dest]int{"minute": 4 * 60 * 60, "hour": 400} {
			all, every := began[dest], s.limits[dest].Rate.Every()
			if len(all) != want {
				t.Errorf("%s: %d attempts in 4 h, want %d", dest, len(all), want)
			}
			for i, at := range all[1:] {
				if gap := at.Sub(all[i]); gap < every-100*time.Millisecond {
					t.Fatalf("%s: %v after another, want %v", dest, gap, every)
				}
			}
		}
		if s.backs > 2+3 { // of each the first, and what was under way at the end
			t.Errorf("%d leases came back", s.backs)
		}
	})
}

// What a host puts off counts each time that it is tried, and the rate puts off none
// of it: the tries of a message are those that were made.
func TestRateCountsRetries(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.limit("mx:x.example", rateOf(1, 2*time.Minute))
		b.until(10 * time.Minute)
		b.answer = func(to smtp.Path) postrider.Outcome {
			if time.Since(b.start) < 13*time.Minute {
				return greylist
			}
			return ok
		}
		b.send("ann@x.example")
		b.send("bob@x.example")
		b.until(20 * time.Minute)
		b.want("10m0s x.example ann", "11m59.9s x.example bob", "13m59.9s x.example ann", "15m59.9s x.example bob")
		b.empty()
	})
}

// A reload changes what holds: a lower rate from the next message on, and what waits
// for a rate that is no more goes at once.
func TestRateChanged(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		for i := range 20 {
			b.send(fmt.Sprintf("u%d@x.example", i))
		}
		b.until(time.Minute)
		b.limit("mx:x.example", rateOf(1, 20*time.Minute))
		for i := range 6 {
			b.send(fmt.Sprintf("v%d@x.example", i))
		}
		b.until(2 * time.Minute)
		count := func() int {
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.attempts)
		}
		if n := count(); n != 21 {
			t.Errorf("%d attempts, want 20 and one", n)
		}
		slow := b.queue.Slowed()
		if len(slow) != 1 || slow[0].Rate.Per != 20*time.Minute || slow[0].Reason != "" || slow[0].Next.Sub(b.start).Round(time.Second) != 21*time.Minute {
			t.Errorf("%+v", slow)
		}
		b.limit("mx:x.example", rateOf(60, time.Minute))
		b.until(2*time.Minute + 2*time.Second)
		if n := count(); n < 23 || n > 24 {
			t.Errorf("%d attempts 2 s after the change", n)
		}
		b.limit("mx:x.example", postrider.Limits{})
		synctest.Wait()
		b.empty()
		if slow := b.queue.Slowed(); len(slow) != 0 {
			t.Errorf("%+v", slow)
		}
	})
}

// Before a first message the time apart goes by after a start: what went before the
// end of the last process is not known.
func TestRateAfterStart(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.limit("mx:x.example", rateOf(6, time.Hour))
		b.limit("mx:y.example", rateOf(6, time.Hour))
		b.send("ann@x.example")
		b.send("bob@x.example")
		b.until(15 * time.Minute)
		b.send("cid@y.example") // nothing can have gone there in the last ten minutes
		b.until(20 * time.Minute)
		b.want("10m0s x.example ann", "15m0s y.example cid", "20m0s x.example bob")
		b.empty()
	})
}

// An operator in a hurry does not get past a rate, nor does a clock that was set back
// hold mail longer than the rate says.
func TestRateAndTheClock(t *testing.T) {
	d := newDests(20, 200, Plan{}.withDefaults())
	d.limits = func(postrider.Dest) postrider.Limits { return rateOf(1, time.Minute) }
	d.born = t0.Add(-time.Hour)
	if _, ok, ps := d.take("d", false, t0); !ok || pausesText(ps) != "59" {
		t.Errorf("the first: %v, %s", ok, pausesText(ps))
	}
	d.release("d", false, finding{verdict: verdictAlive}, t0, 0)
	if ps := d.hurry([]postrider.Dest{"d"}, t0.Add(time.Second)); pausesText(ps) != "-" {
		t.Errorf("in a hurry: %s", pausesText(ps))
	}
	if _, ok, _ := d.take("d", false, t0.Add(time.Second)); ok {
		t.Error("one went too early")
	}
	if ps := d.hurry(nil, t0.Add(-time.Hour)); pausesText(ps) != "-3540" {
		t.Errorf("an hour back: %s", pausesText(ps))
	}
}

// What the relay did not attempt is not counted, and comes when it was told to.
func TestRateOfAHost(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.limit("mx:x.example", rateOf(1, 10*time.Minute))
		b.until(11 * time.Minute)
		b.answer = func(to smtp.Path) postrider.Outcome {
			if time.Since(b.start) < 12*time.Minute {
				return postrider.Outcome{Untried: true, Scope: postrider.ScopeMessage, Rest: 90 * time.Second}
			}
			return ok
		}
		b.send("ann@x.example")
		b.until(30 * time.Minute)
		b.want("11m0s x.example ann", "12m30s x.example ann")
		b.empty()
	})
}

// Of several turns that a destination was given at a host it takes the first.
func TestFirstTurn(t *testing.T) {
	d := newDests(20, 200, Plan{}.withDefaults())
	for range 3 {
		d.take("d", false, t0)
	}
	for i, step := range []struct {
		rest time.Duration
		want string
	}{{20 * time.Second, "20"}, {10 * time.Second, "10"}, {30 * time.Second, "-"}} {
		if ps := d.release("d", false, finding{crowded: true, rest: step.rest}, t0, 0); pausesText(ps) != step.want {
			t.Errorf("turn %d: %s, want %s", i, pausesText(ps), step.want)
		}
	}
}

// A route says how many attempts there are at a time, more than by default or fewer,
// and a reload makes it fewer for who had more.
func TestRouteConnections(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.limit("mx:few.example", postrider.Limits{Connections: 2})
		b.limit("mx:many.example", postrider.Limits{Connections: 40})
		b.mu.Lock()
		b.took = func(*postrider.Delivery) time.Duration { return time.Second }
		b.mu.Unlock()
		for i := range 300 {
			b.send(fmt.Sprintf("u%d@many.example", i))
			b.send(fmt.Sprintf("u%d@few.example", i))
		}
		b.until(12*time.Second + time.Second/2)
		b.mu.Lock()
		if few, many := b.peak["mx:few.example"], b.peak["mx:many.example"]; few != 2 || many != 40 {
			t.Errorf("%d at few, %d at many", few, many)
		}
		clear(b.peak)
		b.mu.Unlock()
		b.limit("mx:few.example", postrider.Limits{Connections: 1})
		b.until(15*time.Second + time.Second/2)
		b.mu.Lock()
		if few := b.peak["mx:few.example"]; few != 1 {
			t.Errorf("%d after it is fewer", few)
		}
		b.mu.Unlock()
	})
}

// A destination is not forgotten before its rate lets the next message go.
func TestRateIsNotForgotten(t *testing.T) {
	d := newDests(5, 100, DefaultPlan())
	d.limits = func(name postrider.Dest) postrider.Limits { return rateOf(1, 24*time.Hour) }
	d.born = t0.Add(-48 * time.Hour)
	for i := range 2 * destsMin {
		name, now := postrider.Dest(fmt.Sprint(i)), t0.Add(time.Duration(i)*10*time.Second)
		if p, ok, _ := d.take(name, false, now); ok {
			d.release(name, p, finding{verdict: verdictAlive}, now, 0)
		}
	}
	if _, ok, _ := d.take("0", false, t0.Add(20*time.Hour)); ok {
		t.Error("the second of a day")
	}
	for i := range 4 * destsMin {
		d.take(postrider.Dest(fmt.Sprint("e", i)), false, t0.Add(time.Duration(50+i)*time.Hour))
	}
	if d.m["0"] != nil {
		t.Error("it is kept for ever")
	}
}

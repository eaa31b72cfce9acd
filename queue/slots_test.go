package queue

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/postrider/postrider"
)

// A destination that has an attempt under way is not forgotten, however long that takes
// and however many others come meanwhile: its end is counted, and what it finds too.
func TestDestsRememberWhatIsUnderWay(t *testing.T) {
	for _, v := range []verdict{verdictAlive, verdictNone, verdictDead} {
		d := newDests(1, 100, DefaultPlan())
		now := t0
		if _, ok, ps := d.take("slow", false, now); !ok || pausesText(ps) != "stop" {
			t.Fatalf("the first attempt: %v, pause %s", ok, pausesText(ps))
		}
		for i := range 3 * destsMin {
			name := postrider.Dest(fmt.Sprint(i))
			now = now.Add(10 * time.Second)
			p, _, _ := d.take(name, false, now)
			d.release(name, p, finding{verdict: v}, now, 0)
		}
		if got := d.m["slow"]; got == nil || got.taken != 1 {
			t.Fatalf("after %v: %+v", now.Sub(t0), got)
		}
		ps := d.release("slow", false, finding{verdict: verdictDead}, now, 0)
		if len(ps) == 0 || ps[0].dest != "slow" || !ps[0].until.After(now) || !d.dead("slow") {
			t.Errorf("its end, where nobody answers: %+v", ps)
		}
	}
}

// What a lane counts is what is under way in it, whatever attempts come to, and in
// which order.
func TestLanesCountWhatIsUnderWay(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := newDests(6, 8, Plan{}.withDefaults())
		now := t0
		type attempt struct {
			name  postrider.Dest
			probe bool
		}
		var running []attempt
		end := func() {
			k := r.IntN(len(running))
			a := running[k]
			running = append(running[:k], running[k+1:]...)
			f := finding{verdict: []verdict{verdictNone, verdictAlive, verdictAlive, verdictDead}[r.IntN(4)], less: r.IntN(5) == 0}
			d.release(a.name, a.probe, f, now, 0)
		}
		check := func(step int) {
			t.Helper()
			var used [laneKinds]int
			for _, e := range d.m {
				used[e.lane] += e.taken
			}
			for k := laneFresh; k < laneKinds; k++ {
				if got := d.lanes.lane[k].used; got != used[k] {
					t.Fatalf("seed %d, step %d: lane %d counts %d attempts, and %d are under way", seed, step, k, got, used[k])
				}
			}
		}
		for step := range 500 {
			now = now.Add(time.Duration(r.IntN(40)) * time.Second)
			if len(running) > 0 && r.IntN(2) == 0 {
				end()
			} else if name := postrider.Dest(fmt.Sprint(r.IntN(6))); len(running) < 8 {
				if probe, ok, _ := d.take(name, r.IntN(3) == 0, now); ok {
					running = append(running, attempt{name, probe})
				}
			}
			check(step)
		}
		for len(running) > 0 {
			end()
			check(-1)
		}
	}
}

// A host that is found to answer leaves its lane with all that is under way to it: after
// a thousand such there is as much room for a new one as before.
func TestLaneOfThoseThatAnswer(t *testing.T) {
	for _, at := range []int{1, 2, 5} { // a time
		d := newDests(5, 8, Plan{}.withDefaults())
		for i := range 1000 {
			name := postrider.Dest(fmt.Sprint(i))
			for range at {
				if _, ok, _ := d.take(name, false, t0); !ok {
					t.Fatalf("%d at a time: no room for destination %d, and nothing else is under way", at, i)
				}
			}
			for range at {
				d.release(name, false, finding{verdict: verdictAlive}, t0, 0)
			}
		}
	}
}

// A look at the lanes while those who were called are on their way calls nobody into
// their places: never are more on their way than can begin. Who has not come by the
// look after it leaves his place to another.
func TestLaneCallsNobodyTwice(t *testing.T) {
	d := newDests(1, 8, Plan{}.withDefaults())
	most := d.lanes.both
	called := 0
	call := func(ps []pause) {
		for _, p := range ps {
			if p.until.IsZero() {
				called++
			}
		}
	}
	for i := range 5 * most {
		d.take(postrider.Dest(fmt.Sprint(i)), false, t0)
	}
	for i := range most { // those that have begun
		call(d.release(postrider.Dest(fmt.Sprint(i)), false, finding{verdict: verdictDead}, t0, 0))
		if i == most/2 {
			call(d.recall(t0))
		}
	}
	if called != most {
		t.Fatalf("%d are called, where %d can begin", called, most)
	}
	if call(d.recall(t0)); called != most+most/2+1 {
		t.Fatalf("%d have not come for two looks, and %d are called instead", most/2+1, called-most)
	}
	if call(d.recall(t0)); called != 2*most {
		t.Fatalf("the others have not come either, and %d of %d are called", called, 2*most)
	}
}

package queue

import (
	"fmt"
	"math/rand/v2"
	"slices"
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
			for k := range laneKinds {
				if got := *d.lanes.count(k); got != used[k] {
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
	for _, at := range []int{1, 2, 4} { // a time
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

// Where those of which nobody knows whether they answer use nearly all that they may, one
// that has much mail leaves some of the rest to the others.
func TestSomeIsLeftInALane(t *testing.T) {
	d := newDests(20, 40, Plan{}.withDefaults())
	suspects := d.lanes.lane[laneSuspect].most
	for i := range suspects {
		if _, ok, _ := d.take(postrider.Dest(fmt.Sprint("mx:", i)), true, t0); !ok {
			t.Fatalf("no room for number %d of %d", i, suspects)
		}
	}
	took := 0
	for ; took < 20; took++ {
		if _, ok, _ := d.take("mx:much", false, t0); !ok {
			break
		}
	}
	if took == 0 || took >= d.lanes.both-suspects {
		t.Errorf("it took %d of %d", took, d.lanes.both-suspects)
	}
	if _, ok, _ := d.take("mx:other", false, t0); !ok {
		t.Errorf("it took %d, and there is nothing for another", took)
	}
}

// However many destinations take what they get, an eighth of all attempts is left to
// those that have none, and few of them have all that each may.
func TestSomeIsLeft(t *testing.T) {
	for _, c := range []struct{ many, least, most int }{{1, 20, 20}, {5, 20, 20}, {10, 10, 20}, {30, 4, 20}, {100, 1, 20}, {174, 1, 20}} {
		d := newDests(20, 200, Plan{}.withDefaults())
		taken := make([]int, c.many)
		begin := func(i int) bool {
			_, ok, _ := d.take(postrider.Dest(fmt.Sprint("mx:", i)), false, t0)
			if ok {
				taken[i]++
			}
			return ok
		}
		for i := range c.many { // it is found to answer, again and again, and has one more
			for range 200 {
				begin(i)
				d.release(postrider.Dest(fmt.Sprint("mx:", i)), false, finding{verdict: verdictAlive}, t0, 0)
			}
			if taken[i] = 0; !begin(i) {
				t.Fatalf("%d: no room for the first of destination %d", c.many, i)
			}
		}
		for more := true; more; {
			more = false
			for i := range c.many {
				more = taken[i] < 20 && begin(i) || more
			}
		}
		all := 0
		for i, n := range taken {
			if all += n; n < c.least || n > c.most {
				t.Errorf("%d: destination %d has %d, want %d to %d", c.many, i, n, c.least, c.most)
			}
		}
		for i := range 200/8 + 1 {
			if all+i == 200 {
				break
			}
			if _, ok, _ := d.take(postrider.Dest(fmt.Sprint("local:", i)), true, t0); !ok || all > 175 {
				t.Fatalf("%d have %d, and the %d. of others none", c.many, all, i)
			}
		}
		// One that had to wait may come as soon as one of its own is through.
		if ps := d.release("mx:0", false, finding{verdict: verdictAlive}, t0, 0); c.most != c.least && (len(ps) != 1 || !ps[0].until.IsZero()) {
			t.Errorf("%d: one is through, and the spool is told %v", c.many, ps)
		}
	}
}

// However many destinations are slow, and have one attempt each, an eighth of all is left
// to those that are quick. Those that nobody has tried have the next slot that is free, and
// the slow ones then have theirs in their order.
func TestSlowLeaveSomeToQuick(t *testing.T) {
	d := newDests(20, 200, Plan{}.withDefaults())
	took := map[string]time.Duration{"slow": slowAfter, "quick": slowAfter - 1, "smtp:": slowAfter}
	begin := func(kind string, i int) bool {
		_, ok, _ := d.take(postrider.Dest(fmt.Sprint(kind, i)), false, t0)
		return ok
	}
	end := func(kind string, i int) []pause {
		return d.release(postrider.Dest(fmt.Sprint(kind, i)), false, finding{verdict: verdictAlive, took: took[kind]}, t0, 0)
	}
	for _, kind := range []string{"slow", "quick", "smtp:"} {
		for i := range 300 {
			begin(kind, i)
			end(kind, i)
		}
	}
	for i := range 300 {
		if ok := begin("slow", i); ok != (i < 175) {
			t.Fatalf("slow destination %d of 300: begins %v", i, ok)
		}
	}
	for i := range 24 {
		if !begin("quick", i) {
			t.Fatalf("quick destination %d waits for the slow ones", i)
		}
	}
	if !begin("smtp:", 0) {
		t.Fatal("a slow host that the operator named waits for the slow ones")
	}
	if begin("new", 0) {
		t.Fatal("one that nobody has tried takes what is left to the quick ones")
	}
	var called []postrider.Dest
	for i := range 3 {
		for _, p := range end("slow", i) {
			if p.until.IsZero() {
				called = append(called, p.dest)
			}
		}
	}
	if want := []postrider.Dest{"new0", "slow175", "slow176"}; !slices.Equal(called, want) {
		t.Errorf("three have ended, and %v are called, want %v", called, want)
	}
	for _, name := range called {
		if _, ok, _ := d.take(name, false, t0); !ok {
			t.Errorf("%s was called, and cannot begin", name)
		}
	}
	if end("slow", 100); !begin("quick", 24) {
		t.Error("it waits, and a slot is free")
	}
	took["slow"] = 0
	end("slow", 110)
	if began := begin("slow", 110); !began || d.m["slow110"].lane != laneOpen {
		t.Errorf("slow110 was quick: begins %v, in lane %d", began, d.m["slow110"].lane)
	}
}

// What the operator named waits behind nobody who does not answer.
func TestOwnAreNoStrangers(t *testing.T) {
	d := newDests(20, 200, Plan{}.withDefaults())
	for i := range 1000 {
		d.take(postrider.Dest(fmt.Sprint("mx:", i)), true, t0)
	}
	for _, name := range []postrider.Dest{"local:example.org", "lmtp:/run/lmtp", "smtp:192.0.2.1:25", "smtps:192.0.2.1:465"} {
		if _, ok, _ := d.take(name, true, t0); !ok {
			t.Errorf("%s waits", name)
		}
		d.release(name, false, finding{verdict: verdictDead}, t0, 0)
		if probe, ok, _ := d.take(name, true, t0.Add(time.Hour)); !ok || !probe {
			t.Errorf("%s, which was away, is not asked again", name)
		}
	}
	if _, ok, _ := d.take("mx:new", true, t0); ok {
		t.Error("a stranger has not waited")
	}
}

// Attempts that were under way together and were not made begin one rest; that a dead
// destination could not be called puts its next call off by no more than that.
func TestRestOfMany(t *testing.T) {
	d := newDests(5, 200, Plan{}.withDefaults())
	crowded := finding{crowded: true}
	for n, want := range []int{1, 2, 4} {
		now := t0.Add(time.Duration(n) * time.Minute)
		for range 5 {
			d.take("d", false, now)
		}
		for range 5 {
			d.release("d", false, crowded, now, 0)
		}
		if got := d.m["d"].rest.Sub(now); got != time.Duration(want)*time.Second {
			t.Errorf("rest %d of five is %v, want %d s", n, got, want)
		}
	}
	d = newDests(5, 200, Plan{}.withDefaults())
	d.take("d", false, t0)
	d.release("d", false, finding{verdict: verdictDead}, t0, 0)
	now := d.m["d"].until
	if probe, ok, _ := d.take("d", false, now); !probe || !ok {
		t.Fatal("it is not probed")
	}
	ps := d.release("d", true, finding{crowded: true, rest: 3 * time.Second}, now, 0)
	if len(ps) != 1 || !ps[0].until.Equal(now.Add(3*time.Second)) {
		t.Errorf("a call that could not be made: %v, want one in 3 s", ps)
	}
	if probe, ok, _ := d.take("d", false, now.Add(3*time.Second)); !probe || !ok {
		t.Error("it is not probed then")
	}
}

// A destination that was called in one lane and comes in another, as its first mail was
// tried before, leaves its place in the lane that it was called to.
func TestCalledComesInAnotherLane(t *testing.T) {
	d := newDests(1, 8, Plan{}.withDefaults())
	for i := range d.lanes.both + 1 {
		d.take(postrider.Dest(fmt.Sprint("mx:", i)), false, t0)
	}
	last := postrider.Dest(fmt.Sprint("mx:", d.lanes.both))
	ps := d.release("mx:0", false, finding{verdict: verdictAlive}, t0, 0)
	if n := d.lanes.lane[laneFresh].calls; n != 1 || d.m[last].called == 0 {
		t.Fatalf("%s is not called: %v", last, ps)
	}
	d.take(last, true, t0)
	if n := d.lanes.lane[laneFresh].calls; n != 0 {
		t.Errorf("it has come, and %d are still on their way", n)
	}
}

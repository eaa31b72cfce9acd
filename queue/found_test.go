package queue

import (
	"testing"
	"time"

	"github.com/postrider/postrider"
)

// A destination that has come down to one attempt at a time, and falls silent then, is
// dead: there is no less that it could want.
func TestSilentAtOneIsDead(t *testing.T) {
	d := newDests(1, 100, DefaultPlan())
	for _, v := range []verdict{verdictAlive, verdictDead} {
		if _, ok, _ := d.take("a", false, t0); !ok {
			t.Fatal("no attempt")
		}
		d.release("a", false, finding{verdict: v, less: v == verdictDead}, t0, 0)
		if got := d.dead("a"); got != (v == verdictDead) {
			t.Errorf("after verdict %d: dead %v", v, got)
		}
	}
}

// An attempt that was made ends the rests in a row: the next begins with the shortest.
func TestRestsBeginAnew(t *testing.T) {
	d := newDests(5, 100, DefaultPlan())
	now := t0
	for i, c := range []struct {
		crowded bool
		rest    time.Duration
	}{{true, restMin}, {true, 2 * restMin}, {true, 4 * restMin}, {false, 0}, {true, restMin}} {
		if _, ok, _ := d.take("a", false, now); !ok {
			t.Fatalf("attempt %d is not made", i)
		}
		f := finding{crowded: c.crowded}
		if !c.crowded {
			f.verdict = verdictAlive
		}
		d.release("a", false, f, now, 0)
		if got := max(0, d.m["a"].rest.Sub(now)); got != c.rest {
			t.Errorf("attempt %d: rests %v, want %v", i, got, c.rest)
		}
		now = now.Add(time.Hour)
	}
}

// A host that the operator named is in no lane, however long its attempts take.
func TestNamedAndSlow(t *testing.T) {
	for name, want := range map[postrider.Dest]laneKind{"smtp:hub.example": laneOpen, "mx:a.example": laneSlow} {
		d := newDests(5, 100, DefaultPlan())
		d.take(name, false, t0)
		d.take(name, false, t0) // goes on
		d.release(name, false, finding{verdict: verdictAlive, took: slowAfter}, t0, 0)
		if got := d.m[name].lane; got != want {
			t.Errorf("%s: lane %d, want %d", name, got, want)
		}
	}
}

// Where several routes of one attempt have no turn, the destination lets others go first
// until the last of them has.
func TestLongestRestCounts(t *testing.T) {
	for _, rests := range [][]time.Duration{{time.Second, time.Minute}, {time.Minute, time.Second}} {
		var outcomes []postrider.Outcome
		for _, r := range rests {
			outcomes = append(outcomes, postrider.Outcome{Untried: true, Rest: r, Scope: postrider.ScopeMessage})
		}
		if f := speaksOf(outcomes); !f.crowded || f.rest != time.Minute {
			t.Errorf("%v: %+v", rests, f)
		}
	}
}

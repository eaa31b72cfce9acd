package queue

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
)

// Mail that was called and is not there any more, as when its operator has removed it or
// it has expired in the line, keeps its place from nobody: who waits behind hundreds of
// such is tried.
func TestLineOfThoseThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all, gone []*crowdDest
		add := func(name string, n int) []*crowdDest {
			for i := range n {
				all = append(all, &crowdDest{dest: postrider.Dest(fmt.Sprint(name, i)), next: time.Now(), left: 1})
			}
			return all[len(all)-n:]
		}
		add("hole", newLanes(200).both)
		gone = add("gone", 300)
		add("here", 1)
		gone = append(gone, add("gone too", 300)...) // whoever is called first
		s := newCrowd(all...)
		go func() {
			time.Sleep(time.Second) // all wait in line
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, d := range gone {
				d.left = 0
			}
		}()
		got := crowd(t, s, 2*time.Minute, "here", func(d *postrider.Delivery) (postrider.Outcome, time.Duration) {
			if d.Route.Dest[0] == 'h' && d.Route.Dest[1] == 'o' {
				return nobody, 30 * time.Second
			}
			return ok, 0
		})
		if got != 1 {
			t.Errorf("it has %d outcomes after two minutes", got)
		}
	})
}

// Who waits in line is not forgotten, however long that takes and however many others
// come meanwhile: the spool has been told to hand out nothing for him until he is called.
func TestDestsRememberWhoWaits(t *testing.T) {
	d := newDests(1, 8, DefaultPlan())
	now := t0
	waits, running := map[postrider.Dest]bool{}, []postrider.Dest{}
	hear := func(ps []pause) {
		for _, p := range ps {
			if p.until.IsZero() && waits[p.dest] {
				delete(waits, p.dest)
				if _, ok, _ := d.take(p.dest, false, now); !ok {
					t.Fatalf("%s is called, and there is no room", p.dest)
				}
				running = append(running, p.dest)
			}
		}
	}
	const n = 3 * destsMin
	for i := range n {
		now = now.Add(10 * time.Second)
		name := postrider.Dest(fmt.Sprint("mx:", i))
		_, ok, ps := d.take(name, false, now)
		if len(ps) != 1 || !ps[0].until.Equal(forever) {
			t.Fatalf("%s: %v, pause %s", name, ok, pausesText(ps))
		}
		if ok {
			running = append(running, name)
		} else {
			waits[name] = true
		}
	}
	if len(running) != d.lanes.both {
		t.Fatalf("%d are under way, want %d", len(running), d.lanes.both)
	}
	for len(running) > 0 {
		now = now.Add(time.Second)
		name := running[0]
		running = running[1:]
		hear(d.release(name, false, finding{verdict: verdictDead}, now, 0))
	}
	if len(waits) > 0 {
		t.Errorf("%d of %d were never called", len(waits), n)
	}
}

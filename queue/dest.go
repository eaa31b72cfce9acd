package queue

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider"
)

// probeMax is the longest wait between two probes of a dead destination: one
// connection in half an hour is little, and finds early that it is back.
const probeMax = 30 * time.Minute

// forever is a pause that is ended by hand.
var forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// destsMin is the size of the table below which nobody looks for what may go.
const destsMin = 1024

// dests are the slots of the destinations, and which of them are dead: pure
// state, that says what pause a destination must have now. Only the owner
// goroutine of the queue changes it; the lock lets others ask.
//
// A destination is dead when an attempt found no host of it that could be talked
// to. It is paused then, and at the end of the pause one parcel is tried alone.
// What that finds ends the pause or begins a longer one. RFC 5321 4.5.4.1: "A
// client SHOULD keep a list of hosts it cannot reach and corresponding
// connection timeouts, rather than just retrying queued mail items."
type dests struct {
	limit int // attempts at one destination at a time
	plan  Plan

	mu    sync.Mutex
	m     map[postrider.Dest]*dest
	sweep int // size of m at which to look for what may go
}

type dest struct {
	taken  int
	paused bool      // by a full table, not by death
	fails  int       // probes that failed in a row, the first failure included; 0: alive
	probe  bool      // the one taken slot is the probe
	until  time.Time // of a dead one: the next probe
}

// A verdict is what an attempt says about its destination.
type verdict uint8

const (
	verdictNone  verdict = iota // nothing: it did not come that far
	verdictAlive                // a host talked to us
	verdictDead                 // no host did
)

// A pause is a call of Spool.Pause.
type pause struct {
	dest  postrider.Dest
	until time.Time // zero: none
}

func newDests(limit int, plan Plan) *dests {
	return &dests{limit: limit, plan: plan, m: make(map[postrider.Dest]*dest), sweep: destsMin}
}

// change sets the plan by which dead destinations are probed.
func (t *dests) change(plan Plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plan = plan
}

// take gives an attempt its slot, and tells whether it is a probe. The spool
// never hands out more than the slots there are, as the pause comes before the
// next Claim.
func (t *dests) take(name postrider.Dest, now time.Time) (probe bool, ps []pause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	d := t.m[name]
	if d == nil {
		d = &dest{}
		t.m[name] = d
	}
	d.taken++
	limit := t.limit
	if d.fails > 0 {
		limit, probe = 1, !d.probe
		d.probe = true
	}
	if d.taken >= limit && !d.paused {
		d.paused = true
		ps = append(ps, pause{name, forever})
	}
	return probe, ps
}

// release takes the slot back. Jitter, from -1 to 1, moves the next probe.
func (t *dests) release(name postrider.Dest, probe bool, v verdict, now time.Time, jitter float64) []pause {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.m[name]
	d.taken--
	was := d.fails
	if probe {
		d.probe = false
	}
	switch {
	case v == verdictAlive:
		d.fails = 0
	case v == verdictDead && (probe || d.fails == 0):
		// What began before the destination was found dead says nothing new.
		d.fails++
		fallthrough
	case probe:
		d.until = now.Add(min(t.plan.Wait(d.fails, jitter), probeMax))
	}
	if d.fails > 0 {
		if d.probe {
			return nil // paused for the probe that is under way
		}
		// Stragglers do not keep the probe from its turn.
		d.paused = false
		return []pause{{name, d.until}}
	}
	open := d.taken < t.limit
	if d.taken == 0 {
		delete(t.m, name)
	}
	if open && (d.paused || was > 0) {
		d.paused = false
		return []pause{{name, time.Time{}}}
	}
	return nil
}

// hurry ends the pauses of the named dead destinations, of all if none is named,
// so that their next probe is made now.
func (t *dests) hurry(names []postrider.Dest, now time.Time) []pause {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(t.m))
	}
	var ps []pause
	for _, name := range names {
		if d := t.m[name]; d != nil && d.fails > 0 && !d.probe {
			d.until = now
			ps = append(ps, pause{name, time.Time{}})
		}
	}
	return ps
}

// dead reports whether no host of the destination could be talked to.
func (t *dests) dead(name postrider.Dest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.m[name]
	return d != nil && d.fails > 0
}

// next is when a dead destination is probed; zero: it is not dead.
func (t *dests) next(name postrider.Dest) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.m[name]; d != nil && d.fails > 0 {
		return d.until
	}
	return time.Time{}
}

// forget drops dead destinations that nobody came to probe: nothing waits for
// them any more. Called with the lock held.
func (t *dests) forget(now time.Time) {
	if len(t.m) < t.sweep {
		return
	}
	for name, d := range t.m {
		if d.taken == 0 && now.Sub(d.until) > probeMax {
			delete(t.m, name)
		}
	}
	t.sweep = max(destsMin, 2*len(t.m))
}

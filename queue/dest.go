package queue

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/internal/pace"
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
//
// How many attempts one may have at a time, and how often, is in pace.go, and how many
// all those may have of which nobody knows whether they answer, in lane.go.
type dests struct {
	most   int                                   // attempts at one destination at a time
	local  int                                   // the same, at one of this machine; 0: most
	limits func(postrider.Dest) postrider.Limits // what an operator wants; nil: nothing
	born   time.Time                             // since when we know what went where
	plan   Plan

	mu    sync.Mutex
	m     map[postrider.Dest]*dest
	sweep int // size of m at which to look for what may go
	lanes lanes
	turn  int // of the configuration: limits may say something else in the next
}

type dest struct {
	taken  int
	most   int // attempts at a time
	pace   pace.Pace
	rate   postrider.Rate
	bucket pace.Bucket // of rate
	asked  int         // the turn that most and rate are of
	fails  int         // probes that failed in a row, the first failure included; 0: alive
	good   bool        // the last that was heard of it is that it answers
	slow   bool        // the last attempt that it answered took long
	probe  bool        // the one taken slot is the probe
	until  time.Time   // of a dead one: the next probe
	seen   time.Time   // when the last attempt ended
	lane   laneKind    // of its attempts
	parked bool        // it waits for room in its lane
	called int         // it has waited and is next: which look at the lanes comes after that; 0: it is not
	rests  int         // attempts in a row that were not made, as others held what they needed
	rest   time.Time   // until when it lets them go first
	told   time.Time   // the pause that the spool knows
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

// newDests returns an empty table, for so many attempts at one destination and in
// all.
func newDests(most, all int, plan Plan) *dests {
	return &dests{most: most, plan: plan, m: make(map[postrider.Dest]*dest), sweep: destsMin, lanes: newLanes(all)}
}

// localDests is how the name of a destination begins whose mail goes into folders of
// this machine. There is nobody there whom it could be too much for, and what is
// delivered at the same time is made durable together.
const localDests = "local:"

// mostOf is how many attempts at a destination there may be at a time, where nobody
// has said.
func (t *dests) mostOf(name postrider.Dest) int {
	if t.local > 0 && strings.HasPrefix(string(name), localDests) {
		return t.local
	}
	return t.most
}

// reload makes all ask for their limits anew: each when it is next looked at.
func (t *dests) reload() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn++
}

// change sets the plan by which dead destinations are probed.
func (t *dests) change(plan Plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plan = plan
}

// take gives an attempt its slot, and tells whether it is a probe; or not, where
// there is no room in the lane of the destination, or it is too early for its rate.
// Again is that of the lease. The spool never hands out more than the slots there are,
// as the pause comes before the next Claim.
func (t *dests) take(name postrider.Dest, again bool, now time.Time) (probe, ok bool, ps []pause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget(now)
	d := t.m[name]
	if d == nil {
		d = t.begin(name, now)
		t.m[name] = d
	}
	t.limit(name, d)
	if ok = !d.next(now).After(now) && t.lanes.enter(name, d, again); ok {
		d.taken++
		d.bucket.Take(d.rate.Every(), now)
		if d.fails > 0 {
			probe, d.probe = !d.probe, true
		}
	}
	return probe, ok, d.tell(nil, name, now)
}

// A finding is what an attempt has found out about its destination.
type finding struct {
	verdict verdict
	less    bool          // a host said 421, or fell silent: it may be that it wants less of us
	reason  string        // in the words of the peer, or ours
	crowded bool          // others hold what the attempt needed, and it was not made
	rest    time.Duration // of crowded: how long they hold it; 0: nobody knows
	took    time.Duration // how long it held its slot
}

// release takes the slot back. Jitter, from -1 to 1, moves the next probe.
func (t *dests) release(name postrider.Dest, probe bool, f finding, now time.Time, jitter float64) []pause {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.m[name]
	t.lanes.leave(d)
	d.taken--
	d.seen = now
	if probe {
		d.probe = false
	}
	v := f.verdict
	through := d.taken > 0 || d.good && d.pace.Limit > 1 // others get through: it is too much, and it is not dead
	if f.less && d.fails == 0 && (v != verdictDead || through) {
		d.pace.Slower(d.taken+1, f.reason, now)
		if v == verdictDead {
			v = verdictNone
		}
	}
	switch {
	case v == verdictAlive:
		d.fails, d.good, d.slow = 0, true, f.took >= slowAfter
		if !f.less {
			d.pace.Faster(d.most)
		}
		t.lanes.move(d, d.answers(name))
	case v == verdictDead && (probe || d.fails == 0):
		// What began before the destination was found dead says nothing new.
		d.fails++
		d.good = false
		d.pace.Slower(d.taken+1, f.reason, now)
		if !own(name) {
			t.lanes.move(d, laneSuspect)
		}
		fallthrough
	case probe && !f.crowded: // else nobody was called, and it rests
		d.until = now.Add(min(t.plan.Wait(d.fails, jitter), probeMax))
	}
	d.letOthers(f, now, jitter)
	return t.call(d.tell(nil, name, now), now)
}

// letOthers makes a destination rest, whose attempt was not made as others hold what
// it needs. One that was made ends the rest.
func (d *dest) letOthers(f finding, now time.Time, jitter float64) {
	if !f.crowded {
		d.rests, d.rest = 0, time.Time{}
		return
	}
	d.bucket.Back(d.rate.Every())
	if f.rest > 0 {
		if at := now.Add(f.rest); at.Before(d.rest) || !d.rest.After(now) {
			d.rest = at
		}
		return
	}
	if !d.rest.After(now) { // those that were under way together begin one rest
		d.rests++
		wait := float64(min(restMin<<min(d.rests-1, 8), restMax))
		d.rest = now.Add(time.Duration(wait * (1 + jitterShare*jitter)))
	}
}

// restMin and restMax bound how long a destination lets others go first that hold what
// its attempts need. It rests twice as long each time.
const (
	restMin = time.Second
	restMax = time.Minute
)

// wanted is the pause that a destination is to have. Stragglers of a dead one do not
// keep the probe from its turn.
func (d *dest) wanted(now time.Time) time.Time {
	probing := d.probe && d.fails > 0 // a straggler may have found it alive meanwhile
	if d.parked || probing || d.fails == 0 && d.taken >= d.pace.Limit {
		return forever
	}
	until := d.rest
	if d.fails > 0 && d.until.After(until) {
		until = d.until
	}
	if next := d.next(now); next.After(until) {
		until = next
	}
	return until
}

// tell adds the pause of d to ps, if the spool knows another one. One that is over
// is none.
func (d *dest) tell(ps []pause, name postrider.Dest, now time.Time) []pause {
	want := d.wanted(now)
	if !want.After(now) {
		want = time.Time{}
	}
	if !d.told.After(now) {
		d.told = time.Time{}
	}
	if want.Equal(d.told) {
		return ps
	}
	d.told = want
	return append(ps, pause{name, want})
}

// hurry ends the pauses of the named destinations that are dead or rest, of all if none
// is named, so that their next attempt is made as soon as their rate lets it.
func (t *dests) hurry(names []postrider.Dest, now time.Time) []pause {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(t.m))
	}
	var ps []pause
	for _, name := range names {
		d := t.m[name]
		if d == nil {
			continue
		}
		t.limit(name, d)
		d.rests, d.rest = 0, time.Time{} // or the clock that said until when was set back
		if d.fails > 0 && !d.probe {
			d.until = now
		}
		ps = d.tell(ps, name, now)
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

// forget drops what nobody came to for a long time: nothing waits there any more, or
// what was known of it is old. Called with the lock held.
func (t *dests) forget(now time.Time) {
	if len(t.m) < t.sweep {
		return
	}
	for name, d := range t.m {
		if d.taken == 0 && !d.parked && now.Sub(d.until) > probeMax && now.Sub(d.seen) > probeMax && !d.next(now).After(now) {
			delete(t.m, name)
		}
	}
	t.sweep = max(destsMin, 2*len(t.m))
}

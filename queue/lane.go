package queue

import (
	"strings"
	"time"

	"github.com/postrider/postrider"
)

// A destination that does not answer holds a slot until we give up waiting, many
// times as long as one that does. Thousands of them would take every slot; so
// those that are not known to answer have lanes, narrower than the road, and what
// finds no room in its lane waits in line there. Those that answer are never
// behind them, and nor are those that the operator named: they are few.
//
// Those that answer, slowly, hold slots as well. So each has only so many as leave
// some to the others, and they have a lane of their own, which is nearly as wide as
// the road: however many there are, an eighth of all is for those that are quick.

// A laneKind is what is known of a destination.
type laneKind uint8

const (
	laneOpen    laneKind = iota // it answers, or the operator named it: as many as crowds says
	laneFresh                   // nobody has tried it yet
	laneSuspect                 // it is dead, or its mail was tried before and nobody knows how that went
	laneSlow                    // it answers, and its attempts take long
	laneKinds
)

// slowAfter is how long an attempt takes that is slow.
const slowAfter = 5 * time.Second

// lanes are the lanes that have a bound. Their destinations are those of dests, whose
// lock guards them.
type lanes struct {
	all   int // attempts at a time
	most  int // attempts in the lanes at a time
	both  int // attempts in laneFresh and laneSuspect at a time
	open  int // attempts under way in none of the lanes
	looks int // calls of recall so far, and one
	lane  [laneKinds]lane
}

// A lane is how many attempts run in it, and which destinations wait for it.
type lane struct {
	most   int
	used   int
	calls  int              // destinations that were called since the last look and have not come yet
	late   int              // those that were called before it, and since the one before
	turns  int              // calls so far
	parked []postrider.Dest // who waits; some may not wait any more
}

// newLanes leaves a quarter of all attempts to the destinations that answer, half of
// that to those of them that are quick, and a quarter of the rest at least to those
// that nobody has tried.
func newLanes(all int) lanes {
	most, both := max(1, all-all/8), max(1, all-all/4)
	l := lanes{all: all, most: most, both: both, looks: 1}
	l.lane[laneFresh].most = both
	l.lane[laneSuspect].most = max(1, both-both/4)
	l.lane[laneSlow].most = most
	return l
}

// room is how many more attempts may begin in a lane; where those who were called are
// counted as if they had come, how many more may be called.
func (l *lanes) room(k laneKind, called bool) int {
	used := func(k laneKind) int {
		in := &l.lane[k]
		if called {
			return in.used + in.calls + in.late
		}
		return in.used
	}
	both := used(laneFresh) + used(laneSuspect)
	n := min(l.lane[k].most-used(k), l.most-both-used(laneSlow))
	if k == laneSlow {
		return n
	}
	return min(n, l.both-both)
}

// enter begins an attempt, or puts the destination in line.
func (l *lanes) enter(name postrider.Dest, d *dest, again bool) bool {
	called := d.called > 0
	if called {
		l.came(d) // to the lane that it was called to
	}
	if d.taken == 0 {
		switch {
		case own(name):
			d.lane = laneOpen
		case d.fails > 0:
			d.lane = laneSuspect
		case d.good:
			d.lane = d.answers(name)
		case again:
			d.lane = laneSuspect
		default:
			d.lane = laneFresh
		}
	}
	if l.crowds(d) {
		l.park(name, d)
		return false
	}
	if d.lane == laneOpen {
		l.open++
		return true
	}
	in := &l.lane[d.lane]
	if !called && len(in.parked) > 0 || l.room(d.lane, false) <= 0 {
		l.park(name, d)
		return false
	}
	in.used++
	return true
}

// answers is the lane of a destination that is known to answer.
func (d *dest) answers(name postrider.Dest) laneKind {
	if d.slow && !own(name) {
		return laneSlow
	}
	return laneOpen
}

// own reports whether the operator named the destination: folders of this machine, or a
// host of a route. One that does not answer holds no more slots than each may have, and
// nobody's mail for it waits behind a thousand strangers that do not.
func own(name postrider.Dest) bool {
	kind, _, _ := strings.Cut(string(name), ":")
	return kind == "local" || kind == "lmtp" || kind == "smtp" || kind == "smtps"
}

// crowds reports whether another attempt at a destination, of which some are under way,
// would leave too few to others: it has three times as many as are left but for an
// eighth of all. So a few have what they want, many have the same, and however many
// there are, an eighth is for those that have none.
func (l *lanes) crowds(d *dest) bool {
	left := l.all - l.open - l.lane[laneFresh].used - l.lane[laneSuspect].used
	if d.lane != laneOpen {
		left = min(left, l.room(d.lane, false))
	}
	return d.taken > 0 && d.taken >= 3*(left-l.all/8)
}

// came counts a called destination as one that has come.
func (l *lanes) came(d *dest) {
	in := &l.lane[d.lane]
	switch l.looks - d.called {
	case 0:
		in.calls = max(0, in.calls-1)
	case 1:
		in.late = max(0, in.late-1)
	}
	d.called = 0
}

// park puts the destination in line. One that has an attempt under way is not in line for
// a second one: it asks again when that has ended.
func (l *lanes) park(name postrider.Dest, d *dest) {
	if d.parked = true; d.taken == 0 {
		l.lane[d.lane].parked = append(l.lane[d.lane].parked, name)
	}
}

// leave ends an attempt.
func (l *lanes) leave(d *dest) {
	d.parked = false
	*l.count(d.lane)--
}

// move takes the attempts of d that go on to another lane, after one has left.
func (l *lanes) move(d *dest, to laneKind) {
	*l.count(d.lane) -= d.taken
	d.lane = to
	*l.count(to) += d.taken
}

// count is where the attempts in a lane are counted.
func (l *lanes) count(k laneKind) *int {
	if k == laneOpen {
		return &l.open
	}
	return &l.lane[k].used
}

// waiting reports whether some destination waits for a lane.
func (t *dests) waiting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.lanes.lane {
		if len(t.lanes.lane[k].parked) > 0 {
			return true
		}
	}
	return false
}

// recall calls others in the place of those that were called before the last look and
// have not come, as they may have nothing left to send. The others may be on their way,
// and not all of them could begin if more were called.
func (t *dests) recall(now time.Time) []pause {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lanes.looks++
	for k := range t.lanes.lane {
		in := &t.lanes.lane[k]
		in.calls, in.late = 0, in.calls
	}
	return t.call(nil, now)
}

// pop takes who comes next out of the line: who waits longest, and of those that nobody
// has tried every other time who has come last. So new mail for a host that answers
// does not wait for a thousand that do not, and nobody waits for ever.
func (in *lane) pop(k laneKind) postrider.Dest {
	last := len(in.parked) - 1
	name := in.parked[0]
	if in.turns++; k == laneFresh && in.turns%2 == 0 {
		name, in.parked = in.parked[last], in.parked[:last]
		return name
	}
	in.parked = in.parked[1:]
	return name
}

// call lets those come who are next, as many as there is room for.
func (t *dests) call(ps []pause, now time.Time) []pause {
	for k := laneFresh; k < laneKinds; k++ {
		in := &t.lanes.lane[k]
		for len(in.parked) > 0 && t.lanes.room(k, true) > 0 {
			name := in.pop(k)
			d := t.m[name]
			if d == nil || !d.parked || d.lane != k {
				continue
			}
			d.parked, d.called = false, t.lanes.looks
			in.calls++
			ps = d.tell(ps, name, now)
		}
	}
	return ps
}

package queue

import (
	"cmp"
	"slices"
	"time"

	"github.com/postrider/postrider"
)

// paceStart is how many attempts a destination has at a time of which nothing is
// known. One that answers has more with every message.
const paceStart = 5

// A pace is how many attempts a destination may have at a time. It is halved when
// a host wants less of us and when none answers, and raised by what is delivered:
// up to half of what was too much by one for each message, from there on by one
// for as many messages as go at a time. So it comes back fast to where it was well,
// and feels its way on slowly.
type pace struct {
	limit  int
	goal   int       // up to which each message counts
	wins   int       // messages since the last step
	reason string    // why it was lowered last; empty: it is as high as may be, or never was
	since  time.Time // of reason
}

func startPace(most int) pace { return pace{limit: min(paceStart, most), goal: most} }

// slower halves the pace. Others are the attempts that go on.
func (p *pace) slower(others int, reason string, now time.Time) {
	p.limit = max(1, min(p.limit, others+1)/2)
	p.goal, p.wins = p.limit, 0
	p.reason, p.since = reason, now
}

// faster counts a message that came through.
func (p *pace) faster(most int) {
	if p.limit < most {
		if p.wins++; p.limit < p.goal || p.wins >= p.limit {
			p.limit, p.wins = p.limit+1, 0
		}
	}
	if p.limit >= most {
		p.reason, p.since = "", time.Time{}
	}
}

// A Pace is how a destination is treated that is not at its full pace, and why.
type Pace struct {
	Dest    postrider.Dest
	Limit   int // attempts at a time
	Running int
	Probe   time.Time // of one where nobody answers: the next attempt; zero: somebody does
	Reason  string    // what a peer said, or what broke
	Since   time.Time
}

// Slowed returns the destinations whose pace was lowered, in the order of their names.
func (q *Queue) Slowed() []Pace {
	t := q.dests
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Pace
	for name, d := range t.m {
		if d.pace.reason == "" {
			continue
		}
		p := Pace{Dest: name, Limit: d.pace.limit, Running: d.taken, Reason: d.pace.reason, Since: d.pace.since}
		if d.fails > 0 {
			p.Limit, p.Probe = 1, d.until
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Pace) int { return cmp.Compare(a.Dest, b.Dest) })
	return all
}

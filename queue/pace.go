package queue

import (
	"cmp"
	"slices"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/internal/pace"
)

// paceStart is how many attempts a destination has at a time of which nothing is
// known. One that answers has more with every message.
const paceStart = 5

// A Pace is how a destination is treated that is not at its full pace, and why.
type Pace struct {
	Dest    postrider.Dest
	Limit   int // attempts at a time
	Most    int // as many as may be
	Running int
	Probe   time.Time // of one where nobody answers: the next attempt; zero: somebody does
	Reason  string    // what a peer said, or what broke; empty: nothing but the rate
	Since   time.Time // of Reason
	Rate    postrider.Rate
	Next    time.Time // when Rate lets the next message go; zero: now
}

// Slowed returns the destinations whose pace was lowered, or whose rate lets nothing go
// now, in the order of their names.
func (q *Queue) Slowed() []Pace {
	now := q.opt.Now()
	t := q.dests
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Pace
	for name, d := range t.m {
		p := Pace{Dest: name, Limit: d.pace.Limit, Most: d.most, Running: d.taken, Reason: d.pace.Reason, Since: d.pace.Since, Rate: d.rate}
		if next := d.next(now); next.After(now) {
			p.Next = next
		}
		if p.Reason == "" && p.Next.IsZero() {
			continue
		}
		if d.fails > 0 {
			p.Limit, p.Probe = 1, d.until
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Pace) int { return cmp.Compare(a.Dest, b.Dest) })
	return all
}

// limit gives the destination the limits of the configuration as it is.
func (t *dests) limit(name postrider.Dest, d *dest) {
	if d.asked == t.turn {
		return
	}
	d.asked = t.turn
	var l postrider.Limits
	if t.limits != nil {
		l = t.limits(name)
	}
	d.most, d.rate = t.mostOf(name), l.Rate
	if l.Connections > 0 {
		d.most = l.Connections
	}
	d.pace.Change(d.most)
}

// begin makes a destination that nothing is known of.
func (t *dests) begin(name postrider.Dest, now time.Time) *dest {
	d := &dest{seen: now, asked: t.turn - 1}
	t.limit(name, d)
	start := paceStart
	if t.mostOf(name) != t.most {
		start = d.most
	}
	d.pace = pace.Start(start, d.most)
	if every := d.rate.Every(); every > 0 {
		d.bucket = pace.NewBucket(every, t.born)
	}
	return d
}

// next is when the rate lets the next message go; a time that is not after now: at once.
func (d *dest) next(now time.Time) time.Time {
	if every := d.rate.Every(); every > 0 {
		return d.bucket.Next(every, now)
	}
	return time.Time{}
}

package pace

import "time"

// slack is how late one may come whom the next need not wait for: what it has lost
// is made up.
const slack = 100 * time.Millisecond

// lineMax is how far ahead turns are given. Who comes later has the turn of another,
// too: not all that was given a turn takes it.
const lineMax = 10 * time.Minute

// A Bucket lets one go after another, a time apart that is handed in each time, as it
// may change. It never holds more than one, and what slack makes up: in any time there
// go at most as many as fit into it and slack together, and one.
type Bucket struct {
	next time.Time // when the next may go
	line time.Time // the turn of who comes to stand in line
}

// NewBucket returns a Bucket that is empty at a time. It may be one where something
// went before, of which nothing is known any more.
func NewBucket(every time.Duration, born time.Time) Bucket { return Bucket{next: born.Add(every)} }

// Next is when the next may go. It is never further away than every, whatever happened
// to every or to the clock.
func (b *Bucket) Next(every time.Duration, now time.Time) time.Time {
	if most := now.Add(every); b.next.After(most) {
		b.next = most
	}
	return b.next
}

// Take lets one go, or not: it is too early.
func (b *Bucket) Take(every time.Duration, now time.Time) bool {
	if b.Next(every, now).After(now) {
		return false
	}
	if late := now.Add(-slack); b.next.Before(late) {
		b.next = late
	}
	b.next = b.next.Add(every)
	return true
}

// Back takes back a Take: it did not go.
func (b *Bucket) Back(every time.Duration) { b.next = b.next.Add(-every) }

// Book gives who was not let go a turn: the time to come again. Each has a turn of
// its own, so that a thousand do not come for one place, and nobody comes last each time.
func (b *Bucket) Book(every time.Duration, now time.Time) time.Time {
	at := b.Next(every, now)
	if b.line.After(at) && b.line.Sub(now) <= lineMax {
		at = b.line
	}
	b.line = at.Add(every)
	return at
}

// Forget ends the line: all come again.
func (b *Bucket) Forget() { b.line = time.Time{} }

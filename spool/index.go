package spool

import (
	"math"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// The index is what the spool keeps in memory of each message: where its
// records lie, and for each recipient when and in which queue it is due. It is
// built from the log at start. Everything here is guarded by Spool.mu, which is
// never held across I/O.

// never is a time that does not come.
const never = math.MaxInt64

// A location is where a record begins.
type location struct {
	seg *segment
	off int64
}

// An entry is one message. There may be millions: what is here is kept small.
type entry struct {
	id       postrider.ID
	loc      location // its kindAccept or kindMove record
	prev     *entry   // of the messages of loc.seg
	next     *entry
	recLen   int64 // of that record, for the balance of live octets
	arrived  int64
	wake     int64 // never: nothing to look at
	rcpts    []rcptState
	out      *outing // nil: no lease of it is out
	wakePos  int32   // in Spool.wakes; -1: not there
	open     int32   // recipients that are not yet settled and reported
	untried  int32   // recipients in, or before, their first attempt
	owed     int32   // recipients settled and not reported
	priority int8    // MT-PRIORITY (RFC 6710)
	again    bool    // accepted before the spool was opened
	big      bool
	stuck    bool // its records cannot be read to be moved; the committer's own
}

// An outing is what is kept of a message while leases of it are out.
type outing struct {
	leases    int
	msg       *postrider.Message // as accepted; nil: not read yet
	waking    bool               // a Wake lease is out, and this is its token
	wakeToken uint64
	later     int64 // when to wake after it
}

// askWake puts into the record that ends a Wake lease when to look again that
// was asked for while the lease was out: a start reads there that what was asked
// before is over.
func (o *outing) askWake(st *state) {
	switch {
	case !o.waking:
	case !st.woke && st.wake > 0:
		o.later = min(o.later, st.wake)
	case st.woke && o.later != never && (st.wake == 0 || o.later < st.wake):
		st.wake = o.later
	}
}

// waking reports whether a Wake lease of e is out.
func (e *entry) waking() bool { return e.out != nil && e.out.waking }

// A rcptState is one recipient of an entry.
type rcptState struct {
	due      int64
	dest     *destQueue
	parcel   *parcel  // nil: settled, or leased
	last     location // the newest record about it; zero: the entry's own
	tries    uint32
	state    postrider.State
	reported bool
	leased   bool
	held     bool
	passed   bool
	want     *wanted // asked for while leased: to bounce or to drop; nil: nothing
}

func (r *rcptState) closed() bool { return r.state != postrider.Waiting && r.reported }
func (r *rcptState) owes() bool   { return r.state != postrider.Waiting && !r.reported }
func (r *rcptState) fresh() bool  { return r.state == postrider.Waiting && r.tries == 0 }

// count adds what r contributes to the counters of its entry, n times.
func (e *entry) count(r *rcptState, n int32) {
	if !r.closed() {
		e.open += n
	}
	if r.owes() {
		e.owed += n
	}
	if r.fresh() {
		e.untried += n
	}
}

// A parcel is recipients of one entry that wait for one destination until one
// time.
type parcel struct {
	e    *entry
	dest *destQueue
	due  int64
	many *[]int32 // nil: it is one recipient
	one  [1]int32
	pos  int32 // in destQueue.parcels, or destQueue.ripe
	ripe bool  // in the latter
}

// rcpts are the recipients, ascending.
func (p *parcel) rcpts() []int32 {
	if p.many != nil {
		return *p.many
	}
	return p.one[:]
}

func (p *parcel) add(i int32) {
	all := append(p.rcpts(), i)
	p.many = &all
}

// A destQueue is what waits for one destination.
type destQueue struct {
	key     postrider.Dest
	parcels heap[*parcel] // what is not due, or was not when last looked at: earliest first
	ripe    heap[*parcel] // what is due, by rank (rank.go)
	paused  int64         // until when; 0: not
	pos     int           // in Spool.ready; -1: nothing waits
	ripePos int           // in Spool.ripe; -1: nothing is due, or it is paused
}

// len is how many parcels wait.
func (d *destQueue) len() int { return len(d.parcels.items) + len(d.ripe.items) }

// next is when more of the destination can be claimed: something of it ripens, or
// its pause ends.
func (d *destQueue) next() int64 {
	switch {
	case d.len() == 0 || d.key == postrider.DestHold:
		return never
	case d.ripePos < 0 && len(d.ripe.items) > 0:
		return d.paused
	case len(d.parcels.items) == 0:
		return never
	}
	return max(d.parcels.items[0].due, d.paused)
}

func parcelLess(a, b *parcel) bool {
	if a.due != b.due {
		return a.due < b.due
	}
	if a.e != b.e {
		return a.e.id < b.e.id
	}
	return a.rcpts()[0] < b.rcpts()[0]
}

func destLess(a, b *destQueue) bool {
	if an, bn := a.next(), b.next(); an != bn {
		return an < bn
	}
	return a.key < b.key
}

func wakeLess(a, b *entry) bool {
	if a.wake != b.wake {
		return a.wake < b.wake
	}
	return a.id < b.id
}

// dest returns the queue of a key, made if need be.
func (s *Spool) dest(key postrider.Dest) *destQueue {
	d := s.dests[key]
	if d == nil {
		d = &destQueue{key: key, pos: -1, ripePos: -1}
		place := func(p *parcel, i int) { p.pos = int32(i) }
		d.parcels = heap[*parcel]{less: parcelLess, place: place}
		d.ripe = heap[*parcel]{less: rankLess, place: place}
		s.dests[key] = d
	}
	return d
}

// settleDest puts d where it belongs after its parcels or its pause changed,
// and forgets it when nothing is left of it.
func (s *Spool) settleDest(d *destQueue) {
	if d.ripePos >= 0 {
		if len(d.ripe.items) == 0 {
			s.unripe(d)
		} else {
			s.ripe.fix(d.ripePos)
		}
	}
	switch {
	case d.len() == 0 && d.pos >= 0:
		s.ready.remove(d.pos)
		d.pos = -1
	case d.len() > 0 && d.pos < 0:
		s.ready.push(d)
	case d.pos >= 0:
		s.ready.fix(d.pos)
	}
	if d.len() == 0 && d.paused == 0 {
		delete(s.dests, d.key)
	}
}

// detach takes a waiting recipient's whole parcel out of its queue.
func (s *Spool) detach(p *parcel) {
	if p.ripe {
		p.dest.ripe.remove(int(p.pos))
	} else {
		p.dest.parcels.remove(int(p.pos))
	}
	for _, i := range p.rcpts() {
		p.e.rcpts[i].parcel = nil
	}
	s.settleDest(p.dest)
}

// enqueue forms parcels of those of the given recipients that wait and are not
// leased, and puts them into their queues.
func (s *Spool) enqueue(e *entry, rcpts []int32) {
	var made []*parcel
next:
	for _, i := range rcpts {
		r := &e.rcpts[i]
		if r.state != postrider.Waiting || r.leased || r.held || r.parcel != nil {
			continue
		}
		for _, p := range made {
			if p.dest.key == r.dest.key && p.due == r.due {
				p.add(i)
				r.parcel = p
				continue next
			}
		}
		r.dest = s.dest(r.dest.key)
		p := &parcel{e: e, dest: r.dest, due: r.due, one: [1]int32{i}}
		r.parcel = p
		made = append(made, p)
	}
	for _, p := range made {
		p.dest.parcels.push(p)
		s.settleDest(p.dest)
	}
}

// setWake places e among the messages that want to be looked at.
func (s *Spool) setWake(e *entry, at int64) {
	e.wake = at
	switch {
	case at == never && e.wakePos >= 0:
		s.wakes.remove(int(e.wakePos))
		e.wakePos = -1
	case at != never && e.wakePos < 0:
		s.wakes.push(e)
	case at != never:
		s.wakes.fix(int(e.wakePos))
	}
}

// wakeBy sees to it that e is looked at by the given time.
func (s *Spool) wakeBy(e *entry, at int64) {
	switch {
	case e.waking():
		e.out.later = min(e.out.later, at)
	case at < e.wake:
		s.setWake(e, at)
	}
}

// ripen wakes a message at once that owes a report and waits for no first
// attempt any more.
func (s *Spool) ripen(e *entry, now int64) {
	if e.owed > 0 && e.untried == 0 {
		s.wakeBy(e, now)
	}
}

// insert adds a message to the index. Its recipients have no queue before
// Rekey was called.
func (s *Spool) insert(a *accepted, loc location, recLen int64) *entry {
	m := a.msg
	e := &entry{id: m.ID, arrived: nanos(m.Arrived), wake: never, wakePos: -1, big: a.big, priority: m.Priority}
	e.rcpts = make([]rcptState, len(m.Recipients))
	for i := range m.Recipients {
		r := &m.Recipients[i]
		e.rcpts[i] = rcptState{due: nanos(r.Due), state: r.State, reported: r.Reported, tries: uint32(r.Tries), held: r.Held, passed: r.Passed}
		e.count(&e.rcpts[i], 1)
		if r.State == postrider.Waiting {
			s.waiting++
		}
	}
	s.entries[m.ID] = e
	s.place(e, loc, recLen)
	if a.wake > 0 {
		s.setWake(e, a.wake)
	}
	return e
}

// place says where the record of a message lies now.
func (s *Spool) place(e *entry, loc location, recLen int64) {
	if e.loc.seg != nil {
		e.loc.seg.unlink(e)
		s.liveBytes -= e.recLen
	}
	e.loc, e.recLen = loc, recLen
	loc.seg.link(e)
	s.liveBytes += recLen
}

// key gives every waiting recipient its queue, and joins those that share one.
func (s *Spool) key(e *entry, tos []smtp.Path) {
	all := make([]int32, 0, len(e.rcpts))
	for i := range e.rcpts {
		r := &e.rcpts[i]
		if r.state != postrider.Waiting {
			continue
		}
		if r.parcel != nil {
			s.detach(r.parcel)
		}
		key := s.keyOf(tos[i])
		if r.passed {
			key = key.Past(tos[i])
		}
		r.dest = s.dest(key)
		all = append(all, int32(i))
	}
	s.enqueue(e, all)
}

// change makes recipient c.Rcpt what c says.
func (s *Spool) change(e *entry, c *postrider.Change, loc location) {
	r := &e.rcpts[c.Rcpt]
	e.count(r, -1)
	if r.state == postrider.Waiting {
		s.waiting--
	}
	if c.State == postrider.Waiting {
		s.waiting++
	}
	r.state, r.reported, r.tries = c.State, c.Reported, uint32(c.Tries)
	r.due = nanos(c.Due)
	r.last = loc
	e.count(r, 1)
}

// forgetDone forgets e if nothing is left of it to do.
func (s *Spool) forgetDone(e *entry) {
	if e.open == 0 {
		s.forget(e)
		s.discardBig(e)
	}
}

// forget drops a message of which nothing is left to do. A Wake lease that is
// still out holds nothing any more, and ends.
func (s *Spool) forget(e *entry) {
	if e.waking() {
		delete(s.leases, e.out.wakeToken)
	}
	s.setWake(e, never)
	e.loc.seg.unlink(e)
	s.liveBytes -= e.recLen
	delete(s.entries, e.id)
}

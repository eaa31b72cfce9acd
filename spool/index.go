package spool

import (
	"math"
	"strings"

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

// A spot is a location in 8 octets. Records begin at multiples of 8.
type spot struct {
	seg uint32 // segment.slot; 0: none
	off uint32 // in units of 8
}

func (s *Spool) location(at spot) location {
	if at.seg == 0 {
		return location{}
	}
	return location{s.slots[at.seg], int64(at.off) << 3}
}

func (at location) spot() spot {
	if at.seg == nil {
		return spot{}
	}
	return spot{at.seg.slot, uint32(at.off >> 3)}
}

// An entry is one message. There may be millions: it is 128 octets with its first
// recipient, and has no pointer (slab.go).
type entry struct {
	id       key
	arrived  int64
	wake     int64  // never: nothing to look at
	at       spot   // its kindAccept or kindMove record
	recLen   uint32 // of that record in units of 8, for the balance of live octets
	prev     ref    // of the messages of its segment
	next     ref
	link     ref // of those that share a bucket, or of free slots
	self     ref // 0: free
	gen      uint32
	wakePos  int32 // in Spool.wakes; -1: not there
	open     int32 // recipients that are not yet settled and reported
	untried  int32 // recipients in, or before, their first attempt
	owed     int32 // recipients settled and not reported
	priority int8  // MT-PRIORITY (RFC 6710)
	again    bool  // accepted before the spool was opened
	big      bool
	stuck    bool // its records cannot be read to be moved
	out      bool // it has an outing
	wanted   bool // it stands in Spool.wants
	future   bool // it stands in Spool.futures
	many     bool // its recipients are in Spool.many
	one      [1]rcptState
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

// outing returns the outing of e; nil: no lease of it is out.
func (s *Spool) outing(e *entry) *outing {
	if !e.out {
		return nil
	}
	return s.outings[e.self]
}

// waking reports whether a Wake lease of e is out.
func (s *Spool) waking(e *entry) bool { return e.out && s.outings[e.self].waking }

// A rcptState is one recipient of an entry. Its parcel, if it waits in one, is a
// list by sib, ascending; the first of it stands in the heap.
type rcptState struct {
	due    int64
	dest   uint32 // destQueue.num; 0: none yet
	domain uint32 // in Spool.domains
	why    uint32 // in Spool.replies: what was heard last
	sib    int32  // the next one of its parcel; 0: none
	pos    int32  // in destQueue.parcels or destQueue.ripe, or one of the values below
	last   spot   // the newest record about it; zero: the entry's own
	tries  uint16 // as far as they can be counted so
	state  postrider.State
	is     traits
}

// What stands in rcptState.pos of a recipient that is not the first of a parcel.
const (
	posNone   = -1 // in none: settled, held or leased
	posBehind = -2 // behind the first
)

// Traits are what a recipient may be.
type traits uint8

const (
	isReported traits = 1 << iota
	isLeased
	isHeld
	isPassed
	isRipe    // first of a parcel in destQueue.ripe
	isDelayed // its sender was told that it is late
	isOrdered // a bounce or a drop of it is being written down: nobody may have it
)

func (t traits) has(what traits) bool { return t&what != 0 }

func (t *traits) set(what traits, on bool) {
	*t &^= what
	if on {
		*t |= what
	}
}

func (r *rcptState) closed() bool { return r.state != postrider.Waiting && r.is.has(isReported) }
func (r *rcptState) owes() bool   { return r.state != postrider.Waiting && !r.is.has(isReported) }
func (r *rcptState) fresh() bool  { return r.state == postrider.Waiting && r.tries == 0 }

// triesOf is a number of tries as an entry counts it.
func triesOf(n int) uint16 { return uint16(min(max(n, 0), math.MaxUint16)) }

// rcpts are the recipients of e.
func (s *Spool) rcpts(e *entry) []rcptState {
	if e.many {
		return s.many[e.self]
	}
	return e.one[:]
}

// Where waiting recipients stand, for those who count them.
const (
	standQueued = iota // not tried yet
	standActive
	standDeferred
	standHeld
	stands // how many there are
)

// count adds what r contributes to the counters, n times. Whoever changes a
// recipient takes it off before and adds it after.
func (s *Spool) count(e *entry, r *rcptState, n int32) {
	if !r.closed() {
		e.open += n
	}
	if r.owes() {
		e.owed += n
	}
	if r.fresh() {
		e.untried += n
	}
	if r.state != postrider.Waiting {
		return
	}
	s.waiting += int(n)
	where := s.standOf(r)
	s.stand[where] += int(n)
	if d := s.queues[r.dest]; d != nil {
		d.stand[where] += n
	}
}

// standOf says where a recipient stands that waits.
func (s *Spool) standOf(r *rcptState) int {
	d := s.queues[r.dest]
	switch {
	case r.is.has(isLeased):
		return standActive
	case r.is.has(isHeld) || d != nil && d.key == postrider.DestHold:
		return standHeld
	case r.tries > 0:
		return standDeferred
	}
	return standQueued
}

func (s *Spool) wakeLess(a, b ref) bool {
	ae, be := s.slab.get(a), s.slab.get(b)
	if ae.wake != be.wake {
		return ae.wake < be.wake
	}
	return ae.id.less(be.id)
}

// initIndex makes an index of nothing.
func (s *Spool) initIndex() {
	s.slab = slab{}
	s.many, s.outings = map[ref][]rcptState{}, map[ref]*outing{}
	s.wants = map[ref]map[int32]*wanted{}
	s.futures, s.futureOf = map[string]map[ref]int64{}, map[ref]string{}
	s.dests, s.queues, s.freeQueues = map[postrider.Dest]*destQueue{}, make([]*destQueue, 1), nil
	s.leases = map[uint64]*lease{}
	s.domains, s.replies = interner{}, interner{}
	s.waiting, s.liveBytes, s.stand = 0, 0, [stands]int{}
	place := func(p parcel, i int) { _, r := s.first(p); r.pos = int32(i) }
	s.byDue = &order[parcel]{s.parcelLess, place}
	s.byRank = &order[parcel]{s.rankLess, place}
	s.ready = heap[*destQueue]{by: &order[*destQueue]{s.destLess, func(d *destQueue, i int) { d.pos = int32(i) }}}
	s.ripe = heap[*destQueue]{by: &order[*destQueue]{s.ripeDestLess, func(d *destQueue, i int) { d.ripePos = int32(i) }}}
	s.wakes = heap[ref]{by: &order[ref]{s.wakeLess, func(at ref, i int) { s.slab.get(at).wakePos = int32(i) }}}
}

// Bounds of the texts that the index keeps, in octets.
const (
	replyMax   = 200     // of the text of a reply; the log has all of it
	repliesMax = 4 << 20 // of all of them; beyond it a reply is its numbers
)

// setWhy keeps what was heard last about r.
func (s *Spool) setWhy(r *rcptState, reply smtp.Reply) {
	s.replies.drop(r.why)
	r.why = 0
	if reply.Code == 0 {
		return
	}
	reply.Text = reply.Text[:min(len(reply.Text), replyMax)]
	e := encoder{s.scratch[:0]}
	e.reply(reply)
	if r.why = s.replies.add(e.b, repliesMax); r.why == 0 {
		reply.Text, e.b = "", e.b[:0]
		e.reply(reply)
		r.why = s.replies.add(e.b, math.MaxInt)
	}
	s.scratch = e.b
}

// setDomain keeps the domain of r.
func (s *Spool) setDomain(r *rcptState, domain string) {
	s.scratch = append(s.scratch[:0], strings.ToLower(domain)...)
	r.domain = s.domains.add(s.scratch, math.MaxInt)
}

// setWake places e among the messages that want to be looked at.
func (s *Spool) setWake(e *entry, at int64) {
	e.wake = at
	switch {
	case at == never && e.wakePos >= 0:
		s.wakes.remove(int(e.wakePos))
		e.wakePos = -1
	case at != never && e.wakePos < 0:
		s.wakes.push(e.self)
	case at != never:
		s.wakes.fix(int(e.wakePos))
	}
}

// wakeBy sees to it that e is looked at by the given time.
func (s *Spool) wakeBy(e *entry, at int64) {
	switch {
	case s.waking(e):
		o := s.outing(e)
		o.later = min(o.later, at)
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

// newEntry adds a message of n recipients. It is of no segment and counted
// nowhere yet.
func (s *Spool) newEntry(k key, n int) *entry {
	e := s.slab.add(k)
	if e.many = n != 1; e.many {
		s.many[e.self] = make([]rcptState, n)
	}
	all := s.rcpts(e)
	for i := range all {
		all[i].pos = posNone
	}
	return e
}

// insert adds a message to the index. Its recipients have no queue before
// Rekey was called.
func (s *Spool) insert(a *accepted, loc location, recLen int64) *entry {
	m := a.msg
	k, _ := packID(m.ID)
	e := s.newEntry(k, len(m.Recipients))
	e.arrived, e.big, e.priority = nanos(m.Arrived), a.big, m.Priority
	all := s.rcpts(e)
	for i := range m.Recipients {
		from, r := &m.Recipients[i], &all[i]
		r.due, r.state, r.tries = nanos(from.Due), from.State, triesOf(from.Tries)
		r.is.set(isReported, from.Reported)
		r.is.set(isDelayed, from.Delayed)
		r.is.set(isHeld, from.Held)
		r.is.set(isPassed, from.Passed)
		s.setDomain(r, from.To.Domain)
		s.setWhy(r, from.Reply)
		s.count(e, r, 1)
	}
	s.place(e, loc, recLen)
	s.setFuture(e, m.Source.Account, nanos(m.Release))
	if a.wake > 0 {
		s.setWake(e, a.wake)
	}
	return e
}

// setFuture notes when a message is to be released that an account has sent.
func (s *Spool) setFuture(e *entry, account string, release int64) {
	if release == 0 {
		return
	}
	e.future = true
	s.futureOf[e.self] = account
	all := s.futures[account]
	if all == nil {
		all = map[ref]int64{}
		s.futures[account] = all
	}
	all[e.self] = release
}

// place says where the record of a message lies now.
func (s *Spool) place(e *entry, loc location, recLen int64) {
	if e.at.seg != 0 {
		s.unlink(e)
	}
	e.at, e.recLen = loc.spot(), uint32(recLen>>3)
	s.link(e)
}

// change makes recipient c.Rcpt what c says. It waits in no parcel.
func (s *Spool) change(e *entry, c *postrider.Change, loc location) {
	r := &s.rcpts(e)[c.Rcpt]
	s.count(e, r, -1)
	r.state, r.tries = c.State, triesOf(c.Tries)
	r.is.set(isReported, c.Reported)
	r.is.set(isDelayed, c.Delayed)
	r.due = nanos(c.Due)
	r.last = loc.spot()
	s.setWhy(r, c.Reply)
	s.count(e, r, 1)
}

// forgetDone forgets e if nothing is left of it to do.
func (s *Spool) forgetDone(e *entry) {
	if e.open == 0 {
		if e.big {
			s.discardBig(e.id.name())
		}
		s.forget(e)
	}
}

// forget drops a message of which nothing is left to do. A Wake lease that is
// still out holds nothing any more, and ends.
func (s *Spool) forget(e *entry) {
	if s.waking(e) {
		delete(s.leases, s.outing(e).wakeToken)
	}
	s.setWake(e, never)
	if e.at.seg != 0 {
		s.fresh.forget(s.location(e.at))
		s.unlink(e)
	}
	all := s.rcpts(e)
	for i := range all {
		r := &all[i]
		s.detach(e, int32(i))
		s.count(e, r, -1)
		s.setDest(r, nil)
		s.domains.drop(r.domain)
		s.replies.drop(r.why)
	}
	delete(s.outings, e.self)
	delete(s.wants, e.self)
	if e.many {
		delete(s.many, e.self)
	}
	if e.future {
		account := s.futureOf[e.self]
		if delete(s.futures[account], e.self); len(s.futures[account]) == 0 {
			delete(s.futures, account)
		}
		delete(s.futureOf, e.self)
	}
	s.slab.remove(e)
}

// link adds e, whose record was just written, to the messages of its segment.
func (s *Spool) link(e *entry) {
	g := s.slots[e.at.seg]
	e.prev, e.next = g.tail, 0
	if g.tail != 0 {
		s.slab.get(g.tail).next = e.self
	} else {
		g.head = e.self
	}
	g.tail = e.self
	s.liveBytes += int64(e.recLen) << 3
}

// unlink takes e out of the messages of its segment.
func (s *Spool) unlink(e *entry) {
	g := s.slots[e.at.seg]
	if e.prev != 0 {
		s.slab.get(e.prev).next = e.next
	} else {
		g.head = e.next
	}
	if e.next != 0 {
		s.slab.get(e.next).prev = e.prev
	} else {
		g.tail = e.prev
	}
	e.prev, e.next, e.at = 0, 0, spot{}
	s.liveBytes -= int64(e.recLen) << 3
}

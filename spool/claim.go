package spool

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A lease is one that is out.
type lease struct {
	e        handle
	id       postrider.ID
	why      postrider.Why
	rcpts    []int32
	one      [1]int32 // what rcpts is of, mostly
	settling bool     // a batch with its settlement is being written
}

// recheckAfter bounds every wait for a due time: the wall clock may be set
// forward while we wait.
const recheckAfter = time.Minute

// Claim implements postrider.Spool.
func (s *Spool) Claim(ctx context.Context, maxRcpts int) (postrider.Lease, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return postrider.Lease{}, postrider.ErrClosed
		}
		now := s.now().UnixNano()
		l, ok := s.take(now, max(1, maxRcpts))
		if ok {
			s.mu.Unlock()
			return l, nil
		}
		next := s.nextTime()
		if s.sooner == nil {
			s.sooner, s.awaited = make(chan struct{}), next
		}
		s.awaited = max(s.awaited, next) // of all who wait, and of some who have left
		changed := s.sooner
		s.mu.Unlock()
		if err := waitUntil(ctx, next, now, changed); err != nil {
			return postrider.Lease{}, err
		}
	}
}

// waitUntil waits for the time next, for a change, or for the end of ctx.
func waitUntil(ctx context.Context, next, now int64, changed <-chan struct{}) error {
	wait := recheckAfter
	if next-now < int64(wait) {
		wait = time.Duration(next - now)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-timer.C:
	}
	return nil
}

// nextTime is when the next lease can be given.
func (s *Spool) nextTime() int64 {
	next := int64(never)
	if len(s.ripe.items) > 0 {
		return 0
	}
	if len(s.ready.items) > 0 {
		next = s.next(s.ready.items[0])
	}
	if len(s.wakes.items) > 0 {
		next = min(next, s.slab.get(s.wakes.items[0]).wake)
	}
	return next
}

// take gives the lease that ranks first of those whose time has come.
func (s *Spool) take(now int64, maxRcpts int) (postrider.Lease, bool) {
	if s.keyOf == nil {
		return postrider.Lease{}, false
	}
	s.mature(now)
	wake := int64(never)
	if len(s.wakes.items) > 0 {
		wake = s.slab.get(s.wakes.items[0]).wake
	}
	wakes := wake <= now
	switch {
	case len(s.ripe.items) > 0 && (!wakes || s.rank(s.ripe.items[0]) <= wake):
		return s.takeParcel(maxRcpts), true
	case wakes:
		return s.takeWake(), true
	}
	return postrider.Lease{}, false
}

// takeParcel leases the first of what a parcel holds. The rest keeps its place.
func (s *Spool) takeParcel(maxRcpts int) postrider.Lease {
	d := s.ripe.items[0]
	p := d.ripe.items[0]
	e := s.slab.get(p.e)
	all := s.rcpts(e)
	var few [1]int32
	rcpts, tried := few[:0], false
	i := p.i
	for {
		r := &all[i]
		rcpts = append(rcpts, i)
		tried = tried || r.tries > 0
		s.count(e, r, -1)
		r.is.set(isRipe, false)
		r.is.set(isLeased, true)
		s.count(e, r, 1)
		i, r.sib, r.pos = r.sib, 0, posNone
		if i == 0 || len(rcpts) == maxRcpts {
			break
		}
	}
	if i == 0 {
		d.ripe.remove(0)
	} else {
		all[i].is.set(isRipe, true)
		all[i].pos = 0
		d.ripe.items[0] = parcel{p.e, i}
		d.ripe.fix(0)
	}
	s.settleDest(d)
	l := s.lease(e, postrider.Attempt, rcpts)
	l.Dest, l.Again = d.key, tried || e.again
	return l
}

func (s *Spool) takeWake() postrider.Lease {
	e := s.slab.get(s.wakes.items[0])
	s.setWake(e, never)
	var rcpts []int32
	all := s.rcpts(e)
	for i := range all {
		r := &all[i]
		if r.is.has(isLeased|isOrdered) || r.closed() {
			continue
		}
		s.detach(e, int32(i))
		s.count(e, r, -1)
		r.is.set(isLeased, true)
		s.count(e, r, 1)
		rcpts = append(rcpts, int32(i))
	}
	l := s.lease(e, postrider.Wake, rcpts)
	o := s.outing(e)
	o.waking, o.wakeToken, o.later = true, l.Token, never
	return l
}

func (s *Spool) lease(e *entry, why postrider.Why, rcpts []int32) postrider.Lease {
	s.token++
	if !e.out {
		e.out = true
		s.outings[e.self] = &outing{}
	}
	s.outings[e.self].leases++
	out := &lease{e: e.handle(), id: e.id.name(), why: why}
	out.rcpts = append(out.one[:0], rcpts...)
	s.leases[s.token] = out
	l := postrider.Lease{ID: out.id, Token: s.token, Why: why, Rcpts: make([]int, len(rcpts))}
	for i, r := range rcpts {
		l.Rcpts[i] = int(r)
	}
	return l
}

// release ends a lease: what still waits goes back to its queue, unless an
// operator has wanted otherwise meanwhile.
func (s *Spool) release(token uint64, l *lease) {
	delete(s.leases, token)
	e := s.slab.at(l.e)
	all := s.rcpts(e)
	for _, i := range l.rcpts {
		r := &all[i]
		s.count(e, r, -1)
		r.is.set(isLeased, false)
		s.count(e, r, 1)
	}
	s.applyWants(e)
	s.enqueue(e, l.rcpts)
	o := s.outings[e.self]
	if o.leases--; o.leases == 0 {
		e.out = false
		delete(s.outings, e.self)
	}
}

// Pause implements postrider.Spool.
func (s *Spool) Pause(key postrider.Dest, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dest(key)
	d.paused = 0
	if !until.IsZero() {
		d.paused = pauseEnd(until)
	}
	if d.ripePos >= 0 {
		s.unripe(d)
	}
	s.settleDest(d)
	s.dropDest(d, 0)
	s.sweepPauses()
	s.kick()
}

// pauseEnd is until in nanoseconds; what is too far away for them is never.
func pauseEnd(until time.Time) int64 {
	if until.Unix() >= never/int64(time.Second) {
		return never
	}
	return until.UnixNano()
}

// sweepPauses forgets, now and then, pauses of empty queues that are over.
func (s *Spool) sweepPauses() {
	if len(s.dests) < 2*s.sweptDests+1024 {
		return
	}
	now := s.now().UnixNano()
	for _, d := range s.dests {
		s.dropDest(d, now)
	}
	s.sweptDests = len(s.dests)
}

// returnAfter is after the recovery of how many messages memory is given back to
// the system. What reading a log leaves behind is more than the index itself, and
// the collector would keep it for later.
const returnAfter = 10_000

// Rekey implements postrider.Spool.
func (s *Spool) Rekey(key func(to smtp.Path) postrider.Dest) { s.RekeyUntil(nil, key) }

// RekeyUntil is Rekey for a process that may end meanwhile: it goes no further when end
// is closed, or the spool. What keeps its old queues then has new ones at the next start.
func (s *Spool) RekeyUntil(end <-chan struct{}, key func(to smtp.Path) postrider.Dest) {
	s.mu.Lock()
	first := s.keyOf == nil
	s.keyOf = key
	was := s.recovered
	s.recovered = recovered{}
	was.each(func(h handle, tos []smtp.Path) {
		if e := s.slab.at(h); e != nil {
			s.key(e, tos)
		}
	})
	if len(was.all) >= returnAfter && !s.closed {
		s.snapshots.Go(debug.FreeOSMemory)
	}
	s.kick()
	s.mu.Unlock()
	if first {
		return
	}
	for _, o := range s.ordered(nil) { // in order of age, which is that of the log, and so of the disk
		select {
		case <-end:
			return
		default:
		}
		if !s.rekeyEntry(o.e) {
			return
		}
	}
}

// rekeyEntry reads the addresses of one message again to give it new queues; false: the
// spool is closed.
func (s *Spool) rekeyEntry(h handle) bool {
	m, err := s.read(h)
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed || errors.Is(err, postrider.ErrNotFound) {
		return !closed
	}
	if err != nil {
		s.alarm("spool: a message keeps its old queues: %v", err)
		return true
	}
	tos := make([]smtp.Path, len(m.Recipients))
	for i := range tos {
		tos[i] = m.Recipients[i].To
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.slab.at(h); e != nil {
		s.key(e, tos)
		s.kick()
	}
	return true
}

// kick wakes every Claim that waits, if there is something for it earlier than it
// knew, and everybody who waits for what is durable, if there is more of it.
func (s *Spool) kick() {
	if s.sooner != nil && (s.closed || s.nextTime() < s.awaited) {
		close(s.sooner)
		s.sooner = nil
	}
	if told := (durable{s.synced, s.abandons, s.closed}); s.changed != nil && told != s.told {
		close(s.changed)
		s.changed, s.told = nil, told
	}
}

// A durable is what changes when more has become durable, or will not.
type durable struct {
	synced   uint64
	abandons int
	closed   bool
}

// watch returns what is closed when more has become durable than is now.
func (s *Spool) watch() <-chan struct{} {
	if s.changed == nil {
		s.changed, s.told = make(chan struct{}), durable{s.synced, s.abandons, s.closed}
	}
	return s.changed
}

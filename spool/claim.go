package spool

import (
	"context"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A lease is one that is out.
type lease struct {
	e        *entry
	why      postrider.Why
	rcpts    []int32
	settling bool // a batch with its settlement is being written
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
		next, changed := s.nextTime(), s.changed
		s.mu.Unlock()
		if ok {
			return l, nil
		}
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
		next = s.ready.items[0].next()
	}
	if len(s.wakes.items) > 0 {
		next = min(next, s.wakes.items[0].wake)
	}
	return next
}

// take gives the lease that ranks first of those whose time has come.
func (s *Spool) take(now int64, maxRcpts int) (postrider.Lease, bool) {
	if s.keyOf == nil {
		return postrider.Lease{}, false
	}
	s.mature(now)
	wakes := len(s.wakes.items) > 0 && s.wakes.items[0].wake <= now
	switch {
	case len(s.ripe.items) > 0 && (!wakes || s.ripe.items[0].rank() <= s.wakes.items[0].wake):
		return s.takeParcel(maxRcpts), true
	case wakes:
		return s.takeWake(), true
	}
	return postrider.Lease{}, false
}

func (s *Spool) takeParcel(maxRcpts int) postrider.Lease {
	p := s.ripe.items[0].ripe.items[0]
	e, dest := p.e, p.dest.key
	s.detach(p)
	all := p.rcpts()
	rcpts := all[:min(maxRcpts, len(all))]
	tried := false
	for _, i := range rcpts {
		e.rcpts[i].leased = true
		tried = tried || e.rcpts[i].tries > 0
	}
	s.enqueue(e, all[len(rcpts):])
	l := s.lease(e, postrider.Attempt, rcpts)
	l.Dest, l.Again = dest, tried || e.again
	return l
}

func (s *Spool) takeWake() postrider.Lease {
	e := s.wakes.items[0]
	s.setWake(e, never)
	var rcpts []int32
	for i := range e.rcpts {
		r := &e.rcpts[i]
		if r.leased || r.closed() {
			continue
		}
		if r.parcel != nil {
			s.detach(r.parcel)
		}
		r.leased = true
		rcpts = append(rcpts, int32(i))
	}
	l := s.lease(e, postrider.Wake, rcpts)
	e.out.waking, e.out.wakeToken, e.out.later = true, l.Token, never
	return l
}

func (s *Spool) lease(e *entry, why postrider.Why, rcpts []int32) postrider.Lease {
	s.token++
	if e.out == nil {
		e.out = &outing{}
	}
	e.out.leases++
	s.leases[s.token] = &lease{e: e, why: why, rcpts: rcpts}
	l := postrider.Lease{ID: e.id, Token: s.token, Why: why, Rcpts: make([]int, len(rcpts))}
	for i, r := range rcpts {
		l.Rcpts[i] = int(r)
	}
	return l
}

// release ends a lease: what still waits goes back to its queue, unless an
// operator has wanted otherwise meanwhile.
func (s *Spool) release(token uint64, l *lease) {
	delete(s.leases, token)
	e := l.e
	for _, i := range l.rcpts {
		e.rcpts[i].leased = false
	}
	s.applyWants(e)
	s.enqueue(e, l.rcpts)
	if e.out.leases--; e.out.leases == 0 {
		e.out = nil
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
	for key, d := range s.dests {
		if d.len() == 0 && d.paused <= now {
			delete(s.dests, key)
		}
	}
	s.sweptDests = len(s.dests)
}

// returnAfter is after the recovery of how many messages memory is given back to
// the system. What reading a log leaves behind is more than the index itself, and
// the collector would keep it for later.
const returnAfter = 10_000

// Rekey implements postrider.Spool.
func (s *Spool) Rekey(key func(to smtp.Path) postrider.Dest) {
	s.mu.Lock()
	first := s.keyOf == nil
	s.keyOf = key
	recovered := s.recovered
	s.recovered = nil
	var rest []*entry
	if !first {
		for _, e := range s.entries {
			rest = append(rest, e)
		}
	}
	for _, u := range recovered {
		if u.e.loc.seg != nil {
			s.key(u.e, u.tos)
		}
	}
	if len(recovered) >= returnAfter && !s.closed {
		s.snapshots.Go(debug.FreeOSMemory)
	}
	s.kick()
	s.mu.Unlock()
	// In order of age, which is that of the log, and so of the disk.
	slices.SortFunc(rest, func(a, b *entry) int { return strings.Compare(string(a.id), string(b.id)) })
	for _, e := range rest {
		s.rekeyEntry(e)
	}
}

// rekeyEntry reads the addresses of one message again to give it new queues.
func (s *Spool) rekeyEntry(e *entry) {
	m, err := s.read(e)
	if err != nil {
		s.alarm("spool: message %s keeps its old queues: %v", e.id, err)
		return
	}
	tos := make([]smtp.Path, len(m.Recipients))
	for i := range tos {
		tos[i] = m.Recipients[i].To
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[e.id] == e {
		s.key(e, tos)
		s.kick()
	}
}

// kick wakes every Claim and every reader of the feed that waits.
func (s *Spool) kick() {
	close(s.changed)
	s.changed = make(chan struct{})
}

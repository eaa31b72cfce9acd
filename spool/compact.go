package spool

import (
	"errors"
	"fmt"
	"path"
	"time"
)

// The log is removed from its front. While it is more than twice what lives in it,
// what lives in its oldest segment is written again at its end, a piece with each
// group that is synced: no sync is for that alone, and no message waits for more
// than a piece of it. The longer the log, the larger the pieces.
const (
	compactLeast = 16 << 10 // octets of a piece
	compactMost  = 1 << 20
	compactSlow  = 2  // times the group it goes with, when the log is just too long
	compactFast  = 16 // when it is so by Options.Slack
)

// A message that the disk does not give is tried so often, that far apart, before it
// is believed that it never will.
const (
	moveTries = 5
	moveWait  = 30 * time.Second
)

// A refusal is how often a message could not be read to be moved, and when it is
// tried again.
type refusal struct {
	times int
	next  time.Time
}

// refused notes that the disk did not give a message, and reports whether it is tried
// again.
func (s *Spool) refused(h handle) bool {
	if s.refusals == nil || len(s.refusals) >= refusalsMax {
		s.refusals = map[handle]refusal{}
	}
	times := s.refusals[h].times + 1
	s.refusals[h] = refusal{times, s.now().Add(moveWait)}
	return times < moveTries
}

// refusalsMax bounds what is kept of them; those of before are counted anew.
const refusalsMax = 1024

// moves returns the records that write live messages of the oldest segment again,
// for a group of so many octets.
func (s *Spool) moves(group int64) []*item {
	s.mu.Lock()
	if len(s.segments) < 2 {
		s.mu.Unlock()
		return nil
	}
	g := s.segments[0]
	excess := s.logBytes + 2*s.snapBytes - 2*s.liveBytes - s.opt.Slack
	if g == s.active || g.head == 0 || excess < 0 {
		s.mu.Unlock()
		return nil
	}
	most := group * (compactSlow + (compactFast-compactSlow)*min(excess, s.opt.Slack)/max(s.opt.Slack, 1))
	most = min(max(most, compactLeast), compactMost)
	var move []handle
	octets := int64(0)
	for at := g.head; at != 0 && octets < most; {
		e := s.slab.get(at)
		at = e.next
		if e.stuck || e.wanted { // what is wanted a new record could not say
			continue
		}
		if len(s.refusals) > 0 && s.now().Before(s.refusals[e.handle()].next) {
			continue
		}
		move = append(move, e.handle())
		octets += int64(e.recLen) << 3
	}
	s.mu.Unlock()
	items := make([]*item, 0, len(move))
	for _, h := range move {
		it, err := s.moveItem(h)
		switch {
		case err == nil:
			delete(s.refusals, h)
			items = append(items, it)
		case errors.Is(err, ErrDamaged) || !s.refused(h):
			s.leaveStuck(h, err)
		}
	}
	return items
}

// moveAlone moves a piece with a sync of its own.
func (s *Spool) moveAlone() {
	moved := s.moves(compactMost)
	if len(moved) == 0 {
		return
	}
	if err := s.write(moved, true, nil); err != nil {
		s.alarm("%v", err)
		return
	}
	s.finish(nil, moved, nil)
}

// applyMove does to the index what a record of moves says. Spool.mu is held.
func (s *Spool) applyMove(it *item) {
	e := s.slab.at(it.e)
	all := s.rcpts(e)
	for i := range all {
		all[i].last = spot{}
	}
	e.big = it.add.big
	s.place(e, it.at, it.size)
}

// leaveStuck is for a message whose record can no longer be read: it stays where
// it is, and with it the segment. The next start is to read the whole log, which
// sets it aside where it is damaged; so no snapshot may spare it that. What the disk
// does not give a start would not have either: an operator ends it.
func (s *Spool) leaveStuck(h handle, err error) {
	damaged := errors.Is(err, ErrDamaged)
	s.mu.Lock()
	e := s.slab.at(h)
	e.stuck, s.stuck = true, s.stuck || damaged
	id, g := e.id.name(), s.slots[e.at.seg]
	s.mu.Unlock()
	if !damaged {
		s.alarm("spool: message %s cannot be read and keeps %s, and all that comes after it: \"postrider queue drop %s\" ends it: %v", id, segmentName(g.n), id, err)
		return
	}
	if rerr := s.dropSnapshot(); rerr != nil {
		s.alarm("spool: remove the snapshot: %v", rerr)
	}
	s.alarm("spool: message %s cannot be read and keeps %s: restart, and what is left of it is set aside: %v", id, segmentName(g.n), err)
}

// moveItem makes the record that replaces all records of a message. A damaged
// body, or one that the disk does not give, time after time, is left behind, and the
// message is one whose content is gone: in a group at the end of the log a body that
// is not what was written means that the group is torn, and with it would go all that
// moved beside, and new mail.
func (s *Spool) moveItem(h handle) (*item, error) {
	r, err := s.readAll(h, readWhole)
	if err != nil {
		return nil, err
	}
	defer s.dropSegments(r.held)
	s.mu.Lock()
	e := s.slab.at(h)
	r.wake = e.wake
	if s.waking(e) {
		r.wake = s.now().UnixNano() // after a crash the lease is gone, and what it came for is still to do
	} else if e.wake == never {
		r.wake = 0
	}
	s.mu.Unlock()
	it := &item{kind: kindMove, e: h, add: r.accepted, meta: r.encode()}
	if !r.big && r.size > 0 && int64(len(r.whole)) == r.size {
		it.body = r.whole
	} else if !r.big && r.size > 0 {
		it.body = make([]byte, r.size)
		if _, err := r.body.seg.f.ReadAt(it.body, r.body.off); err != nil && s.refusals[h].times+1 < moveTries {
			return nil, fmt.Errorf("read body: %w", err)
		}
	}
	if len(it.body) > 0 && !r.accepted.proves(it.body) {
		name := segmentName(r.body.seg.n)
		s.alarm("spool: the content of message %s is damaged in %s, and is left behind when the message is moved; a copy is kept in %s",
			r.msg.ID, name, path.Join(s.dir, "damaged"))
		if err := s.keepCopy(name); err != nil {
			s.alarm("spool: set aside %s: %v", name, err)
		}
		r.big, it.body = true, nil
		it.meta = r.encode()
	}
	return it, nil
}

// proves reports whether a body is what was written.
func (a *accepted) proves(body []byte) bool {
	for _, sum := range a.sums {
		b := body[:min(blockLen, len(body))]
		if checksum(b) != sum {
			return false
		}
		body = body[len(b):]
	}
	return len(body) == 0
}

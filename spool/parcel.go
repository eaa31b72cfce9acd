package spool

import (
	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A parcel is recipients of one entry that wait for one destination until one
// time, by the first of them.
type parcel struct {
	e ref
	i int32
}

func (s *Spool) first(p parcel) (*entry, *rcptState) {
	e := s.slab.get(p.e)
	return e, &s.rcpts(e)[p.i]
}

// A destQueue is what waits for one destination.
type destQueue struct {
	key     postrider.Dest
	parcels heap[parcel] // what is not due, or was not when last looked at: earliest first
	ripe    heap[parcel] // what is due, by rank (rank.go)
	paused  int64        // until when; 0: not
	pos     int32        // in Spool.ready; -1: nothing waits
	ripePos int32        // in Spool.ripe; -1: nothing is due, or it is paused
	num     uint32       // in Spool.queues
	refs    int32        // recipients that have this destination
	stand   [stands]int32
}

// len is how many parcels wait.
func (d *destQueue) len() int { return len(d.parcels.items) + len(d.ripe.items) }

// next is when more of the destination can be claimed: something of it ripens, or
// its pause ends.
func (s *Spool) next(d *destQueue) int64 {
	switch {
	case d.len() == 0 || d.key == postrider.DestHold:
		return never
	case d.ripePos < 0 && len(d.ripe.items) > 0:
		return d.paused
	case len(d.parcels.items) == 0:
		return never
	}
	_, r := s.first(d.parcels.items[0])
	return max(r.due, d.paused)
}

func (s *Spool) parcelLess(a, b parcel) bool {
	ae, ar := s.first(a)
	be, br := s.first(b)
	if ar.due != br.due {
		return ar.due < br.due
	}
	if a.e != b.e {
		return ae.id.less(be.id)
	}
	return a.i < b.i
}

func (s *Spool) destLess(a, b *destQueue) bool {
	if an, bn := s.next(a), s.next(b); an != bn {
		return an < bn
	}
	return a.key < b.key
}

// dest returns the queue of a key, made if need be.
func (s *Spool) dest(key postrider.Dest) *destQueue {
	d := s.dests[key]
	if d == nil {
		d = &destQueue{key: key, pos: -1, ripePos: -1, parcels: heap[parcel]{by: s.byDue}, ripe: heap[parcel]{by: s.byRank}}
		if n := len(s.freeQueues); n > 0 {
			d.num, s.freeQueues = s.freeQueues[n-1], s.freeQueues[:n-1]
			s.queues[d.num] = d
		} else {
			d.num = uint32(len(s.queues))
			s.queues = append(s.queues, d)
		}
		s.dests[key] = d
	}
	return d
}

// dropDest forgets d when nothing is left of it.
func (s *Spool) dropDest(d *destQueue, now int64) {
	if d.refs == 0 && d.paused <= now {
		delete(s.dests, d.key)
		s.queues[d.num] = nil
		s.freeQueues = append(s.freeQueues, d.num)
	}
}

// setDest gives r another destination; nil: none. It is not counted meanwhile.
func (s *Spool) setDest(r *rcptState, d *destQueue) {
	old := s.queues[r.dest]
	if old == d {
		return
	}
	r.dest = 0
	if d != nil {
		r.dest = d.num
		d.refs++
	}
	if old != nil {
		old.refs--
		s.dropDest(old, 0)
	}
}

// settleDest puts d where it belongs after its parcels or its pause changed.
func (s *Spool) settleDest(d *destQueue) {
	if d.ripePos >= 0 {
		if len(d.ripe.items) == 0 {
			s.unripe(d)
		} else {
			s.ripe.fix(int(d.ripePos))
		}
	}
	switch {
	case d.len() == 0 && d.pos >= 0:
		s.ready.remove(int(d.pos))
		d.pos = -1
	case d.len() > 0 && d.pos < 0:
		s.ready.push(d)
	case d.pos >= 0:
		s.ready.fix(int(d.pos))
	}
}

// detach takes a recipient's whole parcel out of its queue, if it is in one.
func (s *Spool) detach(e *entry, i int32) {
	all := s.rcpts(e)
	if all[i].pos == posNone {
		return
	}
	i = firstOf(all, i)
	r := &all[i]
	d := s.queues[r.dest]
	if r.is.has(isRipe) {
		d.ripe.remove(int(r.pos))
	} else {
		d.parcels.remove(int(r.pos))
	}
	r.is.set(isRipe, false)
	for r.pos = posNone; r.sib != 0; r.pos = posNone {
		i, r.sib = r.sib, 0
		r = &all[i]
	}
	s.settleDest(d)
}

// firstOf returns the first of the parcel that recipient i is in.
func firstOf(all []rcptState, i int32) int32 {
	for j := i; ; j-- {
		if all[j].pos < 0 || all[j].dest != all[i].dest {
			continue
		}
		for k := j; k <= i; k = all[k].sib {
			if k == i {
				return j
			}
			if all[k].sib == 0 {
				break
			}
		}
	}
}

// A parcelKey is what the recipients of a parcel share.
type parcelKey struct {
	dest uint32
	due  int64
}

// fewParcels is how many parcels of one message are looked through one by one.
const fewParcels = 8

// enqueue forms parcels of those of the given recipients that wait and are not
// leased, and puts them into their queues. They are given ascending.
func (s *Spool) enqueue(e *entry, rcpts []int32) {
	all := s.rcpts(e)
	var few [fewParcels]struct{ head, tail int32 }
	made := few[:0]
	var byKey map[parcelKey]int // beyond fewParcels
next:
	for _, i := range rcpts {
		r := &all[i]
		if r.state != postrider.Waiting || r.is.has(isLeased|isHeld|isOrdered) || r.pos != posNone {
			continue
		}
		k := parcelKey{r.dest, r.due}
		j, ok := byKey[k]
		for n := 0; !ok && byKey == nil && n < len(made); n++ {
			head := &all[made[n].head]
			j, ok = n, k == parcelKey{head.dest, head.due}
		}
		if ok {
			all[made[j].tail].sib, made[j].tail, r.pos = i, i, posBehind
			continue next
		}
		made = append(made, struct{ head, tail int32 }{i, i})
		r.pos = posBehind // until it is in its queue
		if byKey != nil {
			byKey[k] = len(made) - 1
		} else if len(made) > fewParcels {
			byKey = make(map[parcelKey]int, len(rcpts))
			for n := range made {
				head := &all[made[n].head]
				byKey[parcelKey{head.dest, head.due}] = n
			}
		}
	}
	for _, m := range made {
		d := s.queues[all[m.head].dest]
		d.parcels.push(parcel{e.self, m.head})
		s.settleDest(d)
	}
}

// key gives every waiting recipient its queue, and joins those that share one. What
// leaves DestHold is due now, if it was before, and its message is looked at: as an
// operator releases it. A crash may forget that.
func (s *Spool) key(e *entry, tos []smtp.Path) {
	var few [4]int32
	waits := few[:0]
	all := s.rcpts(e)
	for i := range all {
		r := &all[i]
		if r.state != postrider.Waiting {
			continue
		}
		s.detach(e, int32(i))
		key := s.keyOf(tos[i])
		if r.is.has(isPassed) {
			key = key.Past(tos[i])
		}
		s.count(e, r, -1)
		if was := s.queues[r.dest]; was != nil && was.key == postrider.DestHold && key != postrider.DestHold {
			now := s.now().UnixNano()
			r.due = max(r.due, now)
			s.wakeBy(e, now)
		}
		s.setDest(r, s.dest(key))
		s.count(e, r, 1)
		waits = append(waits, int32(i))
	}
	s.enqueue(e, waits)
}

package spool

import "time"

// Of what is due, priority decides the order (RFC 6710 5.1: one that "has more than
// one email to send at a given time sends those with a higher priority before those
// with a lower one"). It counts as time: a parcel of priority p is taken to be due p
// times rankStep earlier than it is. So what is more important overtakes what has
// not waited much longer, and nothing starves: what became due 18 steps before all
// else, three hours, goes first whatever its priority. Nothing goes before it is due.

// rankStep is how much time one step of priority is worth.
const rankStep = 10 * time.Minute

// lead is the time that the priority of a message is worth.
func (e *entry) lead() int64 { return int64(e.priority) * int64(rankStep) }

// rankLess orders the parcels of one destination that are due.
func (s *Spool) rankLess(a, b parcel) bool {
	ae, ar := s.first(a)
	be, br := s.first(b)
	if ar, br := ar.due-ae.lead(), br.due-be.lead(); ar != br {
		return ar < br
	}
	return s.parcelLess(a, b)
}

// rank orders the destinations of which something is due. Where one was paused, its
// time counts from the end of that.
func (s *Spool) rank(d *destQueue) int64 {
	e, r := s.first(d.ripe.items[0])
	return max(r.due, d.paused) - e.lead()
}

func (s *Spool) ripeDestLess(a, b *destQueue) bool {
	if ar, br := s.rank(a), s.rank(b); ar != br {
		return ar < br
	}
	return a.key < b.key
}

// mature finds what is due at now. Each parcel ripens once, and a destination is
// looked at only when something of it does, so that a claim costs what a heap costs.
func (s *Spool) mature(now int64) {
	for len(s.ready.items) > 0 {
		d := s.ready.items[0]
		if s.next(d) > now {
			return
		}
		for len(d.parcels.items) > 0 {
			p := d.parcels.items[0]
			_, r := s.first(p)
			if r.due > now {
				break
			}
			d.parcels.remove(0)
			r.is.set(isRipe, true)
			d.ripe.push(p)
		}
		if d.ripePos < 0 {
			s.ripe.push(d)
		} else {
			s.ripe.fix(int(d.ripePos))
		}
		s.ready.fix(int(d.pos))
	}
}

// unripe takes a destination out of those that can be claimed from.
func (s *Spool) unripe(d *destQueue) {
	s.ripe.remove(int(d.ripePos))
	d.ripePos = -1
}

// zigzag is a priority as a number that is small where it is near 0.
func zigzag(p int8) uint64 { return uint64(uint8(p<<1 ^ p>>7)) }

func unzigzag(v uint64) int8 { return int8(v>>1) ^ -int8(v&1) }

package spool

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// An amendment is what an operator wants of recipients that wait. Those that are
// under way are marked: what is wanted of them holds when their lease ends and
// they still wait, or when the spool is opened anew, whichever comes first.
// The feed tells of the order, and of what came of it when the lease has ended;
// not of what a start does.

// A wanted is an amendment that waits for the end of a lease.
type wanted struct {
	a  *amendment
	at location
}

func (s *Spool) prepareAmend(want *postrider.Amendment) (*item, error) {
	h, err := s.lookup(want.ID)
	if err != nil {
		return nil, err
	}
	m, err := s.read(h)
	if err != nil && !errors.Is(err, postrider.ErrNotFound) && want.Do != postrider.AmendBounce && want.Do != postrider.AmendPass {
		if m, err = s.read(h); err != nil { // and not for once
			m, err = s.nameless(h)
		}
	}
	if err != nil {
		return nil, err
	}
	if want.Do > postrider.AmendPass {
		return nil, fmt.Errorf("spool: amendment %d is unknown", want.Do)
	}
	if want.Do == postrider.AmendBounce && !want.Reply.Permanent() {
		return nil, errors.New("spool: a bounce needs a 5yz reply")
	}
	for _, n := range want.Rcpts {
		if n < 0 || n >= len(m.Recipients) {
			return nil, fmt.Errorf("spool: message %s has no recipient %d", want.ID, n)
		}
	}
	a := &amendment{id: want.ID, at: s.now().UnixNano(), from: m.From, arrived: nanos(m.Arrived), do: want.Do,
		due: nanos(want.Due), reply: want.Reply, tos: make([]smtp.Path, len(m.Recipients))}
	for i := range m.Recipients {
		a.tos[i] = m.Recipients[i].To
	}
	return &item{kind: kindAmend, amend: a, rcpts: want.Rcpts, e: h}, nil
}

// nameless is a message whose records cannot be read: as many recipients as it has.
// It can be put off, held and dropped, which needs no address; the feed names none.
func (s *Spool) nameless(h handle) (*postrider.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.slab.at(h)
	if e == nil {
		return nil, postrider.ErrNotFound
	}
	return &postrider.Message{Arrived: fromNanos(e.arrived), Recipients: make([]postrider.Recipient, len(s.rcpts(e)))}, nil
}

// A forecast is what the records of a group will have done that were begun
// before, and that the index does not know yet.
type forecast struct {
	adding map[postrider.ID]bool
	closes map[ref]int                    // recipients that are settled and reported
	wants  map[*rcptState]*amendment      // bounces and drops of what is under way
	freed  map[*rcptState]postrider.State // whose lease has ended, or whose waiting, and what they are then
}

func (f *forecast) adds(id postrider.ID) { put(&f.adding, id, true) }
func (f *forecast) close(e *entry)       { put(&f.closes, e.self, f.closes[e.self]+1) }

// put is m[k] = v of a map that is made when the first comes.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// beginAmend writes down which recipients wait now, and which of them are under
// way. Those that are not, and are to wait no more, nobody may have until that is done.
func (s *Spool) beginAmend(it *item, f *forecast) {
	a := it.amend
	asked := make(map[int]bool, len(it.rcpts))
	for _, n := range it.rcpts {
		asked[n] = true
	}
	all := a.tos
	a.tos = nil
	e := s.slab.at(it.e)
	rcpts := s.rcpts(e)
	for i := range rcpts {
		r := &rcpts[i]
		state, freed := f.freed[r]
		if !freed {
			state = r.state
		}
		if state != postrider.Waiting || it.rcpts != nil && !asked[i] {
			continue
		}
		leased := r.is.has(isLeased) && !freed
		a.rcpts = append(a.rcpts, int32(i))
		a.tos = append(a.tos, all[i])
		a.leased = append(a.leased, leased)
		switch {
		case !a.ends():
		case leased:
			put(&f.wants, r, a)
		default:
			put(&f.freed, r, postrider.Failed)
			s.detach(e, int32(i))
			r.is.set(isOrdered, true)
			if a.do == postrider.AmendDrop {
				f.close(e)
				a.last = true
			}
		}
	}
	if a.ends() {
		s.enqueueAll(e) // who was of one parcel with those
	}
	a.last = a.last && int(e.open) == f.closes[e.self]
	if a.releases() && len(a.rcpts) > 0 && s.waking(e) {
		o := s.outing(e)
		o.later = min(o.later, a.at) // for askWake, as applyAmend comes after it
	}
	it.meta = a.encode()
}

// failAmend lets those wait on of whom an amendment could not be written down.
func (s *Spool) failAmend(e *entry, a *amendment) {
	if !a.ends() {
		return
	}
	all := s.rcpts(e)
	for _, n := range a.rcpts {
		all[n].is.set(isOrdered, false)
	}
	s.enqueueAll(e)
	s.wakeBy(e, a.at) // a look that came meanwhile did not see them
}

// fulfil says what a settlement does, at the end of its lease, for an operator:
// to those recipients that still wait then.
func (s *Spool) fulfil(e *entry, l *lease, st *state, f *forecast) {
	all, wants := s.rcpts(e), s.wants[e.self]
	many := statesOf(st.changes)
	for _, i := range l.rcpts {
		r := &all[i]
		state := stateAfter(st.changes, many, i, r.state)
		a := f.wants[r]
		if a == nil && wants[i] != nil {
			a = wants[i].a
		}
		if a != nil && state == postrider.Waiting && r.state == postrider.Waiting {
			state = postrider.Failed
			j, _ := slices.BinarySearch(a.rcpts, i)
			st.done = append(st.done, fulfilled{i, a.tos[j], a.do, a.reply})
			if a.do == postrider.AmendDrop {
				f.close(e)
			}
		}
		put(&f.freed, r, state)
	}
}

// statesOf are the states that many changes make, by recipient; nil: there are few.
func statesOf(changes []postrider.Change) map[int32]postrider.State {
	const few = 16
	if len(changes) <= few {
		return nil
	}
	states := make(map[int32]postrider.State, len(changes))
	for j := range changes {
		states[int32(changes[j].Rcpt)] = changes[j].State
	}
	return states
}

// stateAfter is the state of a recipient after changes, of which many are the states.
func stateAfter(changes []postrider.Change, many map[int32]postrider.State, i int32, state postrider.State) postrider.State {
	if many != nil {
		if to, ok := many[i]; ok {
			return to
		}
		return state
	}
	for j := range changes {
		if changes[j].Rcpt == int(i) {
			return changes[j].State
		}
	}
	return state
}

// applyAmend does what an amendment says to those that are not under way, and
// marks the others.
//
// At recovery nothing is leased any more; but a settlement may follow that came
// before the wish could be done, so that it waits as it did then.
func (s *Spool) applyAmend(e *entry, a *amendment, at location, recovery bool) {
	all := s.rcpts(e)
	for i, n := range a.rcpts {
		r := &all[n]
		r.is.set(isOrdered, false)
		if recovery && a.ends() && r.last.seg == 0 && r.state != postrider.Waiting {
			// A snapshot that was taken after the record of its mark knows the end of
			// what waited here, and not which record said so.
			s.change(e, &postrider.Change{Rcpt: int(n), Delayed: r.is.has(isDelayed), Tries: int(r.tries)}, location{})
		}
		if r.state != postrider.Waiting {
			continue // a settlement of the same group was first
		}
		s.detach(e, n)
		s.count(e, r, -1)
		switch a.do {
		case postrider.AmendHold:
			r.is.set(isHeld, true)
		case postrider.AmendRelease:
			r.is.set(isHeld, false)
			r.due = a.at
		case postrider.AmendPass:
			r.is.set(isHeld, false)
			r.is.set(isPassed, true)
			r.due = a.at
			if d := s.queues[r.dest]; d != nil {
				s.setDest(r, s.dest(d.key.Past(a.tos[i])))
			}
		case postrider.AmendDue:
			r.due = a.due // an attempt under way that comes to anything says another; a look does not
		case postrider.AmendBounce, postrider.AmendDrop:
			s.want(e, n, &wanted{a, at})
		}
		s.count(e, r, 1)
		if r.is.has(isLeased) || recovery && a.leased[i] {
			continue
		}
		s.applyWant(e, n)
	}
	if a.releases() && len(a.rcpts) > 0 {
		s.wakeBy(e, a.at) // what was put off while it was held: word of its delay, and its end
	}
	s.enqueueAll(e)
}

// enqueueAll gives all recipients of e their place that wait and have none.
func (s *Spool) enqueueAll(e *entry) {
	if s.keyOf == nil {
		return
	}
	every := make([]int32, len(s.rcpts(e)))
	for i := range every {
		every[i] = int32(i)
	}
	s.enqueue(e, every)
}

// want keeps what is wanted of a recipient until its lease ends.
func (s *Spool) want(e *entry, i int32, w *wanted) {
	if !e.wanted {
		e.wanted = true
		s.wants[e.self] = map[int32]*wanted{}
	}
	s.wants[e.self][i] = w
}

// applyWants does what was wanted of recipients that were under way.
func (s *Spool) applyWants(e *entry) {
	if !e.wanted {
		return
	}
	all := s.rcpts(e)
	for _, i := range slices.Sorted(maps.Keys(s.wants[e.self])) {
		if !all[i].is.has(isLeased) {
			s.applyWant(e, i)
		}
	}
}

func (s *Spool) applyWant(e *entry, i int32) {
	w := s.wants[e.self][i]
	if w == nil {
		return
	}
	delete(s.wants[e.self], i)
	if len(s.wants[e.self]) == 0 {
		e.wanted = false
		delete(s.wants, e.self)
	}
	all := s.rcpts(e)
	if all[i].state != postrider.Waiting {
		return
	}
	c := w.a.change(i, all)
	s.change(e, &c, w.at)
	if w.a.do == postrider.AmendBounce {
		s.wakeBy(e, w.a.at) // whoever bounces by hand does not wait for other recipients
	}
}

// ends reports whether an amendment ends the waiting of its recipients.
func (a *amendment) ends() bool {
	return a.do == postrider.AmendBounce || a.do == postrider.AmendDrop
}

// releases reports whether an amendment ends the holding of its recipients.
func (a *amendment) releases() bool {
	return a.do == postrider.AmendRelease || a.do == postrider.AmendPass
}

// change is what a bounce or a drop makes of recipient n.
func (a *amendment) change(n int32, rcpts []rcptState) postrider.Change {
	return postrider.Change{Rcpt: int(n), State: postrider.Failed, Reported: a.do == postrider.AmendDrop,
		Delayed: rcpts[n].is.has(isDelayed), Tries: int(rcpts[n].tries), Settled: fromNanos(a.at), Reply: a.reply}
}

package spool

import (
	"errors"
	"fmt"
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
	s.mu.Lock()
	e := s.entries[want.ID]
	s.mu.Unlock()
	if e == nil {
		return nil, postrider.ErrNotFound
	}
	m, err := s.read(e)
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
			return nil, fmt.Errorf("spool: message %s has no recipient %d", e.id, n)
		}
	}
	a := &amendment{id: e.id, at: s.now().UnixNano(), from: m.From, arrived: nanos(m.Arrived), do: want.Do,
		due: nanos(want.Due), reply: want.Reply, tos: make([]smtp.Path, len(m.Recipients))}
	for i := range m.Recipients {
		a.tos[i] = m.Recipients[i].To
	}
	return &item{kind: kindAmend, amend: a, rcpts: want.Rcpts, e: e}, nil
}

// A forecast is what the records of a group will have done that were begun
// before, and that the index does not know yet.
type forecast struct {
	adding map[postrider.ID]bool
	closes map[*entry]int                 // recipients that are settled and reported
	wants  map[*rcptState]*amendment      // bounces and drops of what is under way
	freed  map[*rcptState]postrider.State // whose lease has ended, or whose waiting, and what they are then
}

func newForecast() *forecast {
	return &forecast{map[postrider.ID]bool{}, map[*entry]int{}, map[*rcptState]*amendment{}, map[*rcptState]postrider.State{}}
}

// beginAmend writes down which recipients wait now, and which of them are under
// way.
func (s *Spool) beginAmend(it *item, f *forecast) {
	a := it.amend
	asked := make(map[int]bool, len(it.rcpts))
	for _, n := range it.rcpts {
		asked[n] = true
	}
	all := a.tos
	a.tos = nil
	for i := range it.e.rcpts {
		r := &it.e.rcpts[i]
		state, freed := f.freed[r]
		if !freed {
			state = r.state
		}
		if state != postrider.Waiting || it.rcpts != nil && !asked[i] {
			continue
		}
		leased := r.leased && !freed
		a.rcpts = append(a.rcpts, int32(i))
		a.tos = append(a.tos, all[i])
		a.leased = append(a.leased, leased)
		switch {
		case !a.ends():
		case leased:
			f.wants[r] = a
		default:
			f.freed[r] = postrider.Failed
			if a.do == postrider.AmendDrop {
				f.closes[it.e]++
				a.last = true
			}
		}
	}
	a.last = a.last && int(it.e.open) == f.closes[it.e]
	it.meta = a.encode()
}

// fulfil says what a settlement does, at the end of its lease, for an operator:
// to those recipients that still wait then.
func (l *lease) fulfil(st *state, f *forecast) {
	for _, i := range l.rcpts {
		r := &l.e.rcpts[i]
		state := r.state
		if j := slices.IndexFunc(st.changes, func(c postrider.Change) bool { return c.Rcpt == int(i) }); j >= 0 {
			state = st.changes[j].State
		}
		a := f.wants[r]
		if a == nil && r.want != nil {
			a = r.want.a
		}
		if a != nil && state == postrider.Waiting && r.state == postrider.Waiting {
			state = postrider.Failed
			st.done = append(st.done, fulfilled{i, a.tos[slices.Index(a.rcpts, i)], a.do, a.reply})
			if a.do == postrider.AmendDrop {
				f.closes[l.e]++
			}
		}
		f.freed[r] = state
	}
}

// applyAmend does what an amendment says to those that are not under way, and
// marks the others.
//
// At recovery nothing is leased any more; but a settlement may follow that came
// before the wish could be done, so that it waits as it did then.
func (s *Spool) applyAmend(e *entry, a *amendment, at location, recovery bool) {
	for i, n := range a.rcpts {
		r := &e.rcpts[n]
		if recovery && a.ends() && r.last.seg == nil && r.state != postrider.Waiting {
			// A snapshot that was taken after the record of its mark knows the end of
			// what waited here, and not which record said so.
			s.change(e, &postrider.Change{Rcpt: int(n), Tries: int(r.tries)}, location{})
		}
		if r.state != postrider.Waiting {
			continue // a settlement of the same group was first
		}
		switch a.do {
		case postrider.AmendHold:
			r.held = true
		case postrider.AmendRelease:
			r.held, r.due = false, a.at
		case postrider.AmendPass:
			r.held, r.passed, r.due = false, true, a.at
			if r.dest != nil {
				r.dest = s.dest(r.dest.key.Past(a.tos[i]))
			}
		case postrider.AmendDue:
			if !r.leased {
				r.due = a.due
			}
		case postrider.AmendBounce, postrider.AmendDrop:
			r.want = &wanted{a, at}
		}
		if r.leased || recovery && a.leased[i] {
			continue
		}
		if r.parcel != nil {
			s.detach(r.parcel)
		}
		s.applyWant(e, int(n))
	}
	if s.keyOf != nil {
		s.enqueue(e, everyRcpt(e))
	}
}

func everyRcpt(e *entry) []int32 {
	all := make([]int32, len(e.rcpts))
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// applyWants does what was wanted of recipients that were under way.
func (s *Spool) applyWants(e *entry) {
	for i := range e.rcpts {
		if e.rcpts[i].want != nil && !e.rcpts[i].leased {
			s.applyWant(e, i)
		}
	}
}

func (s *Spool) applyWant(e *entry, i int) {
	r := &e.rcpts[i]
	w := r.want
	if r.want = nil; w == nil || r.state != postrider.Waiting {
		return
	}
	c := w.a.change(int32(i), e.rcpts)
	s.change(e, &c, w.at)
	if w.a.do == postrider.AmendBounce {
		s.wakeBy(e, w.a.at) // whoever bounces by hand does not wait for other recipients
	}
}

// ends reports whether an amendment ends the waiting of its recipients.
func (a *amendment) ends() bool {
	return a.do == postrider.AmendBounce || a.do == postrider.AmendDrop
}

// change is what a bounce or a drop makes of recipient n.
func (a *amendment) change(n int32, rcpts []rcptState) postrider.Change {
	return postrider.Change{Rcpt: int(n), State: postrider.Failed, Reported: a.do == postrider.AmendDrop,
		Tries: int(rcpts[n].tries), Settled: fromNanos(a.at), Reply: a.reply}
}

// wanted reports whether a recipient that is under way is to be bounced or
// dropped. The message is not moved meanwhile: its new record could not say so.
func (e *entry) wanted() bool {
	for i := range e.rcpts {
		if e.rcpts[i].want != nil {
			return true
		}
	}
	return false
}

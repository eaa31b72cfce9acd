package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A world is the model of what a spool holds once certain batches are durable,
// and no others. It is never changed: each batch makes a new one.
type world struct {
	msgs   map[postrider.ID]*worldMessage
	events []string // what the feed tells, from the first day on
}

type worldMessage struct {
	m     postrider.Message
	head  []byte
	body  uint32 // checksum of head and body
	wake  int64  // never: at no time
	later int64  // asked for while a Wake lease is out
	wants []*wish
	after *worldMessage // what recovered has made of it
	ended bool          // which is nothing
}

// A wish is a bounce or a drop that waits for the end of a lease.
type wish struct {
	do    postrider.Amend
	reply smtp.Reply
	at    int64
}

// An act is a batch with what the model must know to do it too.
type act struct {
	batch  postrider.Batch
	body   []byte // of its addition
	at     int64
	leased map[postrider.ID][]int // recipients under way, of the messages that are amended
	waking map[postrider.ID]bool  // messages with a Wake lease out
}

func (a *act) String() string {
	text := ""
	for i := range a.batch.Add {
		text += "add " + describe(a.batch.Add[i].Message, 0)
	}
	for _, set := range a.batch.Settle {
		text += fmt.Sprintf("settle %+v", set)
	}
	for _, am := range a.batch.Amend {
		text += fmt.Sprintf("amend %+v leased %v", am, a.leased)
	}
	return fmt.Sprintf("at %d lazy %v %s", a.at, a.batch.Lazy, text)
}

func newWorld() *world { return &world{msgs: map[postrider.ID]*worldMessage{}} }

// after returns the world in which a batch is true too.
func (w *world) after(a *act) *world {
	n := &world{msgs: maps.Clone(w.msgs), events: w.events[:len(w.events):len(w.events)]}
	for i := range a.batch.Add {
		n.add(&a.batch.Add[i], a.body)
	}
	for i := range a.batch.Settle {
		report := postrider.ID("")
		if len(a.batch.Add) > 0 {
			report = a.batch.Add[0].Message.ID
		}
		n.settle(&a.batch.Settle[i], a, report)
	}
	for i := range a.batch.Amend {
		n.amend(&a.batch.Amend[i], a)
	}
	return n
}

func (w *world) add(a *postrider.Addition, body []byte) {
	m := &worldMessage{m: *a.Message, head: a.Head, wake: nanos(a.Wake), later: never, wants: make([]*wish, len(a.Message.Recipients))}
	m.m.Recipients = slices.Clone(a.Message.Recipients)
	m.body = crc32.ChecksumIEEE(append(bytes.Clone(a.Head), body...))
	if a.Wake.IsZero() {
		m.wake = never
	}
	w.msgs[m.m.ID] = m
	w.tell("accepted %s from %s size %d", m.m.ID, m.m.From, m.m.Size)
}

func (w *world) tell(format string, args ...any) {
	w.events = append(w.events, fmt.Sprintf(format, args...))
}

// open returns a copy of a message that this world may change; nil: it has none.
func (w *world) open(id postrider.ID) *worldMessage {
	old := w.msgs[id]
	if old == nil {
		return nil
	}
	m := *old
	m.after, m.ended = nil, false
	m.m.Recipients, m.wants = slices.Clone(old.m.Recipients), slices.Clone(old.wants)
	w.msgs[id] = &m
	return &m
}

func (w *world) settle(set *postrider.Settlement, a *act, report postrider.ID) {
	id := set.Lease.ID
	m := w.open(id)
	if m == nil {
		return
	}
	woke := set.Lease.Why == postrider.Wake
	for i := range set.Changes {
		c := &set.Changes[i]
		r := &m.m.Recipients[c.Rcpt]
		dest := destOf(r.To)
		if r.Passed {
			dest = dest.Past(r.To)
		}
		due := c.Due
		if m.wants[c.Rcpt] != nil && slices.Contains(set.Lease.Rcpts, c.Rcpt) && c.State == postrider.Waiting {
			due = time.Time{}
		}
		if r.State != c.State || r.Tries != c.Tries {
			w.tell("recipient %s/%d %s at %s: %s tries %d next %d %s %q", id, c.Rcpt, r.To, dest, c.State, c.Tries, nanos(due), c.Reply, c.Remote)
		}
		due, waits := r.Due, woke && r.State == postrider.Waiting && c.State == postrider.Waiting
		if apply(r, c); waits {
			r.Due = due
		}
	}
	for _, n := range slices.Sorted(slices.Values(set.Lease.Rcpts)) {
		if r := &m.m.Recipients[n]; m.wants[n] != nil && r.State == postrider.Waiting {
			w.tell("amended %s/%d %s %d next 0 %s", id, n, r.To, m.wants[n].do, m.wants[n].reply)
		}
	}
	if report != "" {
		w.tell("reported %s by %s", id, report)
	}
	if woke {
		m.wake, m.later = m.later, never
	}
	if !set.Wake.IsZero() {
		m.wakeBy(nanos(set.Wake), a.waking[id] && !woke)
	}
	for _, n := range set.Lease.Rcpts {
		m.fulfil(n, a.waking[id] && !woke)
	}
	w.close(m)
}

func (m *worldMessage) wakeBy(at int64, waking bool) {
	if waking {
		m.later = min(m.later, at)
	} else {
		m.wake = min(m.wake, at)
	}
}

// fulfil does what was wanted of a recipient, if it still waits.
func (m *worldMessage) fulfil(n int, waking bool) {
	want := m.wants[n]
	m.wants[n] = nil
	r := &m.m.Recipients[n]
	if want == nil || r.State != postrider.Waiting {
		return
	}
	apply(r, &postrider.Change{State: postrider.Failed, Reported: want.do == postrider.AmendDrop, Delayed: r.Delayed, Tries: r.Tries,
		Settled: fromNanos(want.at), Reply: want.reply})
	if want.do == postrider.AmendBounce {
		m.wakeBy(want.at, waking)
	}
}

func (w *world) amend(am *postrider.Amendment, a *act) {
	m := w.open(am.ID)
	if m == nil {
		return
	}
	for n := range m.m.Recipients {
		r := &m.m.Recipients[n]
		if r.State != postrider.Waiting || am.Rcpts != nil && !slices.Contains(am.Rcpts, n) {
			continue
		}
		leased := slices.Contains(a.leased[am.ID], n)
		word := "amended"
		if leased && (am.Do == postrider.AmendBounce || am.Do == postrider.AmendDrop) {
			word = "ordered"
		}
		w.tell("%s %s/%d %s %d next %d %s", word, am.ID, n, r.To, am.Do, nanos(am.Due), am.Reply)
		switch am.Do {
		case postrider.AmendDue:
			r.Due = am.Due
		case postrider.AmendHold:
			r.Held = true
		case postrider.AmendRelease, postrider.AmendPass:
			r.Held, r.Passed = false, r.Passed || am.Do == postrider.AmendPass
			r.Due = fromNanos(a.at)
			m.wakeBy(a.at, a.waking[am.ID])
		case postrider.AmendBounce, postrider.AmendDrop:
			m.wants[n] = &wish{am.Do, am.Reply, a.at}
			if !leased {
				m.fulfil(n, a.waking[am.ID])
			}
		}
	}
	w.close(m)
}

// close forgets a message of which nothing is left to do.
func (w *world) close(m *worldMessage) {
	for i := range m.m.Recipients {
		if r := &m.m.Recipients[i]; r.State == postrider.Waiting || !r.Reported {
			return
		}
	}
	delete(w.msgs, m.m.ID)
	w.tell("removed %s", m.m.ID)
}

// recovered returns a message as it is after a crash: no lease is out, and what
// was wanted is done. Nil: nothing is left to do.
func (m *worldMessage) recovered() *worldMessage {
	if m.after != nil || m.ended {
		return m.after
	}
	c := *m
	c.m.Recipients, c.wants = slices.Clone(m.m.Recipients), slices.Clone(m.wants)
	open := false
	c.wake, c.later = min(c.wake, c.later), never
	for n := range c.m.Recipients {
		c.fulfil(n, false)
		r := &c.m.Recipients[n]
		open = open || r.State == postrider.Waiting || !r.Reported
	}
	if m.ended = !open; open {
		m.after = &c
	}
	return m.after
}

// same reports whether two messages are described alike.
func same(a, b *postrider.Message) bool {
	if a.ID != b.ID || a.From != b.From || a.EnvID != b.EnvID || a.Ret != b.Ret || a.UTF8 != b.UTF8 || a.EightBit != b.EightBit ||
		a.Automatic != b.Automatic || nanos(a.Arrived) != nanos(b.Arrived) || a.Size != b.Size || a.HeaderID != b.HeaderID || a.Source != b.Source {
		return false
	}
	return slices.EqualFunc(a.Recipients, b.Recipients, func(x, y postrider.Recipient) bool {
		if nanos(x.Due) != nanos(y.Due) || nanos(x.Settled) != nanos(y.Settled) {
			return false
		}
		x.Due, x.Settled, y.Due, y.Settled = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		return x == y
	})
}

// describe writes down all of a message that must come back.
func describe(m *postrider.Message, body uint32) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s from %s env %q ret %d utf8 %v 8bit %v auto %v arrived %d size %d header %q source %+v content %08x", m.ID, m.From, m.EnvID,
		m.Ret, m.UTF8, m.EightBit, m.Automatic, nanos(m.Arrived), m.Size, m.HeaderID, m.Source, body)
	for i := range m.Recipients {
		r := &m.Recipients[i]
		fmt.Fprintf(&b, "\n  %d %s notify %d orcpt %q %s held %v passed %v reported %v delayed %v due %d tries %d settled %d %s %q final %v relayed %v",
			i, r.To, r.Notify, r.ORcpt, r.State, r.Held, r.Passed, r.Reported, r.Delayed, nanos(r.Due), r.Tries, nanos(r.Settled),
			r.Reply, r.Remote, r.Final, r.RelayedTo)
	}
	return b.String()
}

// restarted returns the world as it goes on after an end of the process.
func (w *world) restarted() *world {
	n := &world{msgs: map[postrider.ID]*worldMessage{}, events: w.events}
	for id, m := range w.msgs {
		if r := m.recovered(); r != nil {
			c := *r
			c.m.Recipients, c.wants = slices.Clone(r.m.Recipients), slices.Clone(r.wants)
			n.msgs[id] = &c
		}
	}
	return n
}

// A found is what a spool that was just opened holds.
type found struct {
	msgs   map[postrider.ID]*postrider.Message
	bodies map[postrider.ID]uint32
	wakes  map[postrider.ID]int64
	waits  int
	events []string // that the reader has yet to read
}

// look reads all of a spool.
func look(s *Spool, reader string) (*found, error) {
	f := &found{msgs: map[postrider.ID]*postrider.Message{}, bodies: map[postrider.ID]uint32{}, wakes: map[postrider.ID]int64{}}
	for m, err := range s.Scan(context.Background()) {
		if err != nil {
			return nil, fmt.Errorf("scan: %w", err)
		}
		f.msgs[m.ID] = m
		c, err := s.Open(context.Background(), m.ID)
		if err != nil {
			return nil, fmt.Errorf("open: %w", err)
		}
		all, err := io.ReadAll(c.Reader())
		c.Close()
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		f.bodies[m.ID] = crc32.ChecksumIEEE(all)
		for i := range m.Recipients {
			if m.Recipients[i].State == postrider.Waiting {
				f.waits++
			}
		}
	}
	s.mu.Lock()
	s.slab.each(func(e *entry) { f.wakes[e.id.name()] = e.wake })
	disagrees := s.indexDisagrees(f.msgs)
	counted, read := s.waiting, uint64(0)
	if r := s.readers[reader]; r != nil {
		read = r.lsn
	}
	s.mu.Unlock()
	if counted != f.waits || len(f.wakes) != len(f.msgs) {
		return nil, fmt.Errorf("%d recipients wait and %d are counted; %d messages are scanned and %d are there", f.waits, counted, len(f.msgs), len(f.wakes))
	}
	if disagrees != "" {
		return nil, errors.New(disagrees)
	}
	fol := &follower{s: s, read: read}
	defer fol.close()
	evs, _, err := fol.batch(1 << 30)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	f.events = tellings(evs)
	return f, nil
}

// indexDisagrees says where the index and the records tell two stories of a
// recipient; empty: nowhere. Spool.mu is held.
func (s *Spool) indexDisagrees(msgs map[postrider.ID]*postrider.Message) (wrong string) {
	s.slab.each(func(e *entry) {
		m := msgs[e.id.name()]
		if m == nil {
			return // told by how many there are
		}
		for n, r := range s.rcpts(e) {
			to := &m.Recipients[n]
			index := fmt.Sprint(r.state, r.tries, r.due, r.is.has(isReported), r.is.has(isDelayed), r.is.has(isHeld), r.is.has(isPassed))
			if read := fmt.Sprint(to.State, triesOf(to.Tries), nanos(to.Due), to.Reported, to.Delayed, to.Held, to.Passed); index != read {
				wrong = fmt.Sprintf("message %s recipient %d (state, tries, due, reported, delayed, held, passed): the index has %s, the records %s", m.ID, n, index, read)
			}
		}
	})
	return wrong
}

// tellings writes events down as a world does, but for those of damage.
func tellings(evs []postrider.Event) (all []string) {
	for i := range evs {
		ev := &evs[i]
		switch ev.Kind {
		case postrider.EventAccepted:
			all = append(all, fmt.Sprintf("accepted %s from %s size %d", ev.ID, ev.From, ev.Size))
		case postrider.EventRecipient:
			all = append(all, fmt.Sprintf("recipient %s/%d %s at %s: %s tries %d next %d %s %q", ev.ID, ev.Rcpt, ev.To, ev.Dest, ev.State, ev.Tries,
				nanos(ev.Next), ev.Reply, ev.Remote))
		case postrider.EventReported:
			all = append(all, fmt.Sprintf("reported %s by %s", ev.ID, ev.Report))
		case postrider.EventRemoved:
			all = append(all, fmt.Sprintf("removed %s", ev.ID))
		case postrider.EventAmended:
			all = append(all, fmt.Sprintf("amended %s/%d %s %d next %d %s", ev.ID, ev.Rcpt, ev.To, ev.Amend, nanos(ev.Next), ev.Reply))
		case postrider.EventOrdered:
			all = append(all, fmt.Sprintf("ordered %s/%d %s %d next %d %s", ev.ID, ev.Rcpt, ev.To, ev.Amend, nanos(ev.Next), ev.Reply))
		}
	}
	return all
}

// A manner is how a spool came to be opened.
type manner struct {
	now    time.Time
	acked  int                   // events that the reader of the feed had acknowledged
	good   bool                  // after a stop in good order: the reader stands just there
	waking map[postrider.ID]bool // messages with a Wake lease out before
}

// differs says what is wrong with what was found, if this is the world; empty:
// nothing.
func (w *world) differs(f *found, how *manner) string {
	for id, m := range f.msgs {
		old := w.msgs[id]
		if old == nil {
			return fmt.Sprintf("message %s should not be there", id)
		}
		want := old.recovered()
		if want == nil {
			return fmt.Sprintf("message %s is back", id)
		}
		if !same(m, &want.m) || f.bodies[id] != want.body {
			return different(describe(&want.m, want.body), describe(m, f.bodies[id]))
		}
		if wrong := want.wakesAt(f.wakes[id], how.now.UnixNano(), how.waking[id]); wrong != "" {
			return fmt.Sprintf("message %s %s", id, wrong)
		}
	}
	for id, m := range w.msgs {
		if f.msgs[id] == nil && m.recovered() != nil {
			return fmt.Sprintf("message %s is lost", id)
		}
	}
	read := len(w.events) - len(f.events)
	switch {
	case read < 0 || !slices.Equal(w.events[read:], f.events):
		for len(f.events) > 0 && read < len(w.events) && read >= 0 && f.events[0] == w.events[read] {
			f.events, read = f.events[1:], read+1
		}
		return fmt.Sprintf("the feed tells\n%.90q\nin place of %.1000s", f.events[:min(3, len(f.events))], w.events[max(0, read):])
	case read > how.acked:
		return fmt.Sprintf("the reader of the feed has acknowledged %d events, and stands after %d", how.acked, read)
	case how.good && read != how.acked:
		return fmt.Sprintf("the reader of the feed has acknowledged %d events, and stands after %d when all was in good order", how.acked, read)
	}
	return ""
}

// wakesAt says what is wrong with the time at which a message will be looked at.
// What owes a report, or was in hand, is looked at at once.
func (m *worldMessage) wakesAt(got, now int64, waking bool) string {
	soon := waking
	for i := range m.m.Recipients {
		r := &m.m.Recipients[i]
		soon = soon || r.State != postrider.Waiting && !r.Reported
	}
	if got == m.wake || soon && got <= now {
		return ""
	}
	return fmt.Sprintf("will be looked at at %d and not at %d", got, m.wake)
}

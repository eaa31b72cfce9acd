package spool

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A feedReader is how far a named reader of the feed has read.
type feedReader struct {
	lsn    uint64 // acknowledged
	stored uint64 // of that, what the log knows
	busy   bool
}

// reader returns the reader of a name, new at the beginning of the log.
func (s *Spool) reader(name string) *feedReader {
	r := s.readers[name]
	if r == nil {
		r = &feedReader{}
		s.readers[name] = r
		s.readerNames = append(s.readerNames, name)
	}
	return r
}

// Feed implements postrider.Spool. On a read-only spool it ends where the log
// ends, and what it acknowledges is forgotten with the process.
func (s *Spool) Feed(ctx context.Context, name string) iter.Seq2[postrider.Event, error] {
	return func(yield func(postrider.Event, error) bool) {
		for evs, err := range s.feed(ctx, name, 1) {
			if err != nil {
				yield(postrider.Event{}, err)
				return
			}
			for _, ev := range evs {
				if !yield(ev, nil) {
					return
				}
			}
		}
	}
}

// feedBatch is how many events Batches yields at once, the rest of the last
// record on top.
const feedBatch = 4096

// Batches is Feed for a reader that makes durable what it reads: it yields what
// there is at once, about 4096 events at most, and waits only for the first. To
// ask for the next batch acknowledges the one before, so that one sync of the
// reader serves all of a batch. A batch holds all events of an LSN, or none, and is
// good until the next one is asked for.
func (s *Spool) Batches(ctx context.Context, name string) iter.Seq2[[]postrider.Event, error] {
	return s.feed(ctx, name, feedBatch)
}

// feed yields the events of whole records: at least most of them, unless there
// are no more at once.
func (s *Spool) feed(ctx context.Context, name string, most int) iter.Seq2[[]postrider.Event, error] {
	return func(yield func([]postrider.Event, error) bool) {
		s.mu.Lock()
		r := s.reader(name)
		busy := r.busy
		r.busy = true
		f := &follower{s: s, read: r.lsn}
		s.mu.Unlock()
		if busy {
			yield(nil, fmt.Errorf("spool: the feed has a reader %q already", name))
			return
		}
		s.recent.join(f)
		defer func() {
			s.recent.leave(f)
			f.close()
			s.mu.Lock()
			r.busy = false
			s.mu.Unlock()
		}()
		for {
			batch, changed, err := f.batch(most)
			if len(batch) > 0 && !yield(batch, nil) {
				return
			}
			s.mu.Lock()
			r.lsn = max(r.lsn, f.read)
			s.mu.Unlock()
			if err == nil && changed != nil && len(batch) == 0 {
				err = f.wait(ctx, changed)
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// How a reader waits that has read all.
const (
	feedGather = 5 * time.Millisecond // an event waits so long for those that come with it
	feedLull   = time.Second          // after that nothing is kept ready for more
)

// wait waits until there is more, and a little for what comes with it.
func (f *follower) wait(ctx context.Context, changed <-chan struct{}) error {
	if f.timer == nil {
		f.timer = time.NewTimer(feedLull)
	} else {
		f.timer.Reset(feedLull)
	}
	for more := false; ; {
		select {
		case <-ctx.Done():
			f.timer.Stop()
			return ctx.Err()
		case <-changed:
			more, changed = true, nil
			f.timer.Reset(feedGather)
		case <-f.timer.C:
			if more {
				return nil
			}
			f.rest()
		}
	}
}

// A follower walks along the log as it grows.
type follower struct {
	s       *Spool
	read    uint64 // LSN up to which the log was read; guarded by recent.mu while it has joined
	events  []postrider.Event
	timer   *time.Timer // of wait
	seg     *segment
	sc      *scanner // nil: no segment is open
	scanner scanner
	max     uint64 // LSN up to which sc may read
	off     int64  // in seg, of the first record that was not read
	lsn     uint64 // of that record, at least
}

// batch returns the events of the next records: at least most, unless the log
// ends before. Then changed is closed when there may be more.
func (f *follower) batch(most int) (batch []postrider.Event, changed <-chan struct{}, err error) {
	batch = f.events[:0]
	defer func() { f.events = batch }()
	for len(batch) < most {
		if f.sc == nil {
			more := false
			if batch, more = f.s.recent.recall(f, batch, most); more {
				continue
			}
			if changed, err = f.open(); changed != nil || err != nil {
				return batch, changed, err
			}
			if f.sc == nil {
				continue
			}
		}
		rec, err := f.sc.next()
		if err != nil && err != io.EOF {
			return batch, nil, err
		}
		if err == io.EOF || rec.lsn > f.max {
			f.close()
			f.went(max(f.read, f.max)) // what is missing is missing for good
			continue
		}
		f.off, f.lsn = f.sc.off, f.sc.lsn
		if rec.lsn > f.read {
			f.went(rec.lsn)
			batch = appendEvents(batch, &rec)
		}
	}
	return batch, nil, nil
}

// went says up to where the log was read.
func (f *follower) went(read uint64) {
	f.s.recent.mu.Lock()
	defer f.s.recent.mu.Unlock()
	f.read = read
}

// rest gives the memory back that a reader needs who has much to read.
func (f *follower) rest() {
	if cap(f.events) > recentIdle {
		f.events = nil
	}
	f.scanner.buf = nil
	f.s.recent.rest()
}

// close lets go of the segment.
func (f *follower) close() {
	if f.sc != nil {
		f.s.dropSegments([]*segment{f.seg})
		f.sc = nil
	}
}

// open opens the segment with the next records that are durable and not read, unless
// they are still in memory. If there are none, changed is closed when there may be; a
// read-only spool gets no more.
func (f *follower) open() (changed <-chan struct{}, err error) {
	s := f.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, postrider.ErrClosed
	}
	for _, g := range s.segments {
		limit := min(g.last, s.synced)
		if limit < g.first || limit <= f.read {
			continue
		}
		if s.recent.covers(f.read) {
			return nil, nil
		}
		off, lsn := int64(segmentHeaderLen), g.first
		if f.seg == g {
			off, lsn = f.off, f.lsn
		}
		g.hold()
		f.seg, f.max, f.off, f.lsn = g, limit, off, lsn
		f.scanner = scanner{f: g.f, epoch: g.epoch, off: off, lsn: lsn, size: g.end, buf: f.scanner.buf[:0], lend: true}
		f.sc = &f.scanner
		return nil, nil
	}
	if s.opt.ReadOnly {
		return nil, io.EOF
	}
	return s.watch(), nil
}

// appendEvents appends what a record tells.
func appendEvents(evs []postrider.Event, rec *scanned) []postrider.Event {
	place := func() *postrider.Event {
		evs = append(evs, postrider.Event{})
		return &evs[len(evs)-1]
	}
	switch rec.kind {
	case kindAccept:
		if a, err := decodeAccepted(rec.meta); err == nil {
			a.tell(rec.lsn, place)
		}
	case kindState:
		if st, err := decodeState(rec.meta); err == nil {
			st.tell(rec.lsn, place)
		}
	case kindAmend:
		if a, err := decodeAmendment(rec.meta); err == nil {
			a.tell(rec.lsn, place)
		}
	case kindDamaged:
		if d, err := decodeDamage(rec.meta); err == nil {
			*place() = postrider.Event{LSN: rec.lsn, Time: fromNanos(d.at), Kind: postrider.EventDamaged,
				Reply: smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 3}, Text: d.what}}
		}
	}
	return evs
}

// tell writes the event of a message into its place. What was not written yet tells
// the same as what was read: a time is whole nanoseconds, without its clock.
func (a *accepted) tell(lsn uint64, place func() *postrider.Event) {
	m, arrived := a.msg, fromNanos(nanos(a.msg.Arrived))
	*place() = postrider.Event{LSN: lsn, Time: arrived, Kind: postrider.EventAccepted, ID: m.ID, From: m.From, Priority: m.Priority,
		Size: m.Size, Source: m.Source, HeaderID: m.HeaderID, Tos: a.named(), Given: a.given(), Has: a.has(), Arrived: arrived}
}

// tell writes the events of a state into their places.
func (st *state) tell(lsn uint64, place func() *postrider.Event) {
	event := func(kind postrider.EventKind) *postrider.Event {
		ev := place()
		*ev = postrider.Event{LSN: lsn, Time: fromNanos(st.at), Kind: kind, ID: st.id, From: st.from, Arrived: fromNanos(st.arrived)}
		return ev
	}
	for i := range st.changes {
		if !st.news[i] {
			continue
		}
		c := &st.changes[i]
		ev := event(postrider.EventRecipient)
		ev.Rcpt, ev.To, ev.Dest = c.Rcpt, st.tos[i], st.dests[i]
		ev.State, ev.Tries, ev.Next, ev.Reply, ev.Remote = c.State, c.Tries, fromNanos(nanos(c.Due)), c.Reply, c.Remote
		if slices.ContainsFunc(st.done, func(f fulfilled) bool { return int(f.rcpt) == c.Rcpt }) {
			ev.Next = time.Time{} // no attempt will come
		}
	}
	for _, f := range st.done {
		ev := event(postrider.EventAmended)
		ev.Rcpt, ev.To, ev.Amend, ev.Reply = int(f.rcpt), f.to, f.do, f.reply
	}
	if st.report != "" {
		event(postrider.EventReported).Report = st.report
	}
	if st.last {
		event(postrider.EventRemoved)
	}
}

// tell writes the events of an amendment into their places.
func (a *amendment) tell(lsn uint64, place func() *postrider.Event) {
	for i, n := range a.rcpts {
		ev := place()
		*ev = postrider.Event{LSN: lsn, Time: fromNanos(a.at), Kind: postrider.EventAmended, ID: a.id, From: a.from,
			Arrived: fromNanos(a.arrived), Rcpt: int(n), To: a.tos[i], Amend: a.do, Next: fromNanos(a.due), Reply: a.reply}
		if a.leased[i] && a.ends() {
			ev.Kind = postrider.EventOrdered
		}
	}
	if a.last {
		*place() = postrider.Event{LSN: lsn, Time: fromNanos(a.at), Kind: postrider.EventRemoved, ID: a.id, From: a.from,
			Arrived: fromNanos(a.arrived)}
	}
}

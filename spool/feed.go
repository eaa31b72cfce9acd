package spool

import (
	"context"
	"fmt"
	"io"
	"iter"

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

// Feed implements postrider.Spool.
func (s *Spool) Feed(ctx context.Context, name string) iter.Seq2[postrider.Event, error] {
	return func(yield func(postrider.Event, error) bool) {
		s.mu.Lock()
		r := s.reader(name)
		busy := r.busy
		r.busy = true
		s.mu.Unlock()
		if busy {
			yield(postrider.Event{}, fmt.Errorf("spool: the feed has a reader %q already", name))
			return
		}
		defer func() {
			s.mu.Lock()
			r.busy = false
			s.mu.Unlock()
		}()
		f := &follower{s: s, r: r}
		for {
			rec, err := f.next(ctx)
			if err != nil {
				yield(postrider.Event{}, err)
				return
			}
			for _, ev := range events(&rec) {
				if !yield(ev, nil) {
					return
				}
			}
			s.mu.Lock()
			r.lsn = rec.lsn
			s.mu.Unlock()
		}
	}
}

// A follower walks along the log as it grows.
type follower struct {
	s   *Spool
	r   *feedReader
	seg *segment
	sc  *scanner
	max uint64 // LSN up to which sc may read
	off int64  // in seg, of the first record that was not read
	lsn uint64 // of that record, at least
}

// next returns the next durable record that its reader has not acknowledged.
func (f *follower) next(ctx context.Context) (scanned, error) {
	for {
		if f.sc != nil {
			rec, err := f.sc.next()
			if err == nil && rec.lsn <= f.max {
				f.off, f.lsn = f.sc.off, f.sc.lsn
				if rec.lsn > f.r.lsn {
					return rec, nil
				}
				continue
			}
			f.s.dropSegments([]*segment{f.seg})
			f.sc = nil
			if err != nil && err != io.EOF {
				return scanned{}, err
			}
			f.s.mu.Lock()
			f.r.lsn = max(f.r.lsn, f.max) // what is missing is missing for good
			f.s.mu.Unlock()
		}
		if err := f.open(ctx); err != nil {
			return scanned{}, err
		}
	}
}

// open waits for records that are durable and not read, and opens their segment.
func (f *follower) open(ctx context.Context) error {
	s := f.s
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return postrider.ErrClosed
		}
		for _, g := range s.segments {
			limit := min(g.last, s.synced)
			if limit < g.first || limit <= f.r.lsn {
				continue
			}
			off, lsn := int64(segmentHeaderLen), g.first
			if f.seg == g {
				off, lsn = f.off, f.lsn
			}
			g.hold()
			f.seg, f.max, f.off, f.lsn = g, limit, off, lsn
			f.sc = &scanner{f: g.f, epoch: g.epoch, off: off, lsn: lsn, size: g.end}
			s.mu.Unlock()
			return nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// events returns what a record tells.
func events(rec *scanned) []postrider.Event {
	switch rec.kind {
	case kindAccept:
		if a, err := decodeAccepted(rec.meta); err == nil {
			m := a.msg
			return []postrider.Event{{LSN: rec.lsn, Time: m.Arrived, Kind: postrider.EventAccepted, ID: m.ID, From: m.From,
				Size: m.Size, Source: m.Source, HeaderID: m.HeaderID, Tos: a.tos(), Arrived: m.Arrived}}
		}
	case kindState:
		if st, err := decodeState(rec.meta); err == nil {
			return st.events(rec.lsn)
		}
	case kindAmend:
		if a, err := decodeAmendment(rec.meta); err == nil {
			return a.events(rec.lsn)
		}
	case kindDamaged:
		if d, err := decodeDamage(rec.meta); err == nil {
			return []postrider.Event{{LSN: rec.lsn, Time: fromNanos(d.at), Kind: postrider.EventDamaged,
				Reply: smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 3}, Text: d.what}}}
		}
	}
	return nil
}

func (st *state) events(lsn uint64) []postrider.Event {
	base := postrider.Event{LSN: lsn, Time: fromNanos(st.at), ID: st.id, From: st.from, Arrived: fromNanos(st.arrived)}
	var evs []postrider.Event
	for i := range st.changes {
		if !st.news[i] {
			continue
		}
		c := &st.changes[i]
		ev := base
		ev.Kind, ev.Rcpt, ev.To, ev.Dest = postrider.EventRecipient, c.Rcpt, st.tos[i], st.dests[i]
		ev.State, ev.Tries, ev.Next, ev.Reply, ev.Remote = c.State, c.Tries, c.Due, c.Reply, c.Remote
		evs = append(evs, ev)
	}
	if st.report != "" {
		ev := base
		ev.Kind, ev.Report = postrider.EventReported, st.report
		evs = append(evs, ev)
	}
	if st.last {
		ev := base
		ev.Kind = postrider.EventRemoved
		evs = append(evs, ev)
	}
	return evs
}

func (a *amendment) events(lsn uint64) []postrider.Event {
	evs := make([]postrider.Event, len(a.rcpts))
	for i, n := range a.rcpts {
		evs[i] = postrider.Event{LSN: lsn, Time: fromNanos(a.at), Kind: postrider.EventAmended, ID: a.id, From: a.from,
			Arrived: fromNanos(a.arrived), Rcpt: int(n), To: a.tos[i], Amend: a.do, Next: fromNanos(a.due), Reply: a.reply}
	}
	return evs
}

package queue

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A memSpool is a Spool in memory that keeps the contract of the interface and
// none of its durability. It fails where it is told to.
type memSpool struct {
	mu      sync.Mutex
	changed chan struct{}
	closed  bool
	key     func(smtp.Path) postrider.Dest
	msgs    map[postrider.ID]*memMsg
	paused  map[postrider.Dest]time.Time
	leases  map[uint64]postrider.Lease
	token   uint64
	count   int

	events   []string // "failed bob@x 550", in order
	reports  int      // messages added together with a settlement
	answered int      // of them, those that are not from the null path
	doubled  []string // leases of what was leased
	onCommit func(postrider.Batch) error
	onClaim  func(postrider.Lease)
	onOpen   func(postrider.ID) error
}

type memMsg struct {
	m       postrider.Message
	content []byte
	wake    time.Time
	waking  bool
	leased  map[int]bool
}

func (e *memMsg) wakeBy(t time.Time) {
	if !t.IsZero() && (e.wake.IsZero() || t.Before(e.wake)) {
		e.wake = t
	}
}

func newMemSpool() *memSpool {
	return &memSpool{
		changed: make(chan struct{}), msgs: map[postrider.ID]*memMsg{},
		paused: map[postrider.Dest]time.Time{}, leases: map[uint64]postrider.Lease{},
	}
}

func (s *memSpool) kick() { close(s.changed); s.changed = make(chan struct{}) }

type memDraft struct {
	bytes.Buffer
	id postrider.ID
}

func (d *memDraft) ID() postrider.ID { return d.id }
func (d *memDraft) Size() int64      { return int64(d.Len()) }
func (d *memDraft) Discard()         {}

func (s *memSpool) Create(_ context.Context, id postrider.ID) (postrider.Draft, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == "" {
		s.count++
		id = postrider.ID(fmt.Sprintf("%020d", s.count))
	}
	return &memDraft{id: id}, nil
}

func (s *memSpool) Commit(ctx context.Context, b postrider.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return postrider.ErrClosed
	}
	if s.onCommit != nil {
		if err := s.onCommit(b); err != nil {
			return err
		}
	}
	for _, set := range b.Settle {
		l, ok := s.leases[set.Lease.Token]
		ok = ok && s.msgs[l.ID] != nil
		for _, c := range set.Changes {
			ok = ok && slices.Contains(l.Rcpts, c.Rcpt)
		}
		if !ok {
			return postrider.ErrLeaseLost
		}
	}
	for _, a := range b.Add {
		if s.msgs[a.Message.ID] != nil {
			return postrider.ErrExists
		}
	}
	if len(b.Add) > 0 && len(b.Settle) > 0 {
		s.reports++
		if !b.Add[0].Message.Null() {
			s.answered++
		}
	}
	for _, a := range b.Add {
		m := *a.Message
		s.msgs[m.ID] = &memMsg{m: m, content: bytes.Clone(a.Draft.(*memDraft).Bytes()), wake: a.Wake, leased: map[int]bool{}}
	}
	for _, set := range b.Settle {
		s.settle(set)
	}
	for _, a := range b.Amend { // AmendDue alone
		for _, i := range a.Rcpts {
			if e := s.msgs[a.ID]; e.m.Recipients[i].State == postrider.Waiting {
				e.m.Recipients[i].Due = a.Due
			}
		}
	}
	s.kick()
	return nil
}

func (s *memSpool) settle(set postrider.Settlement) {
	l := s.leases[set.Lease.Token]
	delete(s.leases, l.Token)
	e := s.msgs[l.ID]
	for _, i := range l.Rcpts {
		e.leased[i] = false
	}
	for _, c := range set.Changes {
		r := &e.m.Recipients[c.Rcpt]
		if l.Why == postrider.Attempt || r.State != c.State {
			s.events = append(s.events, fmt.Sprintf("%s %s %d", c.State, r.To, c.Reply.Code))
		}
		if l.Why == postrider.Attempt || c.State != postrider.Waiting { // a look does not move it
			r.Due = c.Due
		}
		r.State, r.Reported, r.Delayed, r.Tries = c.State, c.Reported, c.Delayed, c.Tries
		r.Settled, r.Reply, r.Remote, r.Final, r.RelayedTo = c.Settled, c.Reply, c.Remote, c.Final, c.RelayedTo
		r.Uncertain = c.Uncertain
	}
	if l.Why == postrider.Wake {
		e.waking = false
	}
	e.wakeBy(set.Wake)
	open, owed, untried := 0, 0, 0
	for _, r := range e.m.Recipients {
		if r.State == postrider.Waiting || !r.Reported {
			open++
		}
		if r.State != postrider.Waiting && !r.Reported {
			owed++
		}
		if r.State == postrider.Waiting && r.Tries == 0 {
			untried++
		}
	}
	if owed > 0 && untried == 0 {
		e.wakeBy(time.Now())
	}
	if open == 0 {
		delete(s.msgs, l.ID)
	}
}

func (s *memSpool) Claim(ctx context.Context, maxRcpts int) (postrider.Lease, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return postrider.Lease{}, postrider.ErrClosed
		}
		l, at := s.first(maxRcpts)
		if !at.IsZero() && !at.After(time.Now()) {
			s.take(&l)
			onClaim := s.onClaim
			s.mu.Unlock()
			if onClaim != nil {
				onClaim(l)
			}
			return l, nil
		}
		changed := s.changed
		s.mu.Unlock()
		wait := time.Hour
		if !at.IsZero() {
			wait = time.Until(at)
		}
		t := time.NewTimer(wait)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return postrider.Lease{}, ctx.Err()
		}
		t.Stop()
	}
}

// first finds the lease that is due first, and when.
func (s *memSpool) first(maxRcpts int) (best postrider.Lease, at time.Time) {
	ids := make([]postrider.ID, 0, len(s.msgs))
	for id := range s.msgs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	better := func(t time.Time) bool { return at.IsZero() || t.Before(at) }
	var bestDue time.Time // of best, its pause left out
	for _, id := range ids {
		e := s.msgs[id]
		for i, r := range e.m.Recipients {
			if r.State != postrider.Waiting || e.leased[i] {
				continue
			}
			dest := s.key(r.To)
			due := r.Due
			if p := s.paused[dest]; p.After(due) {
				due = p
			}
			if dest == postrider.DestHold || !better(due) && !(due.Equal(at) && r.Due.Before(bestDue)) {
				continue
			}
			bestDue, at, best = r.Due, due, postrider.Lease{ID: id, Dest: dest, Why: postrider.Attempt}
			for j, o := range e.m.Recipients {
				if o.State == postrider.Waiting && !e.leased[j] && o.Due.Equal(r.Due) && s.key(o.To) == dest && len(best.Rcpts) < maxRcpts {
					best.Rcpts = append(best.Rcpts, j)
					best.Again = best.Again || o.Tries > 0
				}
			}
		}
	}
	for _, id := range ids {
		e := s.msgs[id]
		if e.waking || e.wake.IsZero() || !better(e.wake) {
			continue
		}
		at, best = e.wake, postrider.Lease{ID: id, Why: postrider.Wake}
		for i, r := range e.m.Recipients {
			if !e.leased[i] && (r.State == postrider.Waiting || !r.Reported) {
				best.Rcpts = append(best.Rcpts, i)
			}
		}
	}
	return best, at
}

func (s *memSpool) take(l *postrider.Lease) {
	s.token++
	l.Token = s.token
	e := s.msgs[l.ID]
	for _, i := range l.Rcpts {
		if e.leased[i] {
			s.doubled = append(s.doubled, fmt.Sprint(l.ID, i))
		}
		e.leased[i] = true
	}
	if l.Why == postrider.Wake {
		e.waking, e.wake = true, time.Time{}
	}
	s.leases[l.Token] = *l
}

func (s *memSpool) Pause(d postrider.Dest, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused[d] = until
	s.kick()
}

func (s *memSpool) Rekey(key func(smtp.Path) postrider.Dest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, e := range s.msgs {
		for i := range e.m.Recipients {
			r := &e.m.Recipients[i]
			if r.State == postrider.Waiting && s.key != nil && s.key(r.To) == postrider.DestHold && key(r.To) != postrider.DestHold {
				if r.Due.Before(now) {
					r.Due = now
				}
				e.wakeBy(now)
			}
		}
	}
	s.key = key
	s.kick()
}

type memContent struct {
	m   postrider.Message
	raw []byte
}

func (c *memContent) Message() *postrider.Message { return &c.m }
func (c *memContent) Head() []byte                { return nil }
func (c *memContent) Reader() io.Reader           { return bytes.NewReader(c.raw) }
func (c *memContent) Close() error                { return nil }

func (s *memSpool) Open(_ context.Context, id postrider.ID) (postrider.Content, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onOpen != nil {
		if err := s.onOpen(id); err != nil {
			return nil, err
		}
	}
	e := s.msgs[id]
	if e == nil {
		return nil, postrider.ErrNotFound
	}
	m := e.m
	m.Recipients = slices.Clone(m.Recipients)
	return &memContent{m: m, raw: e.content}, nil
}

func (s *memSpool) Feed(context.Context, string) iter.Seq2[postrider.Event, error] {
	panic("not of this test")
}
func (s *memSpool) Scan(context.Context) iter.Seq2[*postrider.Message, error] {
	panic("not of this test")
}
func (s *memSpool) Close(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.kick()
	return nil
}

// A table routes by domain; what it does not name goes by MX.
type table map[string]postrider.Route

func (t table) Resolve(context.Context, smtp.Path, postrider.Source) (postrider.Resolution, error) {
	panic("not of this test")
}

func (t table) Route(to smtp.Path) postrider.Route {
	if r, ok := t[to.Domain]; ok {
		if r.Via == postrider.ViaMaildir {
			r.Dir = "/mail/" + to.Local
		}
		return r
	}
	return postrider.Route{Dest: postrider.Dest("mx:" + to.Domain), Via: postrider.ViaMX}
}

// A transport is a function.
type transport func(ctx context.Context, d *postrider.Delivery) []postrider.Outcome

func (f transport) Deliver(ctx context.Context, d *postrider.Delivery) []postrider.Outcome {
	return f(ctx, d)
}

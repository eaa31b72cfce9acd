package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// One goroutine writes the log: run. It takes every batch that has gathered
// while the last group was written, appends them with a commit record in one
// write, syncs once, and then tells all who wait. Under load the groups grow by
// themselves; where a sync takes long, see linger.go.
const (
	groupMax      = 4 << 20 // octets of content and envelopes gathered for one group
	requestsMax   = 1024    // batches that wait for the committer
	lazySyncTime  = 50 * time.Millisecond
	lazyRetryTime = time.Second // after an error
	cursorsMost   = 4           // positions of readers that go with most groups
)

// A request is a batch on its way to the committer.
type request struct {
	batch *postrider.Batch
	items []*item
	wrote bool // an error now means that nobody knows
	done  chan error
	// What most batches need, so that they need nothing more of memory.
	one  [1]*item
	item item
	add  accepted
	st   state
}

// newItem returns an item of req.
func (req *request) newItem() *item {
	if len(req.items) == 0 {
		req.items = req.one[:0]
		req.items = append(req.items, &req.item)
	} else {
		req.items = append(req.items, &item{})
	}
	return req.items[len(req.items)-1]
}

// An item is one record of a batch, with what it does to the index.
type item struct {
	kind   uint8
	meta   []byte
	body   []byte
	size   int64
	add    *accepted
	draft  *draft // of add
	state  *state
	amend  *amendment
	rcpts  []int // that amend is asked for; nil: all
	cursor *cursor
	token  uint64   // of the lease that state ends
	e      handle   // of state, amend and move
	again  bool     // written a second time, because the first could not be made durable
	was    location // where it was then
	at     location
}

// Commit implements postrider.Spool. This, and nothing else, makes mail durable.
func (s *Spool) Commit(ctx context.Context, b postrider.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.enter() {
		return postrider.ErrClosed
	}
	defer s.commits.Done()
	req := &request{batch: &b}
	err := s.prepare(req)
	if err == nil && len(req.items) > 0 {
		req.done = s.answers.Get().(chan error)
		s.requests <- req
		err = <-req.done
		s.answers.Put(req.done)
	}
	for i := range b.Add {
		switch d, ok := b.Add[i].Draft.(*draft); {
		case !ok || d.s != s: // err says so
		case err == nil || req.wrote:
			d.written()
		case d.state == draftCommitting:
			d.state = draftOpen // nothing was done: Discard takes it away
		}
	}
	return err
}

// enter says whether the spool is open, and keeps it so until commits.Done.
func (s *Spool) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.commits.Add(1)
	return true
}

// prepare does what a batch needs before its turn: contents are finished, and
// messages read for what the feed will tell of them.
func (s *Spool) prepare(req *request) error {
	b := req.batch
	if len(b.Add) > 0 && b.Lazy {
		return errors.New("spool: a batch that adds cannot be lazy")
	}
	for i := range b.Add {
		if err := s.prepareAdd(req, &b.Add[i]); err != nil {
			return err
		}
	}
	for i := range b.Settle {
		st, err := s.prepareSettle(req, &b.Settle[i])
		if err != nil {
			return err
		}
		if len(b.Add) > 0 {
			st.report = b.Add[0].Message.ID
		}
	}
	for i := range b.Amend {
		it, err := s.prepareAmend(&b.Amend[i])
		if err != nil {
			return err
		}
		req.items = append(req.items, it)
	}
	return nil
}

func (s *Spool) prepareAdd(req *request, add *postrider.Addition) error {
	d, ok := add.Draft.(*draft)
	if !ok || d.s != s {
		return errors.New("spool: a draft of another spool")
	}
	if add.Message.ID != d.id {
		return fmt.Errorf("spool: draft %s committed as message %s", d.id, add.Message.ID)
	}
	if len(add.Message.Recipients) == 0 {
		return fmt.Errorf("spool: message %s has no recipient", d.id)
	}
	if err := d.finish(); err != nil {
		return err
	}
	it, a := req.newItem(), &req.add
	if len(req.items) > 1 {
		a = &accepted{}
	}
	*a = accepted{msg: add.Message, head: add.Head, wake: nanos(add.Wake), big: d.file != nil, size: d.size, sums: d.sums}
	*it = item{kind: kindAccept, add: a, meta: a.encode(), body: d.buf, draft: d}
	return nil
}

func (s *Spool) prepareSettle(req *request, set *postrider.Settlement) (*state, error) {
	s.mu.Lock()
	l := s.leases[set.Lease.Token]
	var msg *postrider.Message
	if l != nil {
		msg = s.outings[l.e.at].msg
	}
	s.mu.Unlock()
	if l == nil || l.id != set.Lease.ID {
		return nil, postrider.ErrLeaseLost
	}
	switch {
	case msg != nil:
	case len(set.Changes) == 0:
		msg = &postrider.Message{} // nothing is told of it
	default:
		m, err := s.read(l.e)
		if errors.Is(err, postrider.ErrNotFound) {
			err = postrider.ErrLeaseLost
		}
		if err != nil {
			return nil, err
		}
		msg = m
	}
	it, st := req.newItem(), &req.st
	if len(req.items) > 1 {
		st = &state{}
	}
	*st = state{id: l.id, at: s.now().UnixNano(), from: msg.From, arrived: nanos(msg.Arrived), wake: nanos(set.Wake), changes: set.Changes}
	st.tos = make([]smtp.Path, 0, len(set.Changes))
	for i := range set.Changes {
		n := set.Changes[i].Rcpt
		if n < 0 || n >= len(msg.Recipients) {
			return nil, fmt.Errorf("spool: message %s has no recipient %d", l.id, n)
		}
		st.tos = append(st.tos, msg.Recipients[n].To)
	}
	*it = item{kind: kindState, state: st, token: set.Lease.Token, e: l.e}
	return st, nil
}

// run is the committer.
func (s *Spool) run() {
	defer close(s.stopped)
	s.lazyPause = lazySyncTime
	lazy, armed := time.NewTimer(s.lazyPause), s.owes() // what the start has found
	if !armed {
		lazy.Stop()
	}
	for {
		// What is due is done first. Where both are ready, a select would leave it to
		// chance.
		select {
		case <-lazy.C:
			armed = false
			s.syncLazy()
		default:
		}
		select {
		case req := <-s.requests:
			s.group = s.linger(s.gather(req))
			s.writeGroup(s.group)
			s.maybeSnapshot()
		case <-lazy.C:
			armed = false
			s.syncLazy()
		case <-s.stop:
			s.syncLazy()
			s.writeClean()
			return
		}
		switch owed := s.owes(); {
		case owed && !armed:
			lazy.Reset(s.lazyPause)
		case !owed:
			lazy.Stop()
		}
		armed = s.owes()
	}
}

// gather takes what waits behind req, up to the bound of a group.
func (s *Spool) gather(req *request) []*request {
	group, octets := append(s.group[:0], req), req.octets()
	for octets < groupMax {
		select {
		case next := <-s.requests:
			group = append(group, next)
			octets += next.octets()
		default:
			return group
		}
	}
	return group
}

func (r *request) octets() int { return int(octetsOf(r.items)) }

func octetsOf(items []*item) int64 {
	n := 0
	for _, it := range items {
		n += len(it.meta) + len(it.body) + headerLen
	}
	return int64(n)
}

// writeGroup makes the batches of a group true, each whole or not at all.
func (s *Spool) writeGroup(group []*request) {
	defer clear(group)
	group, items, lazy := s.admit(group)
	if len(items) == 0 {
		return
	}
	var moved []*item
	if !lazy {
		moved = s.moves(octetsOf(items))
	}
	if len(moved) > 0 { // they go first, for they are as they were before this group
		items = append(moved[:len(moved):len(moved)], items...)
	}
	err := s.write(items, !lazy, group)
	if full(err) {
		s.known.doubt()
		if mail, rest := splitMail(group); len(mail) > 0 && len(rest) > 0 {
			s.finish(mail, nil, err) // what empties the queue goes on
			group, items = rest, itemsOf(rest)
			err, moved = s.write(items, !lazy, group), nil
		}
	}
	if err != nil {
		moved = nil
		s.known.doubt()
	}
	s.finish(group, moved, err)
	if full(err) { // what is moved may make room
		s.moveAlone()
	}
	s.emptyTrash()
}

// finish does to the index what was written, and answers.
func (s *Spool) finish(group []*request, moved []*item, err error) {
	s.mu.Lock()
	for _, it := range moved {
		s.applyMove(it)
	}
	for _, req := range group {
		for _, it := range req.items {
			if err == nil {
				s.applyItem(it)
				continue
			}
			if l := s.leases[it.token]; l != nil {
				l.settling = false
			}
			if it.kind == kindAmend {
				s.failAmend(s.slab.at(it.e), it.amend)
			}
			if req.wrote {
				s.discardVoid(it)
			}
		}
	}
	s.kick()
	s.mu.Unlock()
	for _, req := range group {
		req.done <- err
	}
}

// admit checks each batch against the index as it is now, answers those that
// cannot be, and returns the rest, in the place of group, with its records.
func (s *Spool) admit(group []*request) (rest []*request, items []*item, lazy bool) {
	rest, lazy, items = group[:0], true, make([]*item, 0, len(group)+cursorsMost)
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &forecast{}
	rcpts := s.waiting
	for _, req := range group {
		n, err := s.check(req, f.adding, rcpts)
		if err != nil {
			req.done <- err // from here on it is no longer ours
			continue
		}
		rest = append(rest, req)
		rcpts += n
		for _, it := range req.items {
			s.begin(it, f)
		}
		items = append(items, req.items...)
		lazy = lazy && req.batch.Lazy
	}
	return rest, items, lazy
}

// check says whether a batch can be done, and how many recipients it adds.
func (s *Spool) check(req *request, adding map[postrider.ID]bool, rcpts int) (int, error) {
	added := 0
	for _, it := range req.items {
		switch it.kind {
		case kindAccept:
			if s.slab.find(it.add.msg.ID) != nil || adding[it.add.msg.ID] {
				return 0, postrider.ErrExists
			}
			added += len(it.add.msg.Recipients)
		case kindState:
			l := s.leases[it.token]
			if l == nil || l.settling {
				return 0, postrider.ErrLeaseLost
			}
			if err := l.covers(it.state.changes); err != nil {
				return 0, err
			}
		case kindAmend:
			if s.slab.at(it.e) == nil {
				return 0, postrider.ErrNotFound
			}
		}
	}
	// What settles may add its report however full the queue is.
	if added > 0 && len(req.batch.Settle) == 0 && rcpts+added > s.opt.MaxRecipients {
		return 0, postrider.ErrFull
	}
	return added, nil
}

// covers checks that changes are of recipients that the lease holds, each once.
func (l *lease) covers(changes []postrider.Change) error {
	if len(changes) == 0 || len(changes) == 1 && slices.Contains(l.rcpts, int32(changes[0].Rcpt)) {
		return nil
	}
	seen := make(map[int]bool, len(changes))
	for i := range changes {
		seen[changes[i].Rcpt] = true
	}
	if len(seen) != len(changes) {
		return fmt.Errorf("spool: message %s: a recipient is settled twice in one settlement", l.id)
	}
	for _, i := range l.rcpts {
		delete(seen, int(i))
	}
	if len(seen) > 0 {
		return postrider.ErrLeaseLost
	}
	return nil
}

// begin prepares a record that will be written. A state says whether it is the
// last of its message, with what else this group closes.
func (s *Spool) begin(it *item, f *forecast) {
	switch it.kind {
	case kindAccept:
		f.adds(it.add.msg.ID)
	case kindState:
		l := s.leases[it.token]
		l.settling = true
		e, st, closed := s.slab.at(it.e), it.state, false
		all := s.rcpts(e)
		st.dests, st.news = make([]postrider.Dest, 0, len(st.changes)), make([]bool, 0, len(st.changes))
		for i := range st.changes {
			c := &st.changes[i]
			r := &all[c.Rcpt]
			key := postrider.Dest("")
			if d := s.queues[r.dest]; d != nil {
				key = d.key
			}
			st.dests = append(st.dests, key)
			st.news = append(st.news, r.state != c.State || r.tries != triesOf(c.Tries))
			if !r.closed() && c.State != postrider.Waiting && c.Reported {
				f.close(e)
				closed = true
			}
		}
		before := f.closes[e.self]
		s.fulfil(e, l, st, f) // which release does
		closed = closed || f.closes[e.self] > before
		st.last = closed && int(e.open) == f.closes[e.self]
		st.woke = l.why == postrider.Wake
		s.outing(e).askWake(st)
		it.meta = st.encode()
	case kindAmend:
		s.beginAmend(it, f)
	}
}

// applyItem does to the index what a written record says.
func (s *Spool) applyItem(it *item) {
	switch it.kind {
	case kindAccept:
		e := s.insert(it.add, it.at, it.size)
		s.fresh.keep(it)
		if s.keyOf != nil {
			var few [4]smtp.Path
			s.key(e, appendTos(few[:0], it.add.msg))
		} else {
			s.keepTos(e, it.add.msg)
		}
	case kindState:
		l := s.leases[it.token]
		if l == nil { // another settlement of this group was the last of the message
			return
		}
		e := s.slab.at(it.e)
		s.applyState(e, it.state, it.at)
		s.release(it.token, l)
		if l.why == postrider.Attempt {
			s.ripen(e, it.state.at)
		}
		s.forgetDone(e)
	case kindAmend:
		e := s.slab.at(it.e)
		if e == nil { // a settlement of this group was its last
			return
		}
		s.applyAmend(e, it.amend, it.at, false)
		s.forgetDone(e)
	}
}

func (s *Spool) applyState(e *entry, st *state, at location) {
	all := s.rcpts(e)
	for i := range st.changes {
		c := &st.changes[i]
		r := &all[c.Rcpt]
		due, waits := r.due, r.state == postrider.Waiting && c.State == postrider.Waiting
		if s.change(e, c, at); st.woke && waits {
			r.due = due // a look does not move it: who wrote the change may not know of an order since
		}
	}
	if st.woke {
		later := int64(never)
		if o := s.outing(e); o != nil && o.waking {
			o.waking, later = false, o.later
		}
		s.setWake(e, later)
	}
	if st.wake > 0 {
		s.wakeBy(e, st.wake)
	}
}

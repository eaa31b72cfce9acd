package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// ErrDamaged is what reading a message comes to whose octets on the disk are
// not those that were written.
var ErrDamaged = errors.New("spool: damaged on disk")

// How many octets of a record are read at once, in the hope that its meta is among
// them.
const (
	readFirst = 1 << 10  // where the body is not wanted, or is long
	readWhole = 16 << 10 // of a record that is no longer: all of it
	readOften = 6 << 10  // what a buffer holds that is used for one record after another
)

// readRecord reads the header and the meta of the record at a place that the
// index knows, and returns as much of the body as came with them: want octets are
// read if the record has them, into buf if it has room. What of the body cannot be
// read is left to who needs it. Its segment is held by the caller.
func readRecord(at location, want int, buf []byte) (h header, meta, body []byte, err error) {
	want = max(want, headerLen)
	b := buf[:min(want, cap(buf))]
	if len(b) < want {
		b = make([]byte, want)
	}
	n, err := at.seg.f.ReadAt(b, at.off)
	if err != nil && n < headerLen {
		return header{}, nil, nil, fmt.Errorf("spool: read record: %w", err)
	}
	h, err = parseHeader(b[:n], at.seg.epoch)
	if err != nil {
		return header{}, nil, nil, fmt.Errorf("%w: %s at octet %d", ErrDamaged, segmentName(at.seg.n), at.off)
	}
	if headerLen+h.metaLen > n {
		b = append(b[:n:n], make([]byte, headerLen+h.metaLen-n)...)
		if _, err := at.seg.f.ReadAt(b[n:], at.off+int64(n)); err != nil {
			return header{}, nil, nil, fmt.Errorf("spool: read record: %w", err)
		}
		n = len(b)
	}
	meta = b[headerLen : headerLen+h.metaLen : headerLen+h.metaLen]
	if checksum(meta) != h.metaCRC {
		return header{}, nil, nil, fmt.Errorf("%w: %s at octet %d", ErrDamaged, segmentName(at.seg.n), at.off)
	}
	return h, meta, b[headerLen+h.metaLen : min(n, headerLen+h.metaLen+h.bodyLen)], nil
}

// A reading is what the records of a message say, with their segments held.
type reading struct {
	*accepted
	body  location  // where the body begins, of a message in the log
	whole []byte    // the body, where it was read with the record
	fresh *freshOne // the record; nil: it is read
	buf   []byte    // for that; nil: its own
	held  []*segment
	one   [1]*segment // what held is of, mostly; that of the body is the first
	lost  []lost      // recipients whose newest record is damaged
}

// A lost is a recipient, and its newest record.
type lost struct {
	rcpt int
	at   location
}

// A plan is what is to be read of a message: its records as they lie at one moment.
type plan struct {
	at    location
	size  int // of the record at that place
	rcpts []rcptState
	one   [1]rcptState
	lasts []location // of each recipient its newest record; nil: of none
}

// plan says what is to be read of e, and holds the segments. Spool.mu is held.
func (s *Spool) plan(e *entry, p *plan, r *reading) {
	p.at, p.size = s.location(e.at), int(e.recLen)<<3
	p.rcpts = append(p.one[:0], s.rcpts(e)...)
	p.at.seg.hold()
	r.held = append(r.one[:0], p.at.seg)
	for i := range p.rcpts {
		if p.rcpts[i].last == (spot{}) {
			continue
		}
		if p.lasts == nil {
			p.lasts = make([]location, len(p.rcpts))
		}
		p.lasts[i] = s.location(p.rcpts[i].last)
		p.lasts[i].seg.hold()
		r.held = append(r.held, p.lasts[i].seg)
	}
}

// lookup returns the handle of a message.
func (s *Spool) lookup(id postrider.ID) (handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.slab.find(id); e != nil {
		return e.handle(), nil
	}
	return handle{}, postrider.ErrNotFound
}

// read returns a message as it stands now.
func (s *Spool) read(h handle) (*postrider.Message, error) {
	r, err := s.readAll(h, readFirst)
	if err != nil {
		return nil, err
	}
	s.dropSegments(r.held)
	return r.msg, nil
}

// readAll is read that leaves the segments held, for the reading of the body.
// It reads up to so many octets of its record at once.
func (s *Spool) readAll(h handle, want int) (*reading, error) {
	s.mu.Lock()
	e := s.slab.at(h)
	if e == nil || s.slots[e.at.seg].gone {
		s.mu.Unlock()
		return nil, postrider.ErrNotFound
	}
	r, p := &reading{}, &plan{}
	s.plan(e, p, r)
	id := e.id
	s.mu.Unlock()
	return r, s.carryOut(r, p, id.name(), want)
}

// carryOut reads what a plan says, and lets go of its segments after an error.
func (s *Spool) carryOut(r *reading, p *plan, id postrider.ID, want int) error {
	err := r.readEntry(p, want)
	if err == nil && r.msg.ID != id { // whatever led here: another's octets never go out under this name
		err = fmt.Errorf("%w: %s at octet %d is of message %s", ErrDamaged, segmentName(p.at.seg.n), p.at.off, r.msg.ID)
	}
	if err != nil {
		s.dropSegments(r.held)
		return fmt.Errorf("message %s: %w", id, err)
	}
	if len(r.lost) > 0 {
		s.recall(r, p, id)
	}
	return nil
}

// recall takes from the index what became of recipients whose newest record is
// damaged: how they stand, and what was heard last, the beginning of it. What only
// the record knew is lost: when they were settled, and by whom. An operator hears of each record once.
func (s *Spool) recall(r *reading, p *plan, id postrider.ID) {
	var alarms []string
	s.mu.Lock()
	var now []rcptState
	if e := s.slab.find(id); e != nil {
		now = s.rcpts(e)
	}
	for _, l := range r.lost {
		was, to := &p.rcpts[l.rcpt], &r.msg.Recipients[l.rcpt]
		to.State, to.Reported, to.Delayed = was.state, was.is.has(isReported), was.is.has(isDelayed)
		to.Tries, to.Due = int(was.tries), fromNanos(was.due)
		if l.rcpt < len(now) && now[l.rcpt].last == was.last && now[l.rcpt].why != 0 {
			d := decoder{b: []byte(s.replies.text(now[l.rcpt].why))}
			to.Reply = d.reply()
		}
		if s.rotten[was.last] != l.at.seg.n {
			s.rotten[was.last] = l.at.seg.n
			alarms = append(alarms, fmt.Sprintf("spool: %s is damaged at octet %d: some of what was known of message %s is lost, and it goes on from how far it had come",
				segmentName(l.at.seg.n), l.at.off, id))
		}
	}
	s.mu.Unlock()
	for _, a := range alarms {
		s.alarm("%s", a)
	}
}

// readEntry reads the record of a message and what its later records say.
func (r *reading) readEntry(p *plan, want int) error {
	at, rcpts, lasts := p.at, p.rcpts, p.lasts
	meta, body, whole, err := r.record(at, min(want, p.size))
	if err != nil {
		return err
	}
	a, err := decodeAccepted(meta)
	if err != nil || len(a.msg.Recipients) != len(rcpts) {
		return fmt.Errorf("%w: %s at octet %d", ErrDamaged, segmentName(at.seg.n), at.off)
	}
	r.accepted, r.body = a, location{at.seg, at.off + headerLen + int64(len(meta))}
	if whole {
		r.whole = body
	}
	for i := range rcpts {
		a.msg.Recipients[i].Held, a.msg.Recipients[i].Passed = rcpts[i].is.has(isHeld), rcpts[i].is.has(isPassed)
		if rcpts[i].last == (spot{}) {
			a.msg.Recipients[i].Due = fromNanos(rcpts[i].due)
		}
	}
	for i, last := range lasts {
		if last.seg == nil {
			continue
		}
		changes, err := readChanges(last, rcpts)
		if errors.Is(err, ErrDamaged) {
			for j := i; j < len(lasts); j++ {
				if lasts[j] == last {
					r.lost, lasts[j] = append(r.lost, lost{j, last}), location{}
				}
			}
			continue
		}
		if err != nil {
			return err
		}
		for j := range changes {
			if n := changes[j].Rcpt; n < len(rcpts) && lasts[n] == last {
				apply(&a.msg.Recipients[n], &changes[j])
				a.msg.Recipients[n].Due = fromNanos(rcpts[n].due)
				if n != i {
					lasts[n] = location{} // read already
				}
			}
		}
		lasts[i] = location{}
	}
	return nil
}

// record returns the meta and the body of the record of the message, and whether that
// is all of the body.
func (r *reading) record(at location, want int) (meta, body []byte, whole bool, err error) {
	if r.fresh != nil {
		return r.fresh.meta, r.fresh.body, true, nil
	}
	h, meta, body, err := readRecord(at, want, r.buf)
	return meta, body, err == nil && len(body) == h.bodyLen, err
}

// readChanges reads what a later record says of recipients.
func readChanges(at location, rcpts []rcptState) ([]postrider.Change, error) {
	h, meta, _, err := readRecord(at, readFirst, nil)
	if err != nil {
		return nil, err
	}
	if h.kind == kindState {
		st, err := decodeState(meta)
		if err != nil {
			return nil, err
		}
		return st.changes, nil
	}
	am, err := decodeAmendment(meta)
	if err != nil {
		return nil, err
	}
	changes := make([]postrider.Change, len(am.rcpts))
	for i, n := range am.rcpts {
		changes[i] = am.change(n, rcpts)
	}
	return changes, nil
}

// Open implements postrider.Spool.
func (s *Spool) Open(ctx context.Context, id postrider.ID) (postrider.Content, error) {
	s.mu.Lock()
	e := s.slab.find(id)
	switch {
	case s.closed:
		s.mu.Unlock()
		return nil, postrider.ErrClosed
	case e == nil:
		s.mu.Unlock()
		return nil, postrider.ErrNotFound
	}
	r, p := &reading{}, &plan{}
	s.plan(e, p, r)
	h := e.handle()
	s.mu.Unlock()
	want := p.size
	if want > readWhole {
		want = readFirst
	}
	var buf *[]byte
	if r.fresh = s.fresh.open(p.at); r.fresh == nil {
		buf = s.records.Get().(*[]byte)
		if *buf == nil && want <= readOften { // a buffer that is used again has room for most
			*buf = make([]byte, readOften)
		}
		r.buf = *buf
	}
	if err := s.carryOut(r, p, id, want); err != nil {
		s.fresh.close(r.fresh)
		return nil, err
	}
	c := &content{s: s, a: r.accepted, seg: r.held[0], file: r.body.seg.f, off: r.body.off, whole: r.whole, fresh: r.fresh, buf: buf}
	if r.big {
		f, err := s.fs.OpenFile(path.Join(s.dir, "big", string(id)), os.O_RDONLY, 0)
		switch {
		case err == nil:
			c.file, c.off, c.own = f, 0, true
		case errors.Is(err, fs.ErrNotExist):
			c.gone = err // the sender can still be told
		default:
			s.dropSegments(r.held)
			return nil, fmt.Errorf("spool: message %s: %w", id, err)
		}
	}
	s.mu.Lock()
	if e := s.slab.at(h); e != nil && e.out {
		s.outings[h.at].msg = r.msg
	}
	files := dropAll(r.held[1:])
	s.mu.Unlock()
	closeAll(files)
	return c, nil
}

// A content is an open message.
type content struct {
	s     *Spool
	a     *accepted
	seg   *segment // held
	file  vfs.File // where the body is
	off   int64    // and where in it
	own   bool     // file is its own, to be closed
	whole []byte   // the body of a message in the log, if it was read with its record
	fresh *freshOne
	buf   *[]byte // where whole was read to, without fresh; goes back to Spool.records
	gone  error   // why there is no file
}

// Message implements postrider.Content.
func (c *content) Message() *postrider.Message {
	m := *c.a.msg
	m.Recipients = slices.Clone(c.a.msg.Recipients)
	return &m
}

// Head implements postrider.Content. It is good until Close.
func (c *content) Head() []byte { return c.a.head }

// Reader implements postrider.Content.
func (c *content) Reader() io.Reader {
	return &contentReader{c: c, rest: c.a.head}
}

// Close implements postrider.Content.
func (c *content) Close() error {
	var err error
	if c.own {
		err = c.file.Close()
	}
	if c.seg != nil {
		c.s.dropSegments([]*segment{c.seg})
		if c.s.fresh.close(c.fresh); c.buf != nil {
			c.s.records.Put(c.buf)
		}
	}
	c.seg, c.own, c.whole, c.fresh, c.buf = nil, false, nil, nil, nil
	return err
}

// A contentReader reads head and body, a verified block at a time.
type contentReader struct {
	c     *content
	rest  []byte // of the block in hand
	block int    // the next one
	buf   []byte
	err   error
}

func (r *contentReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.c.seg == nil { // what is left of the block may be of another message by now
		return 0, fmt.Errorf("message %s: %w", r.c.a.msg.ID, fs.ErrClosed)
	}
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *contentReader) fill() {
	a := r.c.a
	if r.block == len(a.sums) {
		r.err = io.EOF
		return
	}
	if r.c.gone != nil {
		r.damaged(r.c.gone.Error())
		return
	}
	off := int64(r.block) * blockLen
	n := min(blockLen, a.size-off)
	if whole := r.c.whole; int64(len(whole)) == a.size && a.size <= blockLen && !a.big {
		r.take(whole)
		return
	}
	if r.buf == nil {
		r.buf = make([]byte, n)
	}
	b := r.buf[:n]
	if _, err := r.c.file.ReadAt(b, r.c.off+off); err != nil && err != io.EOF {
		r.err = fmt.Errorf("spool: message %s: %w", a.msg.ID, err)
		r.c.s.alarm("spool: message %s cannot be read (%v) and cannot be delivered: it is tried until its time is over", a.msg.ID, err)
		return
	}
	r.take(b)
}

// take gives out the next block, if it is what was written.
func (r *contentReader) take(b []byte) {
	a := r.c.a
	if checksum(b) != a.sums[r.block] {
		r.damaged(fmt.Sprintf("content at octet %d", r.block*blockLen))
		return
	}
	r.block++
	r.rest = b
}

// damaged ends the reading. An operator is told each time: what is for nobody to
// be told of, a report that cannot be sent, would end in silence else.
func (r *contentReader) damaged(what string) {
	id := r.c.a.msg.ID
	r.err = fmt.Errorf("message %s: %w: %s", id, ErrDamaged, what)
	r.c.s.alarm("spool: message %s is damaged on disk (%s) and cannot be delivered: it is tried until its time is over", id, what)
}

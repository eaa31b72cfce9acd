package spool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// ErrDamaged is what reading a message comes to whose octets on the disk are
// not those that were written.
var ErrDamaged = errors.New("spool: damaged on disk")

// readRecord reads the header and the meta of the record at a place that the
// index knows. Its segment is held by the caller.
func readRecord(at location) (header, []byte, error) {
	var b [headerLen]byte
	if _, err := at.seg.f.ReadAt(b[:], at.off); err != nil {
		return header{}, nil, fmt.Errorf("spool: read record: %w", err)
	}
	h, err := parseHeader(b[:], at.seg.epoch)
	if err != nil {
		return header{}, nil, fmt.Errorf("%w: %s at octet %d", ErrDamaged, segmentName(at.seg.n), at.off)
	}
	meta := make([]byte, h.metaLen)
	if _, err := at.seg.f.ReadAt(meta, at.off+headerLen); err != nil {
		return header{}, nil, fmt.Errorf("spool: read record: %w", err)
	}
	if checksum(meta) != h.metaCRC {
		return header{}, nil, fmt.Errorf("%w: %s at octet %d", ErrDamaged, segmentName(at.seg.n), at.off)
	}
	return h, meta, nil
}

// A reading is what the records of a message say, with their segments held.
type reading struct {
	*accepted
	body location   // where the body begins, of a message in the log
	held []*segment // that of the body is the first
}

// read returns a message as it stands now.
func (s *Spool) read(e *entry) (*postrider.Message, error) {
	r, err := s.readAll(e)
	if err != nil {
		return nil, err
	}
	s.dropSegments(r.held)
	return r.msg, nil
}

// readAll is read that leaves the segments held, for the reading of the body.
func (s *Spool) readAll(e *entry) (*reading, error) {
	s.mu.Lock()
	if s.entries[e.id] != e || e.loc.seg.gone {
		s.mu.Unlock()
		return nil, postrider.ErrNotFound
	}
	at := e.loc
	at.seg.hold()
	r := &reading{held: []*segment{at.seg}}
	rcpts := slices.Clone(e.rcpts)
	for i := range rcpts {
		if g := rcpts[i].last.seg; g != nil {
			g.hold()
			r.held = append(r.held, g)
		}
	}
	s.mu.Unlock()
	if err := r.readEntry(at, rcpts); err != nil {
		s.dropSegments(r.held)
		return nil, fmt.Errorf("message %s: %w", e.id, err)
	}
	return r, nil
}

// readEntry reads the record of a message and what its later records say.
func (r *reading) readEntry(at location, rcpts []rcptState) error {
	h, meta, err := readRecord(at)
	if err != nil {
		return err
	}
	a, err := decodeAccepted(meta)
	if err != nil || len(a.msg.Recipients) != len(rcpts) {
		return fmt.Errorf("%w: %s at octet %d", ErrDamaged, segmentName(at.seg.n), at.off)
	}
	r.accepted, r.body = a, location{at.seg, at.off + headerLen + int64(h.metaLen)}
	for i := range rcpts {
		a.msg.Recipients[i].Held, a.msg.Recipients[i].Passed = rcpts[i].held, rcpts[i].passed
		last := rcpts[i].last
		if last.seg == nil {
			a.msg.Recipients[i].Due = fromNanos(rcpts[i].due)
			continue
		}
		changes, err := readChanges(last, rcpts)
		if err != nil {
			return err
		}
		for j := range changes {
			if n := changes[j].Rcpt; n < len(rcpts) && rcpts[n].last == last {
				apply(&a.msg.Recipients[n], &changes[j])
				a.msg.Recipients[n].Due = fromNanos(rcpts[n].due)
				if n != i {
					rcpts[n].last = location{} // read already
				}
			}
		}
		rcpts[i].last = location{}
	}
	return nil
}

// readChanges reads what a later record says of recipients.
func readChanges(at location, rcpts []rcptState) ([]postrider.Change, error) {
	h, meta, err := readRecord(at)
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
	e := s.entries[id]
	closed := s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return nil, postrider.ErrClosed
	case e == nil:
		return nil, postrider.ErrNotFound
	}
	r, err := s.readAll(e)
	if err != nil {
		return nil, err
	}
	s.dropSegments(r.held[1:])
	c := &content{s: s, a: r.accepted, seg: r.held[0], file: r.body.seg.f, off: r.body.off}
	if r.big {
		f, err := s.fs.OpenFile(path.Join(s.dir, "big", string(id)), os.O_RDONLY, 0)
		switch {
		case err == nil:
			c.file, c.off, c.own = f, 0, true
		case errors.Is(err, fs.ErrNotExist):
			c.gone = err // the sender can still be told
		default:
			c.Close()
			return nil, fmt.Errorf("spool: message %s: %w", id, err)
		}
	}
	s.mu.Lock()
	if e.out != nil {
		e.out.msg = r.msg
	}
	s.mu.Unlock()
	return c, nil
}

// A content is an open message.
type content struct {
	s    *Spool
	a    *accepted
	seg  *segment // held
	file vfs.File // where the body is
	off  int64    // and where in it
	own  bool     // file is its own, to be closed
	gone error    // why there is no file
}

// Message implements postrider.Content.
func (c *content) Message() *postrider.Message {
	m := *c.a.msg
	m.Recipients = slices.Clone(c.a.msg.Recipients)
	return &m
}

// Head implements postrider.Content.
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
	}
	c.seg, c.own = nil, false
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
		r.err = fmt.Errorf("message %s: %w: %w", a.msg.ID, ErrDamaged, r.c.gone)
		return
	}
	off := int64(r.block) * blockLen
	n := min(blockLen, a.size-off)
	if r.buf == nil {
		r.buf = make([]byte, n)
	}
	b := r.buf[:n]
	if _, err := r.c.file.ReadAt(b, r.c.off+off); err != nil && err != io.EOF {
		r.err = fmt.Errorf("spool: message %s: %w", a.msg.ID, err)
		return
	}
	if checksum(b) != a.sums[r.block] {
		r.err = fmt.Errorf("message %s: %w: content at octet %d", a.msg.ID, ErrDamaged, off)
		return
	}
	r.block++
	r.rest = b
}

// Scan implements postrider.Spool.
func (s *Spool) Scan(ctx context.Context) iter.Seq2[*postrider.Message, error] {
	return func(yield func(*postrider.Message, error) bool) {
		s.mu.Lock()
		all := make([]*entry, 0, len(s.entries))
		for _, e := range s.entries {
			all = append(all, e)
		}
		s.mu.Unlock()
		slices.SortFunc(all, func(a, b *entry) int { return strings.Compare(string(a.id), string(b.id)) })
		for _, e := range all {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			m, err := s.read(e)
			if errors.Is(err, postrider.ErrNotFound) {
				continue
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

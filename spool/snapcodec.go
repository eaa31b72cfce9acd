package spool

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/postrider/postrider"
)

// A standing is a message as it stood at some moment, away from the index.
type standing struct {
	entry
	loc   location
	rcpts []rcptState
	last  []location // of each recipient
	whys  []string   // of each, encoded
}

// standing copies an entry. Spool.mu is held.
func (w *snapshotWriter) standing(e *entry) *standing {
	s := w.s
	now := &w.now
	now.entry, now.loc = *e, s.location(e.at)
	if s.waking(e) {
		now.wake = s.now().UnixNano()
	}
	now.rcpts = append(now.rcpts[:0], s.rcpts(e)...)
	now.last, now.whys = now.last[:0], now.whys[:0]
	for i := range now.rcpts {
		now.last = append(now.last, s.location(now.rcpts[i].last))
		now.whys = append(now.whys, s.replies.text(now.rcpts[i].why))
	}
	return now
}

// A messageEncoder writes messages for a snapshot. Replies that many have heard are
// written once and named by their number from then on.
type messageEncoder struct {
	encoder
	replies map[string]uint64
}

// snapshotReplies is how many replies have a number at most; then they begin anew.
const snapshotReplies = 1 << 16

// What stands in place of a reply: none, or one that follows, or the number of one
// that came before.
const (
	replyNone = iota
	replyNew
	replyFirst // of the numbers
)

func (e *messageEncoder) why(text string) {
	n, ok := e.replies[text]
	switch {
	case text == "":
		e.uint(replyNone)
	case ok:
		e.uint(replyFirst + n)
	default:
		if e.replies == nil || len(e.replies) == snapshotReplies {
			e.replies = map[string]uint64{}
		}
		e.replies[text] = uint64(len(e.replies))
		e.uint(replyNew)
		e.str(text)
	}
}

func (e *messageEncoder) message(m *standing, a *accepted, at mark) {
	e.uint(m.id[0])
	e.uint(m.id[1])
	e.uint(m.loc.seg.n)
	e.int(m.loc.off)
	e.uint(uint64(m.recLen))
	e.int(m.arrived)
	e.int(m.wake)
	e.uint(flags(m.big, m.future) | zigzag(m.priority)<<2)
	if m.future {
		e.str(a.msg.Source.Account)
		e.int(nanos(a.msg.Release))
	}
	e.uint(uint64(len(m.rcpts)))
	for i := range m.rcpts {
		e.path(a.msg.Recipients[i].To)
	}
	for i := range m.rcpts {
		r := &m.rcpts[i]
		e.int(r.due)
		e.uint(uint64(r.tries))
		e.uint(uint64(r.state))
		last := m.last[i]
		if last.seg != nil && at.before(last) {
			last = location{} // the log tells it again
		}
		e.uint(flags(r.is.has(isReported), r.is.has(isHeld), r.is.has(isPassed), last.seg != nil, r.is.has(isDelayed)))
		if last.seg != nil {
			e.uint(last.seg.n)
			e.int(last.off)
		}
		e.why(m.whys[i])
	}
}

// A messageDecoder puts the messages of a snapshot into an index.
type messageDecoder struct {
	decoder
	s        *Spool
	segments map[uint64]*segment // that are there
	replies  [][]byte
	n        uint64 // messages
}

var errSnapshotMessage = errors.New("a message of it does not decode")

// why reads a reply as messageEncoder.why writes it.
func (d *messageDecoder) why() []byte {
	switch n := d.uint(); {
	case n == replyNone:
		return nil
	case n == replyNew:
		if len(d.replies) == snapshotReplies {
			d.replies = d.replies[:0]
		}
		text := d.bytes()
		d.replies = append(d.replies, text)
		return text
	case n-replyFirst < uint64(len(d.replies)):
		return d.replies[n-replyFirst]
	}
	d.fail()
	return nil
}

// message puts the next message into the index. Its segment is nil where its
// record is gone, or has moved beyond the mark: then it is not put.
func (d *messageDecoder) message() error {
	s := d.s
	k := key{d.uint(), d.uint()}
	g := d.segments[d.uint()]
	at := location{g, d.int()}
	recLen, arrived, wake := d.uint(), d.int(), d.int()
	f := d.uint()
	var account string
	var release int64
	if f&2 != 0 {
		account, release = d.str(), d.int()
	}
	n := d.count()
	tos := d.b
	for range n {
		d.bytes()
		d.bytes()
	}
	tos = tos[:len(tos)-len(d.b)]
	if d.bad || n == 0 || s.slab.findKey(k) != nil {
		return errSnapshotMessage
	}
	d.n++
	e := s.newEntry(k, n)
	e.arrived, e.big, e.priority, e.again = arrived, f&1 != 0, unzigzag(f>>2), true
	all := s.rcpts(e)
	names := decoder{b: tos}
	for i := range all {
		names.bytes()
		missing := d.rcpt(e, &all[i], names.str())
		if missing && g != nil {
			return errors.New("it names a segment that is gone")
		}
	}
	if d.bad {
		return errSnapshotMessage
	}
	if g == nil {
		s.forget(e)
		return nil
	}
	s.place(e, at, int64(recLen)<<3)
	s.setFuture(e, account, release)
	s.scratch = append(binary.AppendUvarint(s.scratch[:0], uint64(n)), tos...)
	s.keepEncoded(e, s.scratch)
	if wake != never {
		s.setWake(e, wake)
	}
	if e.open == 0 {
		s.forget(e)
	}
	return nil
}

// rcpt reads a recipient. It returns whether that names a segment that is gone.
func (d *messageDecoder) rcpt(e *entry, r *rcptState, domain string) (missing bool) {
	r.due, r.tries, r.state = d.int(), triesOf(int(d.uint())), postrider.State(d.uint())
	f := d.uint()
	r.is.set(isReported, f&1 != 0)
	r.is.set(isHeld, f&2 != 0)
	r.is.set(isPassed, f&4 != 0)
	r.is.set(isDelayed, f&16 != 0)
	if f&8 != 0 {
		g := d.segments[d.uint()]
		r.last = location{g, d.int()}.spot()
		missing = g == nil
	}
	r.why = d.s.replies.add(d.why(), math.MaxInt)
	d.s.setDomain(r, domain)
	d.s.count(e, r, 1)
	return missing
}

// put builds the index out of a snapshot. The segments up to the mark are open;
// what lay in others is gone, or has moved beyond the mark.
func (r *recovery) put(l *loaded) error {
	s := r.s
	d := &messageDecoder{s: s, segments: map[uint64]*segment{}}
	for _, g := range s.segments {
		d.segments[g.n] = g
	}
	for i, b := range l.messages {
		for d.b = b; len(d.b) > 0; {
			if err := d.message(); err != nil {
				return err
			}
		}
		l.messages[i] = nil
	}
	if d.n != l.count {
		return errors.New("messages are missing from it")
	}
	for _, c := range l.readers {
		rd := s.reader(c.reader)
		rd.lsn, rd.stored = c.lsn, c.lsn
	}
	return nil
}

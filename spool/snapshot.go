package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/postrider/postrider/vfs"
)

// A snapshot is the index in a file, so that a start need not read the whole
// log. The log alone says what is true: a snapshot that is missing, or wrong in
// any way, costs time and nothing else.
//
// It is taken while mail goes on. It names a point of the log, the mark, up to
// which all was durable when it was begun; each message in it is as it stood at
// some moment after that. Replaying the log from the mark makes all of them
// right, for every record says what is, and not what changed. It is put in place
// once all that it may have seen is durable itself.
//
// The file is made of records like those of the log: a head, groups of messages,
// an end with their number.
const (
	kindSnapHead = iota + 64
	kindSnapMessages
	kindSnapEnd
)

// A mark is a point of the log that all before is durable of.
type mark struct {
	lsn uint64
	seg *segment
	off int64
}

// snapshotGroup is how many octets of messages go into one record.
const snapshotGroup = 64 << 10

func (s *Spool) snapshotPath() string { return path.Join(s.dir, "index.snap") }

// maybeSnapshot begins a snapshot when the log has grown by enough since the
// last one. It is called by the committer.
func (s *Spool) maybeSnapshot() {
	s.mu.Lock()
	due := !s.stuck && s.sinceSnapshot >= max(s.opt.SnapshotEvery, s.liveBytes/2)
	s.mu.Unlock()
	if !due || s.active == nil || len(s.unsynced) > 0 || len(s.rewrite) > 0 {
		return
	}
	if !s.snapping.CompareAndSwap(false, true) {
		return
	}
	s.sinceSnapshot = 0
	at := mark{s.synced, s.active, s.active.syncedTo}
	s.snapshots.Go(func() {
		defer s.snapping.Store(false)
		if err := s.snapshot(at); err != nil && !errors.Is(err, errSnapshotVoid) {
			s.alarm("spool: no snapshot of the index: %v", err)
		}
	})
}

// errSnapshotVoid ends a snapshot that came to nothing for no fault of the disk.
var errSnapshotVoid = errors.New("spool: snapshot given up")

// snapshot writes the index as of a mark, or a bit later.
func (s *Spool) snapshot(at mark) error {
	tmp := s.snapshotPath() + ".tmp"
	f, err := s.fs.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &snapshotWriter{s: s, f: f, lsn: 1, at: at}
	if err := w.all(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := w.awaitSynced(); err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, s.snapshotPath()); err != nil {
		return err
	}
	s.mu.Lock()
	s.snapBytes = w.off
	stuck := s.stuck
	s.mu.Unlock()
	if stuck { // since it began
		return s.dropSnapshot()
	}
	return s.fs.SyncDir(s.dir)
}

// dropSnapshot lets the next start read the whole log.
func (s *Spool) dropSnapshot() error {
	if err := s.fs.Remove(s.snapshotPath()); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return s.fs.SyncDir(s.dir)
}

// A snapshotWriter writes one snapshot.
type snapshotWriter struct {
	s        *Spool
	f        vfs.File
	at       mark
	off      int64
	lsn      uint64
	abandons int // of segments, before the first message was read
	group    messageEncoder
	now      standing // the message in hand
	n        int      // messages written
}

// awaitSynced waits until all that the snapshot may have seen is durable. What a
// segment held that was given up meanwhile is elsewhere now.
func (w *snapshotWriter) awaitSynced() error {
	s := w.s
	s.mu.Lock()
	seen := s.segments[len(s.segments)-1].last
	s.mu.Unlock()
	for {
		s.mu.Lock()
		done, void, changed := s.synced >= seen, s.closed || s.abandons != w.abandons, s.watch()
		s.mu.Unlock()
		if void {
			return errSnapshotVoid
		}
		if done {
			return nil
		}
		<-changed
	}
}

func (w *snapshotWriter) record(kind uint8, meta []byte) error {
	b := appendRecord(nil, kind, snapshotEpoch, w.lsn, meta, nil)
	if _, err := w.f.WriteAt(b, w.off); err != nil {
		return err
	}
	w.lsn++
	w.off += int64(len(b))
	return nil
}

// snapshotEpoch stands in the records of every snapshot: its file is written
// from its beginning, and has no other life to be confused with.
const snapshotEpoch = 2

func (w *snapshotWriter) all() error {
	s := w.s
	s.mu.Lock()
	w.abandons = s.abandons
	segments := slices.Clone(s.segments)
	head := w.head(segments)
	s.mu.Unlock()
	if err := w.record(kindSnapHead, head); err != nil {
		return err
	}
	for _, g := range segments {
		for _, h := range s.entriesOf(g) {
			if err := w.message(h); err != nil {
				return err
			}
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	var e encoder
	e.uint(uint64(w.n))
	return w.record(kindSnapEnd, e.b)
}

// head says where the mark is, what the segments before it are, and how far the
// readers of the feed had come. Spool.mu is held.
func (w *snapshotWriter) head(segments []*segment) []byte {
	var e encoder
	e.uint(w.at.lsn)
	e.uint(w.at.seg.n)
	e.int(w.at.off)
	e.uint(uint64(len(segments)))
	for _, g := range segments {
		e.uint(g.n)
		e.uint(uint64(g.epoch))
		e.uint(g.last)
		e.int(g.end)
	}
	e.uint(uint64(len(w.s.readerNames)))
	for _, name := range w.s.readerNames {
		e.str(name)
		e.uint(w.s.readers[name].lsn)
	}
	return e.b
}

// entriesOf returns the messages whose record lies in g.
func (s *Spool) entriesOf(g *segment) []handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []handle
	for at := g.head; at != 0; {
		e := s.slab.get(at)
		all = append(all, e.handle())
		at = e.next
	}
	return all
}

func (w *snapshotWriter) flush() error {
	if len(w.group.b) == 0 {
		return nil
	}
	err := w.record(kindSnapMessages, w.group.b)
	w.group.b = w.group.b[:0]
	return err
}

// message writes one message as it stands now; none if it is gone by now, or
// lies beyond the mark, from where the log will be read.
func (w *snapshotWriter) message(h handle) error {
	s := w.s
	s.mu.Lock()
	e := s.slab.at(h)
	switch {
	case s.closed:
		s.mu.Unlock()
		return errSnapshotVoid
	case e == nil || w.at.before(s.location(e.at)):
		s.mu.Unlock()
		return nil
	case e.wanted: // soon over, and not worth a form of its own
		s.mu.Unlock()
		return errSnapshotVoid
	}
	now := w.standing(e)
	now.loc.seg.hold()
	s.mu.Unlock()
	defer s.dropSegments([]*segment{now.loc.seg})
	_, meta, _, err := readRecord(now.loc, min(readFirst, int(now.recLen)<<3), nil)
	if err != nil {
		return err
	}
	a, err := decodeAccepted(meta)
	if err != nil || len(a.msg.Recipients) != len(now.rcpts) {
		return fmt.Errorf("%w: %s at octet %d", ErrDamaged, segmentName(now.loc.seg.n), now.loc.off)
	}
	w.n++
	w.group.message(now, a, w.at)
	if len(w.group.b) < snapshotGroup {
		return nil
	}
	return w.flush()
}

// before reports whether a place of the log comes after the mark.
func (m mark) before(at location) bool {
	return at.seg.n > m.seg.n || at.seg.n == m.seg.n && at.off >= m.off
}

// A loaded is a snapshot that was read, with its messages as they were written.
type loaded struct {
	at       mark // its seg is nil
	n        uint64
	oldest   uint64             // segment
	segments map[uint64]segment // what was known of them: epoch, last and end
	readers  []cursor
	messages [][]byte
	count    uint64 // of messages
}

// loadSnapshot reads the snapshot; nil: there is none, or none that is whole.
func (s *Spool) loadSnapshot() (*loaded, error) {
	f, err := s.fs.OpenFile(s.snapshotPath(), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	s.snapBytes = st.Size()
	sc := &scanner{f: f, epoch: snapshotEpoch, size: st.Size(), lsn: 1}
	var l *loaded
	for {
		rec, err := sc.next()
		switch {
		case err == io.EOF || err == nil && rec.gap:
			return nil, errors.New("it is damaged")
		case err != nil:
			return nil, err
		case rec.kind == kindSnapHead && l == nil:
			if l, err = decodeSnapHead(rec.meta); err != nil {
				return nil, err
			}
		case rec.kind == kindSnapMessages && l != nil:
			l.messages = append(l.messages, rec.meta)
		case rec.kind == kindSnapEnd && l != nil:
			d := decoder{b: rec.meta}
			if l.count = d.uint(); d.bad {
				return nil, errors.New("its end does not decode")
			}
			return l, nil
		default:
			return nil, errors.New("its records are out of order")
		}
	}
}

func decodeSnapHead(meta []byte) (*loaded, error) {
	d := decoder{b: meta}
	l := &loaded{at: mark{lsn: d.uint()}, segments: map[uint64]segment{}}
	l.n, l.at.off = d.uint(), d.int()
	for range d.count() {
		g := segment{n: d.uint(), epoch: uint32(d.uint()), last: d.uint(), end: d.int()}
		l.segments[g.n] = g
		if l.oldest == 0 {
			l.oldest = g.n
		}
	}
	for range d.count() {
		l.readers = append(l.readers, cursor{d.str(), d.uint()})
	}
	if d.bad || len(d.b) != 0 {
		return nil, errors.New("its head does not decode")
	}
	return l, nil
}

// reaches reports whether the segments of the log go without a hole up to the
// one with the mark. Where they do not, the log is to be read, which tells of it.
func (l *loaded) reaches(numbers []uint64) bool {
	prev := uint64(0)
	for _, n := range numbers {
		if prev != 0 && n != prev+1 {
			return false
		}
		if n == l.n {
			return true
		}
		if n >= l.oldest {
			prev = n
		}
	}
	return false
}

// fits reports whether the segments that are there are those that the snapshot
// knows: none of another life, and the one with the mark among them.
func (l *loaded) fits(g *segment) bool {
	known, ok := l.segments[g.n]
	return ok && known.epoch == g.epoch
}

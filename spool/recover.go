package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"github.com/postrider/postrider"
)

// Recovery reads the log in one pass and builds the index. Two things can be
// wrong with a log, and it must tell them apart:
//
// A torn end is what a crash leaves of groups whose sync had not returned:
// nobody was told 250 for them. It is cut off.
//
// Damage is anything wrong with what had been synced. The segment is set aside
// in damaged/, what is left of it is used, and the operator is told.
//
// Each commit record says up to which LSN the log was durable when it was
// written, and so does the header of each segment. A group at or below such an
// LSN is proven; for one that is not, and is not whole, there is no way to know,
// and it is taken as torn, with all that follows.
type recovery struct {
	s     *Spool
	snap  *loaded  // nil: the whole log is read
	held  []*group // read, and not yet proven
	cur   *group   // the group that is being read
	last  uint64   // LSN of the last record that counts
	begun bool     // a segment was read that was ever written to
	// headless has no header that can be read, and no group of it is whole yet.
	headless *segment
	damage   []string
	buf      []byte // of the scanners, one after another
}

// A group is records that were written at once.
type group struct {
	seg   *segment
	start int64
	end   int64
	recs  []scanned
	last  uint64
	whole bool // no record is missing, and the commit record is there
}

// recover opens the segments, builds the index and begins a new segment.
func (s *Spool) recover(ctx context.Context) error {
	entries, err := s.fs.ReadDir(path.Join(s.dir, "seg"))
	if err != nil && !(s.opt.ReadOnly && errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("spool: read folder: %w", err)
	}
	var numbers []uint64
	for _, de := range entries {
		if n, ok := segmentNumber(de.Name()); ok {
			numbers = append(numbers, n)
			s.nextSegment = n
		}
	}
	s.nextSegment++
	if numbers, err = s.leaveSecondName(numbers); err != nil {
		return err
	}
	if len(numbers) > 0 {
		s.remover.doubt = numbers[0] - 1
	}
	r, err := s.readLog(ctx, numbers)
	if err != nil {
		return err
	}
	if err := r.finish(); err != nil {
		return err
	}
	s.slab.each(func(e *entry) { // before the contents are looked for: what was dropped needs none
		if s.applyWants(e); e.open == 0 {
			s.forget(e)
		}
	})
	if err := s.checkBig(r); err != nil {
		return err
	}
	now := s.now().UnixNano()
	s.slab.each(func(e *entry) {
		if e.owed > 0 {
			// The log does not tell when what is owed wanted a look, as a Wake lease may
			// have been out when that was written down.
			s.wakeBy(e, now)
		}
	})
	for _, what := range r.damage {
		s.alarm("spool: %s", what)
		if d := (&damage{at: now, what: what}); !s.opt.ReadOnly {
			s.rewrite = append(s.rewrite, &item{kind: kindDamaged, meta: d.encode()})
		}
	}
	if s.opt.ReadOnly {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rd := range s.readers {
		rd.lsn = min(rd.lsn, s.lsn)
	}
	return nil
}

// readLog reads the segments, the older ones as the snapshot knows them. Where
// the snapshot is no good, or does not agree with the log, the log is right, and
// all of it is read.
func (s *Spool) readLog(ctx context.Context, numbers []uint64) (*recovery, error) {
	snap, err := s.loadSnapshot()
	if err == nil && snap != nil && snap.reaches(numbers) {
		r := &recovery{s: s, snap: snap}
		if err = r.segments(ctx, numbers); err == nil || !errors.Is(err, errSnapshot) {
			return r, err
		}
		s.forgetAll()
	}
	if err != nil {
		s.alarm("spool: the snapshot of the index cannot be used, the whole log is read: %v", err)
	}
	r := &recovery{s: s}
	return r, r.segments(ctx, numbers)
}

// errSnapshot is wrapped by what is wrong with a snapshot.
var errSnapshot = errors.New("snapshot")

// forgetAll empties the index for another reading of the log.
func (s *Spool) forgetAll() {
	for _, g := range s.segments {
		g.f.Close()
	}
	s.segments, s.slots, s.freeSlots, s.remover.left = nil, make([]*segment, 1), nil, nil
	s.recovered = recovered{}
	s.readers, s.readerNames = map[string]*feedReader{}, nil
	s.initIndex()
}

func (r *recovery) segments(ctx context.Context, numbers []uint64) error {
	for _, n := range numbers {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.segment(n); err != nil {
			return err
		}
	}
	return nil
}

// segment reads one segment.
func (r *recovery) segment(n uint64) error {
	s := r.s
	name := s.segmentPath(n)
	flag := os.O_RDWR
	if s.opt.ReadOnly {
		flag = os.O_RDONLY
	}
	f, err := s.fs.OpenFile(name, flag, 0)
	if errors.Is(err, fs.ErrNotExist) && s.opt.ReadOnly {
		return nil // removed since by the process that has the spool
	}
	if err != nil {
		return fmt.Errorf("spool: open segment: %w", err)
	}
	g := &segment{n: n, f: f, end: segmentHeaderLen}
	s.enlist(g)
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("spool: open segment: %w", err)
	}
	g.size = st.Size()
	head := make([]byte, segmentHeaderLen)
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return fmt.Errorf("spool: read segment: %w", err)
	}
	herr := g.parseHeader(head)
	if herr != nil && !errors.Is(herr, errSegmentHeader) {
		return fmt.Errorf("spool: %w", herr)
	}
	if r.snap != nil && n <= r.snap.n {
		r.begun = true
		return r.known(g)
	}
	if herr == nil {
		r.border(g)
		r.begun = true
	}
	if err := r.records(g, herr != nil); err != nil {
		return err
	}
	r.begun = r.begun || g.first > 0 || written(f, g.size)
	return nil
}

// written reports whether there is anything behind the header of a segment, or
// nobody knows. Before the first record there are zeros.
func written(f io.ReaderAt, size int64) bool {
	octets := io.NewSectionReader(f, segmentHeaderLen, max(0, size-segmentHeaderLen))
	block := make([]byte, 64<<10)
	for {
		n, err := octets.Read(block)
		if len(bytes.Trim(block[:n], "\x00")) > 0 || err != nil && err != io.EOF {
			return true
		}
		if err == io.EOF {
			return false
		}
	}
}

// known takes a segment as the snapshot knows it, and reads that of the mark
// from there on. One that was never begun has no header, and no epoch there too.
func (r *recovery) known(g *segment) error {
	if g.n < r.snap.oldest {
		return r.leave(g)
	}
	if !r.snap.fits(g) {
		return fmt.Errorf("%w: it does not know %s", errSnapshot, segmentName(g.n))
	}
	if g.n < r.snap.n {
		g.last, g.end = r.snap.segments[g.n].last, r.snap.segments[g.n].end
		return nil
	}
	g.last, g.end, r.last = r.snap.at.lsn, r.snap.at.off, r.snap.at.lsn
	if err := r.put(r.snap); err != nil {
		return fmt.Errorf("%w: %w", errSnapshot, err)
	}
	return r.scan(g, &scanner{f: g.f, epoch: g.epoch, off: g.end, size: g.size, lsn: r.last + 1}, false)
}

// border ends what came before a segment, by what its header says of it. Nothing is
// missing before the first, for what was there was removed; also where one stands
// before it that was never begun: seeds 8500, 11076 and 14795 of the simulator.
func (r *recovery) border(g *segment) {
	r.closeGroup()
	r.prove(g.after)
	if g.after > r.last && len(r.s.segments) > 1 && r.begun {
		r.damaged(r.s.segments[len(r.s.segments)-2], "records %d to %d are missing", r.last+1, g.after)
	}
	r.held = nil // beyond after: void
	r.last, g.last = g.first-1, g.first-1
}

// leave takes no notice of a segment that was removed from the front of the log
// before the snapshot was taken, and whose file is there again, for the removal
// was not durable.
func (r *recovery) leave(g *segment) error {
	s := r.s
	s.segments = s.segments[:len(s.segments)-1]
	s.unslot(g)
	s.remover.left = append(s.remover.left, leaving{n: g.n})
	return g.f.Close()
}

// records reads the records of a segment. Where its header is lost, any record
// will do, and if there is none the segment was never begun.
func (r *recovery) records(g *segment, lost bool) error {
	sc := &scanner{f: g.f, epoch: g.epoch, off: segmentHeaderLen, size: g.size, lsn: g.first}
	if lost {
		sc.lsn = r.last + 1
	}
	return r.scan(g, sc, lost)
}

// scan reads the records that sc meets.
func (r *recovery) scan(g *segment, sc *scanner, lost bool) error {
	sc.buf = r.buf[:0]
	defer func() { r.buf = sc.buf }()
	for first := true; ; first = false {
		rec, err := sc.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if lost && first {
			r.closeGroup()
			r.headless = g
			r.damaged(g, "its header cannot be read")
			g.epoch, g.first, g.last = rec.epoch, rec.lsn, rec.lsn-1
			if len(r.s.segments) == 1 {
				r.last = g.last // what was before it may have been removed
			}
			sc.epoch = rec.epoch
		}
		r.record(g, rec)
	}
}

// record adds a record to its group, and ends the group at its commit record.
func (r *recovery) record(g *segment, rec scanned) {
	if r.cur == nil {
		r.cur = &group{seg: g, start: rec.off, whole: true}
	}
	cur := r.cur
	if rec.gap {
		cur.whole = false
	}
	cur.recs = append(cur.recs, rec)
	cur.last, cur.end = rec.lsn, rec.off+rec.size()
	if rec.kind != kindCommit {
		return
	}
	c, err := decodeCommit(rec.meta)
	if err != nil {
		return
	}
	if cur.recs[0].lsn < c.first {
		r.split(c.first)
		cur = r.cur
	}
	if len(cur.recs) > 0 && cur.recs[0].lsn == c.first && uint64(len(cur.recs)) == rec.lsn-c.first+1 {
		cur.whole = true // a gap before its first record was not its own
	} else {
		cur.whole = false
	}
	if r.headless == g {
		r.headless = nil
		r.borderless(g, c.synced, cur.recs[0].lsn)
	}
	r.held = append(r.held, cur)
	r.cur = nil
	r.prove(c.synced)
}

// borderless is border of a segment whose header cannot be read, at the first group
// that is whole, or would be. What was durable when that was written its commit record
// says, which is what the header said.
func (r *recovery) borderless(g *segment, after, first uint64) {
	r.prove(after)
	r.held = slices.DeleteFunc(r.held, func(old *group) bool { return old.seg != g && old.last > after })
	if r.last >= after {
		r.last = max(r.last, first-1)
	}
}

// split ends, as not whole, what came before the group that begins at LSN first.
func (r *recovery) split(first uint64) {
	cur := r.cur
	n := 0
	for n < len(cur.recs) && cur.recs[n].lsn < first {
		n++
	}
	before := &group{seg: cur.seg, start: cur.start, end: cur.recs[n-1].off + cur.recs[n-1].size(), recs: cur.recs[:n], last: first - 1}
	r.held = append(r.held, before)
	r.cur = &group{seg: cur.seg, start: before.end, end: cur.end, recs: cur.recs[n:], last: cur.last}
	if n < len(cur.recs) {
		r.cur.start = cur.recs[n].off
	}
}

// closeGroup ends a group that has no commit record.
func (r *recovery) closeGroup() {
	if r.cur != nil {
		r.cur.whole = false
		r.held = append(r.held, r.cur)
		r.cur = nil
	}
}

// prove takes what is known to have been durable.
func (r *recovery) prove(lsn uint64) {
	for len(r.held) > 0 && r.held[0].last <= lsn {
		g := r.held[0]
		r.held = r.held[1:]
		if !g.whole {
			r.damaged(g.seg, "records before octet %d are missing or cannot be read", g.end)
		} else if g.recs[0].lsn != r.last+1 {
			r.damaged(g.seg, "records %d to %d are missing", r.last+1, g.recs[0].lsn-1)
		}
		r.take(g)
	}
}

// finish takes the groups at the end that nothing proves, up to the first that
// is not whole, and makes durable what it took.
func (r *recovery) finish() error {
	s := r.s
	r.closeGroup()
	var took []*group
	for len(r.held) > 0 {
		g := r.held[0]
		if !g.whole || g.recs[0].lsn != r.last+1 {
			break
		}
		if whole, err := r.bodies(g); err != nil {
			return err
		} else if !whole {
			break
		}
		r.held = r.held[1:]
		r.take(g)
		took = append(took, g)
	}
	s.lsn, s.synced, s.lastFilled = r.last, r.last, r.last
	for _, g := range s.segments {
		s.logBytes += g.end
	}
	if s.opt.ReadOnly || len(s.segments) == 0 {
		return nil
	}
	g := s.segments[len(s.segments)-1]
	if err := g.f.Truncate(g.end); err != nil {
		return fmt.Errorf("spool: cut the end of %s: %w", segmentName(g.n), err)
	}
	for _, g := range took {
		if err := g.writeAgain(); err != nil {
			return fmt.Errorf("spool: write the end of %s again: %w", segmentName(g.seg.n), err)
		}
	}
	if err := g.f.Sync(); err != nil {
		return fmt.Errorf("spool: sync %s: %w", segmentName(g.n), err)
	}
	return nil
}

// writeAgain writes a group where it is. The process before us may have died
// after a sync of it had failed: then the system has it in memory, believes that
// it is on the disk, and would not write it out for a sync of ours.
func (g *group) writeAgain() error {
	b := make([]byte, g.end-g.start)
	if _, err := g.seg.f.ReadAt(b, g.start); err != nil && err != io.EOF {
		return err
	}
	if _, err := g.seg.f.WriteAt(b, g.start); err != nil {
		return err
	}
	return g.seg.f.Sync()
}

// bodies reports whether the bodies of a group are what was written. What cannot
// be read now is not torn: the next start may read it.
func (r *recovery) bodies(g *group) (bool, error) {
	buf := make([]byte, blockLen)
	for i := range g.recs {
		rec := &g.recs[i]
		if rec.bodyLen == 0 {
			continue
		}
		a, err := decodeAccepted(rec.meta)
		if err != nil {
			return false, nil
		}
		off := rec.off + headerLen + int64(rec.metaLen)
		for j, sum := range a.sums {
			b := buf[:min(blockLen, a.size-int64(j)*blockLen)]
			if _, err := g.seg.f.ReadAt(b, off+int64(j)*blockLen); err != nil && err != io.EOF {
				return false, fmt.Errorf("spool: read the end of %s: %w", segmentName(g.seg.n), err)
			}
			if checksum(b) != sum {
				return false, nil
			}
		}
	}
	return true, nil
}

// take does what the records of a group say.
func (r *recovery) take(g *group) {
	for i := range g.recs {
		if err := r.apply(g.seg, &g.recs[i]); err != nil {
			r.damaged(g.seg, "record %d: %v", g.recs[i].lsn, err)
		}
	}
	r.last = g.last
	g.seg.last, g.seg.end = g.last, g.end
}

// apply does what one record says.
func (r *recovery) apply(g *segment, rec *scanned) error {
	s := r.s
	at := location{g, rec.off}
	switch rec.kind {
	case kindAccept, kindMove:
		a, err := decodeAccepted(rec.meta)
		if err != nil {
			return err
		}
		if old := s.slab.find(a.msg.ID); old != nil {
			s.forget(old)
		}
		e := s.insert(a, at, rec.size())
		e.again = true
		s.keepTos(e, a.msg)
	case kindState:
		st, err := decodeState(rec.meta)
		if err != nil {
			return err
		}
		e := s.slab.find(st.id)
		if e == nil {
			return nil // forgotten since: its segment was removed
		}
		for i := range st.changes {
			if st.changes[i].Rcpt >= len(s.rcpts(e)) {
				return fmt.Errorf("message %s has no recipient %d", st.id, st.changes[i].Rcpt)
			}
		}
		st.changes = slices.DeleteFunc(st.changes, func(c postrider.Change) bool { return s.overtaken(e, st, &c) })
		s.applyState(e, st, at)
		if e.open == 0 {
			s.forget(e)
		}
	case kindAmend:
		a, err := decodeAmendment(rec.meta)
		if err != nil {
			return err
		}
		e := s.slab.find(a.id)
		if e == nil {
			return nil
		}
		for _, n := range a.rcpts {
			if int(n) >= len(s.rcpts(e)) {
				return fmt.Errorf("message %s has no recipient %d", a.id, n)
			}
		}
		s.applyAmend(e, a, at, true)
		if e.open == 0 {
			s.forget(e)
		}
	case kindCursor:
		c, err := decodeCursor(rec.meta)
		if err != nil {
			return err
		}
		rd := s.reader(c.reader)
		rd.lsn, rd.stored = c.lsn, c.lsn
	case kindCommit, kindDamaged:
	default:
		return fmt.Errorf("its kind %d is unknown", rec.kind)
	}
	return nil
}

// overtaken reports whether the change says of a recipient that it still waits,
// whom an operator had ended meanwhile, and the snapshot knows that end already:
// its amendment lies before the mark, and is not read again.
func (s *Spool) overtaken(e *entry, st *state, c *postrider.Change) bool {
	return c.State == postrider.Waiting && s.rcpts(e)[c.Rcpt].state != postrider.Waiting &&
		slices.ContainsFunc(st.done, func(f fulfilled) bool { return int(f.rcpt) == c.Rcpt })
}

// damaged notes damage, and sets the segment aside as it is.
func (r *recovery) damaged(g *segment, format string, args ...any) {
	s := r.s
	name := segmentName(g.n)
	what := name + " is damaged: " + fmt.Sprintf(format, args...)
	if !s.opt.ReadOnly {
		what += "; a copy is kept in " + path.Join(s.dir, "damaged")
		if err := s.keepCopy(name); err != nil {
			s.alarm("spool: set aside %s: %v", name, err)
		}
	}
	r.damage = append(r.damage, what)
}

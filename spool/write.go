package spool

import (
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/postrider/postrider"
)

// write appends items and a commit record in one write, and syncs if asked to.
// After an error nothing of it counts, now or after a crash that finds a later
// segment; the file is given up, for Linux forgets what it could not flush, and
// a second sync of it would lie.
func (s *Spool) write(items []*item, sync bool, group []*request) error {
	if len(s.rewrite) > 0 {
		items = append(s.rewrite[:len(s.rewrite):len(s.rewrite)], items...)
	}
	if err := s.room(items, !slices.ContainsFunc(group, (*request).mail)); err != nil {
		return err
	}
	g := s.active
	if g.last < g.first { // a new segment begins with what must not go with the old ones
		items = append(s.cursorItems(0), items...)
	} else {
		items = append(items, s.cursorItems(cursorLag)...)
	}
	for _, req := range group {
		req.wrote = true
	}
	unsynced, rewrite := s.unsynced, s.rewrite // now, for room may have synced
	s.rewrite = nil
	err := s.append(g, items)
	if err == nil && sync {
		err = s.sync()
	} else if err != nil {
		s.abandon()
	}
	if err != nil {
		s.rewrite = append(unsynced[:len(unsynced):len(unsynced)], rewrite...) // and not what this group held: its batches fail
	}
	return err
}

// append writes the group.
func (s *Spool) append(g *segment, items []*item) error {
	c := commit{first: s.lsn + 1, synced: s.synced}
	off := g.end
	buf := s.buf[:0]
	s.recent.hear(c.first, items)
	s.proof.said = c.synced
	for _, it := range items {
		s.lsn++
		it.at = location{g, off + int64(len(buf))}
		n := len(buf)
		buf = appendRecord(buf, it.kind, g.epoch, s.lsn, it.meta, it.body)
		it.size = int64(len(buf) - n)
	}
	if len(items) > 0 {
		s.lastFilled = s.lsn
	}
	s.lsn++
	buf = appendRecord(buf, kindCommit, g.epoch, s.lsn, c.encode(), nil)
	if s.buf = buf; cap(buf) > 2*groupMax {
		s.buf = nil
	}
	if _, err := g.f.WriteAt(buf, off); err != nil {
		return fmt.Errorf("spool: write %s: %w", segmentName(g.n), err)
	}
	s.mu.Lock()
	s.logBytes += int64(len(buf))
	s.sinceSnapshot += int64(len(buf))
	g.end += int64(len(buf))
	g.last = s.lsn
	for _, it := range items {
		s.relocate(it)
		if it.cursor != nil {
			s.readers[it.cursor.reader].stored = it.cursor.lsn
		}
	}
	s.mu.Unlock()
	for _, it := range items {
		if it.kind == kindState || it.kind == kindAmend || it.kind == kindDamaged {
			s.unsynced = append(s.unsynced, it)
		}
	}
	return nil
}

// relocate points the index to the new place of a state that was written again.
func (s *Spool) relocate(it *item) {
	e := s.slab.at(it.e)
	if !it.again || e == nil {
		return
	}
	all, was, at := s.rcpts(e), it.was.spot(), it.at.spot()
	for i := range all {
		if all[i].last == was {
			all[i].last = at
		}
	}
	for _, w := range s.wants[e.self] {
		if w.at == it.was {
			w.at = it.at
		}
	}
}

// sync makes durable what was written.
func (s *Spool) sync() error {
	g, began := s.active, time.Now()
	if err := g.f.Sync(); err != nil {
		s.abandon()
		return fmt.Errorf("spool: sync %s: %w", segmentName(g.n), err)
	}
	s.pace.took = time.Since(began)
	s.unsynced = nil
	s.proof.has = s.proof.said
	g.syncedTo = g.end
	s.recent.durable(s.lsn, g, g.end)
	s.mu.Lock()
	s.synced = s.lsn
	s.mu.Unlock()
	return nil
}

// abandon gives up the active segment after a failed write or sync. What was
// written lazily and is not durable will be written again, elsewhere.
func (s *Spool) abandon() {
	g := s.active
	s.active = nil
	for _, it := range s.unsynced {
		it.again, it.was = true, it.at
	}
	s.rewrite, s.unsynced = append(s.rewrite, s.unsynced...), nil
	s.recent.abandon()
	s.mu.Lock()
	s.logBytes -= g.end - g.syncedTo
	g.end, g.last = g.syncedTo, s.synced
	s.abandons++
	s.mu.Unlock()
	s.alarm("spool: %s can no longer be written, a new segment takes its place", segmentName(g.n))
}

// owes reports whether there is something to write or to sync that nobody waits for.
func (s *Spool) owes() bool {
	return len(s.unsynced)+len(s.rewrite) > 0 || s.proof.owed
}

// syncLazy syncs what nobody waits for.
func (s *Spool) syncLazy() {
	if !s.owes() {
		return
	}
	var err error
	moved := s.moves(compactMost)
	write := len(s.rewrite)+len(moved) > 0 || s.proof.owed
	if s.active != nil && !write {
		err = s.sync()
	}
	if s.active == nil || write {
		err = s.write(moved, true, nil)
	}
	if err != nil {
		s.alarm("%v", err)
		moved = nil
	}
	s.lazyPause = lazyPause(err)
	if full(err) && s.proof.owed {
		s.proof.waived(s.lastFilled) // a disk that is full must be able to empty
	}
	s.finish(nil, moved, err)
	s.emptyTrash()
}

// lazyPause is how long what nobody waits for may wait, after an error of the last try.
func lazyPause(err error) time.Duration {
	if err != nil {
		return lazyRetryTime
	}
	return lazySyncTime
}

// writeClean ends the log so that the next start knows that all of it was
// durable.
func (s *Spool) writeClean() {
	if s.active == nil {
		return
	}
	err := s.room(nil, true)
	if err == nil {
		err = s.append(s.active, s.cursorItems(0))
	}
	if err == nil {
		err = s.sync()
	}
	if err != nil {
		s.alarm("spool: at the end: %v", err)
	}
}

// room sees to a segment that takes the items, with the cursors and the commit
// record. On a full disk what brings no new mail may spend the spare.
func (s *Spool) room(items []*item, spend bool) error {
	if !spend && s.spent {
		if s.keepSpare(); s.spent {
			return errSpent
		}
	}
	need := int64(headerLen + 64)
	for _, it := range items {
		need += headerLen + int64(len(it.meta)+len(it.body)) + 8
	}
	s.mu.Lock()
	need += int64(len(s.readers)) * (headerLen + 128)
	s.mu.Unlock()
	if s.active != nil && s.active.end+need <= s.active.size {
		return nil
	}
	if s.active != nil {
		if err := s.sync(); err != nil {
			return err
		}
	}
	size := max(s.opt.SegmentSize, segmentHeaderLen+need)
	g, err := s.createSegment(s.nextSegment, s.lsn+1, s.synced, size, false)
	if full(err) && spend {
		g, err = s.lastSegment(segmentHeaderLen+need, err)
	}
	if err != nil {
		return err
	}
	s.nextSegment++
	s.active = g
	s.proof.said, s.proof.has = g.after, g.after
	s.known.doubt()
	s.mu.Lock()
	s.enlist(g)
	s.logBytes += segmentHeaderLen
	s.mu.Unlock()
	return nil
}

// cursorItems returns the positions of the readers of the feed that went on by
// more than lag records since they were last written.
func (s *Spool) cursorItems(lag uint64) []*item {
	s.mu.Lock()
	defer s.mu.Unlock()
	var items []*item
	for _, name := range s.readerNames {
		r := s.readers[name]
		if lag > 0 && r.lsn < r.stored+lag {
			continue
		}
		c := &cursor{reader: name, lsn: r.lsn}
		items = append(items, &item{kind: kindCursor, cursor: c, meta: c.encode()})
	}
	return items
}

// cursorLag is how many records a reader of the feed may see again after a crash.
const cursorLag = 1024

// A trashItem is a file that goes when what made it needless is durable.
type trashItem struct {
	name string
	lsn  uint64
}

// discardBig lets the file of a forgotten message go once its end is durable: a
// file must not go before the record that says so.
func (s *Spool) discardBig(id postrider.ID) {
	s.trash = append(s.trash, trashItem{path.Join(s.dir, "big", string(id)), s.lsn})
}

// discardVoid lets the file of a message go that was written and not made
// durable: its record is void once a later one is durable, in a segment that
// says so.
func (s *Spool) discardVoid(it *item) {
	if it.kind == kindAccept && it.add.big {
		s.trash = append(s.trash, trashItem{path.Join(s.dir, "big", string(it.add.msg.ID)), s.lsn + 1})
	}
}

// emptyTrash hands over the files that may go now, and the oldest segments when
// nothing in them lives and every reader of the feed is past them.
func (s *Spool) emptyTrash() {
	n := 0
	for n < len(s.trash) && s.trash[n].lsn <= s.synced {
		s.remove <- removal{name: s.trash[n].name}
		n++
	}
	s.trash = s.trash[n:]
	s.keepSpare()
	s.proof.owed = false
	for {
		g := s.takeFront()
		if g == nil {
			return
		}
		s.remove <- removal{seg: g}
	}
}

// A proof is what the log itself says of how far it was durable. What ended a
// segment is to be proven before that is removed: what nothing proves a recovery
// takes as torn, without a word, and where a bit of it has turned on the disk the
// messages that were moved would be gone with it (seed 508 of the simulator). Under
// load the next group proves it; where none comes, one without mail is written.
type proof struct {
	said uint64 // LSN, by the last commit record or header
	has  uint64 // LSN, by the last that is durable
	owed bool   // a segment waits for it
}

// waived lets what is so old go unproven.
func (p *proof) waived(lsn uint64) { p.has = max(p.has, lsn) }

// takeFront takes the oldest segment from the log if it is finished.
func (s *Spool) takeFront() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) < 2 {
		return nil
	}
	g := s.segments[0]
	if g == s.active || g.head != 0 || s.synced < s.lsn { // what ended its messages may be the newest record
		return nil
	}
	for _, name := range s.readerNames {
		if r := s.readers[name]; r.lsn < g.last && s.logBytes < s.opt.FeedMax {
			return nil
		}
	}
	if g.over == 0 {
		g.over = s.lastFilled
	}
	if s.proof.has < g.over {
		s.proof.owed = true
		return nil
	}
	s.segments = s.segments[1:]
	s.unslot(g)
	s.logBytes -= g.end
	g.gone = true
	g.hold()
	return g
}

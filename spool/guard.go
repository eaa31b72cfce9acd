package spool

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"sync"
	"syscall"
	"time"
)

// A full disk must be able to empty. New mail is refused while there is less
// room than MinFree (Room, which is asked before the content is sent), and when
// the disk is full in spite of that, settlements and reports still have the
// spare: a file as large as a segment, which becomes the next segment when no
// other can be made. Each message that is settled with it may free others.

// inodesMin is how many inodes new mail leaves free.
const inodesMin = 1000

// minFreeShare and minFreeDefault are the default of MinFree.
const (
	minFreeShare   = 20 // one in so many
	minFreeDefault = 1 << 30
)

// A known is what the file system had left a moment ago. That there is room is
// believed for roomTime, for roomPart of the octets and of the inodes that new mail may
// still take, and until something could not be written. So however fast messages come,
// the system is asked some times a second; and a no is never believed, so that a disk
// that has room again takes mail at once.
type known struct {
	mu     sync.Mutex // not held while the system is asked
	at     time.Time
	octets int64 // that may still be promised by it
	mails  int64
}

// What one look at the file system is good for.
const (
	roomTime = 100 * time.Millisecond
	roomPart = 16 // one in so many
)

// takes reports whether what is known is enough for one message more.
func (k *known) takes(size int64, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if age := now.Sub(k.at); age < 0 || age >= roomTime || size > k.octets || k.mails == 0 {
		return false
	}
	k.octets -= size
	k.mails--
	return true
}

// learn notes that so much more may be promised.
func (k *known) learn(octets, mails int64, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at, k.octets, k.mails = now, octets, mails
}

// doubt forgets what is known: something could not be written, or much was.
func (k *known) doubt() { k.learn(0, 0, time.Time{}) }

// Room reports whether a message of size octets may be taken, by what the file
// system has left. A file system that does not say takes everything: then the
// write will tell.
func (s *Spool) Room(size int64) bool {
	now := s.now()
	return s.known.takes(size, now) || s.look(size, now)
}

// look is Room that asks the file system.
func (s *Spool) look(size int64, now time.Time) bool {
	sp, err := s.fs.StatFS(s.dir)
	if err != nil {
		return true
	}
	least := s.opt.MinFree
	if least == 0 {
		// On a small file system the segment and the spare are a large part.
		least = min(max(minFreeDefault, sp.Total/minFreeShare), sp.Total/4)
	}
	inodes := int64(math.MaxInt64)
	if sp.Inodes >= 0 {
		inodes = sp.Inodes - inodesMin
	}
	left := sp.Free - size - least
	if left < 0 || inodes < 0 {
		return false
	}
	s.known.learn(left/roomPart, inodes/roomPart, now)
	return true
}

// fitSegments chooses the size of segments where it was left to us: of a small
// file system the log and the spare must not take all.
func (s *Spool) fitSegments() {
	if s.opt.SegmentSize != 0 {
		return
	}
	s.opt.SegmentSize = segmentSize
	dir := s.dir
	if _, err := s.fs.Stat(dir); err != nil {
		dir = path.Dir(dir)
	}
	if sp, err := s.fs.StatFS(dir); err == nil && sp.Total > 0 {
		s.opt.SegmentSize = max(segmentSizeMin, min(segmentSize, sp.Total/16))
	}
}

// segmentSize is the size of segments on a file system of usual size, and
// segmentSizeMin on a tiny one.
const (
	segmentSize    = 64 << 20
	segmentSizeMin = 1 << 20
)

// full reports whether err says that the file system has no room.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// mail reports whether a batch brings new mail.
func (req *request) mail() bool { return len(req.batch.Add) > 0 && len(req.batch.Settle) == 0 }

// splitMail parts the batches that bring new mail from those that settle.
// A report comes with the settlement of what it is about.
func splitMail(group []*request) (mail, rest []*request) {
	for _, req := range group {
		if req.mail() {
			mail = append(mail, req)
		} else {
			rest = append(rest, req)
		}
	}
	return mail, rest
}

func itemsOf(group []*request) (items []*item) {
	for _, req := range group {
		items = append(items, req.items...)
	}
	return items
}

func (s *Spool) sparePath() string { return path.Join(s.dir, "spare") }

// keepSpare makes the spare, if it is not there and the disk has room for it.
func (s *Spool) keepSpare() {
	if s.spare || !s.look(s.opt.SegmentSize, s.now()) {
		return
	}
	s.fs.Remove(s.sparePath()) // of another life; never written into, for the name may be all that is left of a segment
	f, err := s.fs.OpenFile(s.sparePath(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return
	}
	s.known.doubt()
	err = f.Allocate(s.opt.SegmentSize)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		s.fs.Remove(s.sparePath())
		return
	}
	s.spare, s.spent = true, false
}

// errSpent refuses mail while the spare is spent: it would fill the segment that the
// spare has become, and then nothing could be settled any more.
var errSpent = fmt.Errorf("spool: the disk is full, and the spare is in use: %w", syscall.ENOSPC)

// smallestSegment is what is worth a segment where the disk is full.
const smallestSegment = 4 << 10

// lastSegment makes a segment on a full disk for what brings no mail: out of the
// spare, or as small as it need be, for a start gives back what the last segment had
// not used, and the spare may be gone by then.
func (s *Spool) lastSegment(need int64, err error) (g *segment, _ error) {
	if s.spare && need <= s.opt.SegmentSize {
		g, err = s.createSegment(s.nextSegment, s.lsn+1, s.synced, s.opt.SegmentSize, true)
	}
	for size := s.opt.SegmentSize / 4; full(err) && size >= max(need, smallestSegment); size /= 4 {
		g, err = s.createSegment(s.nextSegment, s.lsn+1, s.synced, size, false)
	}
	if err == nil {
		s.spent = true
		s.alarm("spool: the disk is full: what was left is in use, no new mail is taken until there is room")
	}
	return g, err
}

// takeSpare makes the spare the file of a segment.
func (s *Spool) takeSpare(name string) error {
	s.spare = false
	if err := s.fs.Rename(s.sparePath(), name); err != nil {
		return fmt.Errorf("spool: take the spare: %w", err)
	}
	return nil
}

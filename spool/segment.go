package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/postrider/postrider/vfs"
)

// A segment is one file of the log, seg/NNNNNNNNNN.seg. It begins with
//
//	"POSTRIDR" | version u32 | epoch u32 | number u64 | first LSN u64 | after u64 | CRC u32 | zeros to 64
//
// The epoch is random, so that octets of another file are never taken for
// records. After is the last LSN that counts in the segments before this one:
// what they hold beyond it was answered with an error, and is void.
type segment struct {
	n     uint64
	epoch uint32
	first uint64 // LSN of its first record
	after uint64
	f     vfs.File

	// Guarded by Spool.mu.
	end  int64  // octets that count
	last uint64 // LSN of the last record that counts; first-1: none
	slot uint32 // in Spool.slots; 0: not there
	head ref    // messages whose record lies here, in the order of their records
	tail ref
	refs int  // readers
	gone bool // removed: close f when refs is 0

	// Of the committer alone.
	size     int64  // octets that fit
	syncedTo int64  // octets that are durable
	over     uint64 // LSN of what ended its last message, or something later; 0: it may not be over
}

const (
	segmentMagic     = "POSTRIDR"
	segmentVersion   = 1
	segmentHeaderLen = 64
)

var errSegmentHeader = errors.New("segment header is damaged")

func segmentName(n uint64) string { return fmt.Sprintf("%010d.seg", n) }

// segmentNumber reads the number of a segment's file name.
func segmentNumber(name string) (uint64, bool) {
	s, ok := strings.CutSuffix(name, ".seg")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && segmentName(n) == name
}

func (g *segment) header() []byte {
	b := make([]byte, 0, segmentHeaderLen)
	b = append(b, segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, segmentVersion)
	b = binary.LittleEndian.AppendUint32(b, g.epoch)
	b = binary.LittleEndian.AppendUint64(b, g.n)
	b = binary.LittleEndian.AppendUint64(b, g.first)
	b = binary.LittleEndian.AppendUint64(b, g.after)
	b = binary.LittleEndian.AppendUint32(b, checksum(b))
	return append(b, make([]byte, segmentHeaderLen-len(b))...)
}

func (g *segment) parseHeader(b []byte) error {
	if len(b) < segmentHeaderLen || string(b[:8]) != segmentMagic || binary.LittleEndian.Uint32(b[40:]) != checksum(b[:40]) {
		return errSegmentHeader
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != segmentVersion {
		return fmt.Errorf("segment %d has format %d, and this program knows format %d: start the program that wrote it, or a newer one", g.n, v, segmentVersion)
	}
	g.epoch = binary.LittleEndian.Uint32(b[12:])
	g.first = binary.LittleEndian.Uint64(b[24:])
	g.after = binary.LittleEndian.Uint64(b[32:])
	return nil
}

// headerNumber reads the number that stands in a whole header.
func headerNumber(b []byte) (uint64, bool) {
	g := segment{}
	return binary.LittleEndian.Uint64(b[16:]), g.parseHeader(b) == nil
}

// createSegment makes a segment durable, empty and with its space reserved; out
// of the spare if told so.
func (s *Spool) createSegment(n, first, after uint64, size int64, spare bool) (*segment, error) {
	g := &segment{n: n, epoch: s.rand.Uint32() | 1, first: first, last: first - 1, after: after,
		end: segmentHeaderLen, size: size, syncedTo: segmentHeaderLen}
	name, since := s.segmentPath(n), s.segs.Mark()
	if spare {
		if err := s.takeSpare(name); err != nil {
			return nil, err
		}
	}
	f, err := s.segmentFile(name, spare)
	if err != nil {
		return nil, fmt.Errorf("spool: create segment: %w", err)
	}
	g.f = f
	err = s.initSegment(g, size, spare)
	if err == nil {
		err = s.segs.Sync(since)
	}
	if err != nil {
		f.Close()
		s.fs.Remove(name) // what stays is an empty segment, which recovery takes away
		return nil, fmt.Errorf("spool: create segment %s: %w", segmentName(n), err)
	}
	return g, nil
}

// segmentFile opens the file of a new segment, which is the spare or made now.
func (s *Spool) segmentFile(name string, spare bool) (vfs.File, error) {
	if spare {
		return s.fs.OpenFile(name, os.O_RDWR, 0)
	}
	return vfs.CreateAnew(s.fs, name, 0o600)
}

func (s *Spool) initSegment(g *segment, size int64, spare bool) error {
	if !spare { // which has its space
		if err := g.f.Allocate(size); err != nil {
			return err
		}
	}
	// From here on a start may find this header, whatever becomes of us: what comes
	// after it in the segment before would be void.
	s.active = nil
	if _, err := g.f.WriteAt(g.header(), 0); err != nil {
		return err
	}
	return g.f.Sync()
}

// hold keeps the file of g open until drop. Spool.mu is held.
func (g *segment) hold() { g.refs++ }

// drop ends a hold, and returns the file if it is to be closed.
func (g *segment) drop() vfs.File {
	if g.refs--; g.refs == 0 && g.gone {
		return g.f
	}
	return nil
}

// dropSegments ends holds, and closes what nobody reads any more.
func (s *Spool) dropSegments(held []*segment) {
	s.mu.Lock()
	files := dropAll(held)
	s.mu.Unlock()
	closeAll(files)
}

// dropAll ends holds, and returns the files to be closed. Spool.mu is held.
func dropAll(held []*segment) (files []vfs.File) {
	for _, g := range held {
		if f := g.drop(); f != nil {
			files = append(files, f)
		}
	}
	return files
}

func closeAll(files []vfs.File) {
	for _, f := range files {
		f.Close()
	}
}

// enlist adds g at the end of the log.
func (s *Spool) enlist(g *segment) {
	s.segments = append(s.segments, g)
	if n := len(s.freeSlots); n > 0 {
		g.slot, s.freeSlots = s.freeSlots[n-1], s.freeSlots[:n-1]
		s.slots[g.slot] = g
		return
	}
	g.slot = uint32(len(s.slots))
	s.slots = append(s.slots, g)
}

// unslot is for a segment that no location names any more.
func (s *Spool) unslot(g *segment) {
	s.slots[g.slot] = nil
	s.freeSlots = append(s.freeSlots, g.slot)
}

package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/postrider/postrider/vfs"
)

// Segments are removed from the front of the log, one durably before the next:
// the log never has a hole, or what ended the mail of a segment could go before
// it, and the mail come back.
//
// A removal whose sync has failed is in doubt for good: the file may come back
// with the next power cut, and a later sync of the folder need not change that.
// So is, at a start, that of the segment before the first one, for the process
// before us may have died over it. Before the next segment goes, its file is
// therefore given the name in doubt too, and that is removed and synced: these
// are changes of their own, and with them the name is gone for sure. A start that
// finds the second name knows it by its header, which has another number.

// A removal is a file on its way out.
type removal struct {
	name string
	seg  *segment
}

// A leaving is a segment to be removed.
type leaving struct {
	n    uint64
	read bool // somebody reads it still
}

// A remover removes the segments of a spool.
type remover struct {
	s     *Spool
	left  []leaving // in their order
	doubt uint64    // segment whose removal is in doubt: the one before the first of the log; 0: none
}

// runRemovals removes files, which may take long. A segment that cannot be removed
// is tried again with the next, and at the next start.
func (s *Spool) runRemovals(r *remover) {
	defer close(s.removed)
	r.segments()
	for what := range s.remove {
		if what.seg == nil {
			if err := s.fs.Remove(what.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.alarm("spool: remove: %v", err)
			}
			continue
		}
		s.mu.Lock()
		out := leaving{what.seg.n, what.seg.refs > 1}
		s.mu.Unlock()
		s.dropSegments([]*segment{what.seg})
		r.left = append(r.left, out)
		r.segments()
	}
}

// segments removes what is left, as far as the disk lets it.
func (r *remover) segments() {
	for len(r.left) > 0 {
		n := r.left[0].n
		f := r.grasp(r.left[0])
		err := r.settle(n)
		if err == nil {
			err = r.remove(n)
		}
		if err != nil {
			r.s.alarm("spool: remove: %v", err)
		}
		if f != nil {
			r.free(f, err == nil)
		}
		if err != nil && r.doubt != n {
			return // its file is there
		}
		r.left = r.left[1:]
	}
}

// settle makes sure that the segment before n is gone, where that is in doubt.
func (r *remover) settle(n uint64) error {
	if r.doubt == 0 {
		return nil
	}
	err := r.s.fs.Link(r.s.segmentPath(n), r.s.segmentPath(r.doubt))
	switch {
	case err == nil, errors.Is(err, fs.ErrExist): // from an earlier try
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
		// A file system without links, or a file that somebody took away: one sync more is all that can be done.
	default:
		return err
	}
	return r.remove(r.doubt)
}

// remove removes a segment, which is in doubt until a sync of the folder says
// that it is gone.
func (r *remover) remove(n uint64) error {
	s := r.s
	since := s.segs.Mark()
	if err := s.fs.Remove(s.segmentPath(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.doubt = n
	if err := s.segs.Sync(since); err != nil {
		return err
	}
	r.doubt = 0
	return nil
}

// freeSteps is in how many pieces the space of a segment is given back, and
// freePause what the disk has for others after each. A file system that tells its
// disk of every octet that is free (the mount option discard) holds up all syncs
// for as long as that takes: some 15 ms for 64 MiB.
const (
	freeSteps = 16
	freePause = 2 * time.Millisecond
	freeSmall = 1 << 20 // octets of a piece that is not worth a pause
)

// grasp opens a segment that nobody reads, so that it can be freed when it has no
// name any more; nil: it goes as a whole.
func (r *remover) grasp(out leaving) vfs.File {
	if _, err := r.s.fs.Stat(path.Join(r.s.dir, "damaged", segmentName(out.n))); out.read || !errors.Is(err, fs.ErrNotExist) {
		return nil // somebody wants it, now or later
	}
	f, err := r.s.fs.OpenFile(r.s.segmentPath(out.n), os.O_RDWR, 0)
	if err != nil {
		return nil // then all of it goes at once
	}
	return f
}

// free gives back what a file takes that has no name, or closes one that may have.
func (r *remover) free(f vfs.File, nameless bool) {
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !nameless {
		return
	}
	step := max(st.Size()/freeSteps, 1)
	for size := st.Size() - step; size > 0; size -= step {
		if f.Truncate(size) != nil {
			return // the rest goes with the file
		}
		if step < freeSmall {
			continue
		}
		select {
		case <-time.After(freePause):
		case <-r.s.stop:
		}
	}
}

func (s *Spool) segmentPath(n uint64) string { return path.Join(s.dir, "seg", segmentName(n)) }

// leaveSecondName returns the segments without the first, where that is a name
// that settle gave to the second, and takes the name away.
func (s *Spool) leaveSecondName(numbers []uint64) ([]uint64, error) {
	if len(numbers) < 2 {
		return numbers, nil
	}
	f, err := s.fs.OpenFile(s.segmentPath(numbers[0]), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) && s.opt.ReadOnly {
		return numbers, nil
	}
	if err != nil {
		return nil, fmt.Errorf("spool: open segment: %w", err)
	}
	defer f.Close()
	head := make([]byte, segmentHeaderLen)
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("spool: read segment: %w", err)
	}
	if n, ok := headerNumber(head); !ok || n != numbers[1] {
		return numbers, nil
	}
	if s.opt.ReadOnly {
		return numbers[1:], nil
	}
	if err := s.fs.Remove(s.segmentPath(numbers[0])); err != nil {
		s.alarm("spool: remove: %v", err)
	}
	return numbers[1:], nil
}

package spool

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A draft is a content on its way in. It stays in memory while it is small and
// the memory for drafts lasts; then it goes to a file of its own, big/ID, which
// its author syncs, so that it never holds up the log. The record that names
// the file is what makes the message; a file without one is removed at start.
type draft struct {
	s     *Spool
	id    postrider.ID
	buf   []byte // all of it while it is in memory
	file  vfs.File
	since int // Folder.Mark before it was made
	size  int64
	sums  []uint32
	few   [4]uint32 // what sums is of, mostly
	block uint32    // CRC of the block that is not full yet, of a file
	fill  int
	err   error
	state draftState
	lent  bool // buf is kept by Spool.fresh
}

type draftState uint8

const (
	draftOpen draftState = iota
	draftCommitting
	draftDone // committed, discarded, or of unknown fate: not ours any more
)

var errDraftUsed = errors.New("spool: the draft was committed or discarded before")

// Create implements postrider.Spool.
func (s *Spool) Create(ctx context.Context, id postrider.ID) (postrider.Draft, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if id == "" {
		id = s.newID()
	} else if _, ok := packID(id); !ok {
		return nil, fmt.Errorf("spool: %q is no ID", id)
	}
	return &draft{s: s, id: id}, nil
}

func (d *draft) ID() postrider.ID { return d.id }
func (d *draft) Size() int64      { return d.size }

func (d *draft) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.state != draftOpen {
		return 0, errDraftUsed
	}
	if d.file == nil && (d.size+int64(len(p)) > d.s.opt.SmallMax || !d.reserve(len(p))) {
		if d.err = d.spill(); d.err != nil {
			d.s.known.doubt()
			return 0, d.err
		}
	}
	if d.file == nil {
		if d.buf == nil {
			d.buf = *d.s.bufs.Get().(*[]byte)
		}
		d.buf = append(d.buf, p...)
	} else if d.err = d.writeFile(p); d.err != nil {
		d.s.known.doubt()
		return 0, d.err
	}
	d.size += int64(len(p))
	return len(p), nil
}

// reserve takes n octets of the memory for drafts.
func (d *draft) reserve(n int) bool {
	if d.s.draftBytes.Add(int64(n)) > d.s.opt.DraftMemory {
		d.s.draftBytes.Add(int64(-n))
		return false
	}
	return true
}

// The capacities of buffers that are used again for other drafts.
const (
	draftLeast = 8 << 10
	draftMost  = 64 << 10
)

func (d *draft) path() string { return path.Join(d.s.dir, "big", string(d.id)) }

// spill moves what is in memory to a file. One that is there is the content of
// another message of this ID, or of one whose fate is not known yet.
func (d *draft) spill() error {
	d.since = d.s.bigs.Mark()
	f, err := d.s.fs.OpenFile(d.path(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return postrider.ErrExists
	}
	if err != nil {
		return fmt.Errorf("spool: create file for a large message: %w", err)
	}
	d.file = f
	err = d.writeFile(d.buf)
	d.freeBuf() // not before: it is another draft's from then on
	return err
}

func (d *draft) freeBuf() {
	d.s.draftBytes.Add(int64(-len(d.buf)))
	if c := cap(d.buf); c >= draftLeast && c <= draftMost && !d.lent {
		b := d.buf[:0]
		d.s.bufs.Put(&b)
	}
	d.buf = nil
}

func (d *draft) writeFile(p []byte) error {
	if _, err := d.file.Write(p); err != nil {
		return fmt.Errorf("spool: write large message %s: %w", d.id, err)
	}
	for len(p) > 0 {
		n := min(len(p), blockLen-d.fill)
		d.block = crcUpdate(d.block, p[:n])
		if d.fill += n; d.fill == blockLen {
			d.sums = append(d.sums, d.block)
			d.block, d.fill = 0, 0
		}
		p = p[n:]
	}
	return nil
}

// finish makes the content ready for its record: a file is synced with its
// directory.
func (d *draft) finish() error {
	if d.err != nil {
		return d.err
	}
	if d.state != draftOpen {
		return errDraftUsed
	}
	d.state = draftCommitting
	if d.file == nil {
		d.sums = blockSums(d.few[:0], d.buf)
		return nil
	}
	if d.fill > 0 {
		d.sums = append(d.sums, d.block)
		d.block, d.fill = 0, 0 // a batch that was refused may come again
	}
	if err := d.file.Sync(); err != nil {
		d.err = fmt.Errorf("spool: sync large message %s: %w", d.id, err)
	} else if err := d.s.bigs.Sync(d.since); err != nil {
		d.err = fmt.Errorf("spool: sync the folder of large messages: %w", err)
	}
	return d.err
}

// written ends the draft once its record is on the disk, or may be without our
// knowing: then the file stays until that record is void (Spool.discardVoid), or
// until the next start decides.
func (d *draft) written() {
	d.state = draftDone
	d.freeBuf()
	if d.file != nil {
		d.file.Close()
		d.file = nil
	}
}

// Discard implements postrider.Draft.
func (d *draft) Discard() {
	if d.state == draftDone {
		return
	}
	d.state = draftDone
	d.freeBuf()
	if d.file != nil {
		d.file.Close()
		d.file = nil
		if err := d.s.fs.Remove(d.path()); err != nil {
			d.s.alarm("spool: a discarded large message stays until the next start: %v", err)
		}
	}
}

// newID returns an ID that no other message has: nine characters of time in
// milliseconds, four of a count, seven of chance drawn when the spool was
// opened.
func (s *Spool) newID() postrider.ID {
	now := s.now().UnixMilli()
	for {
		old := s.idClock.Load()
		next := max(old+1, now<<idCountBits)
		if s.idClock.CompareAndSwap(old, next) {
			var b [idLen]byte
			putBase36(b[:9], uint64(next>>idCountBits))
			putBase36(b[9:13], uint64(next&(1<<idCountBits-1)))
			copy(b[13:], s.bootID)
			return postrider.ID(b[:])
		}
	}
}

// idCountBits is how many bits of Spool.idClock count the IDs of a millisecond.
const idCountBits = 20

// base36 prints the lowest n digits of v.
func base36(v uint64, n int) string {
	b := make([]byte, n)
	putBase36(b, v)
	return string(b)
}

func putBase36(b []byte, v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = idDigits[v%36]
		v /= 36
	}
}

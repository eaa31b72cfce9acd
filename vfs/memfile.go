package vfs

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"syscall"
	"time"
)

// A memFile is an open file of a Mem. It may be used by several goroutines.
type memFile struct {
	m    *Mem
	name string
	flag int
	node *node

	// guarded by the lock of the disk
	pos    int64
	closed bool
	told   uint64 // of what the file has lost by syncs of the whole disk
}

// change does one change to a file: seen at once, durable with the next sync.
func (d *disk) change(n *node, ch change) {
	d.seq++
	ch.seq = d.seq
	if ch.kind == changeWrite {
		ch.size = n.now.size
		n.bad = slices.DeleteFunc(n.bad, func(s span) bool { return s.off < ch.off+int64(len(ch.data)) && ch.off < s.end })
	}
	n.now.apply(ch)
	n.changes = append(n.changes, ch)
	d.dirty[n] = true
	n.modTime = time.Now()
}

// A span is a part of a file.
type span struct{ off, end int64 }

// Spoil makes n octets of a file at off, a sector gone bad, unreadable: who reads over
// them gets what is before and EIO, time after time, after a crash as well, until one
// of them is written again.
func (m *Mem) Spoil(name string, off, n int64) error {
	return m.do("spoil", name, func(d *disk) error {
		_, node, err := d.there(name)
		if err != nil {
			return err
		}
		node.bad = append(node.bad, span{off, off + n})
		return nil
	})
}

// readAt reads at off, up to what cannot be read.
func (n *node) readAt(b []byte, off int64) (int, error) {
	got := n.now.readAt(b, off)
	var err error
	for _, s := range n.bad {
		if s.off < off+int64(got) && off < s.end {
			got, err = int(max(0, s.off-off)), syscall.EIO
		}
	}
	if err != nil {
		clear(b[got:])
	}
	return got, err
}

// run is Mem.run for an open file. Only what writes may change it.
func (f *memFile) run(op Op, verb string, do func(d *disk) error) error {
	op.Name = f.name
	return f.m.run(op, verb, f.name, func(d *disk) error {
		if err := f.usable(op.Kind); err != nil {
			return err
		}
		return do(d)
	})
}

func (f *memFile) usable(kind OpKind) error {
	writes := f.flag&(os.O_WRONLY|os.O_RDWR) != 0
	switch {
	case f.closed:
		return fs.ErrClosed
	case kind == OpRead && f.flag&os.O_WRONLY != 0:
		return syscall.EBADF
	case kind == OpRead && f.node.isDir():
		return syscall.EISDIR
	case (kind == OpWrite || kind == OpAllocate) && !writes:
		return syscall.EBADF
	case kind == OpTruncate && !writes:
		return syscall.EINVAL
	}
	return nil
}

// position returns where a Read or Write would begin now.
func (f *memFile) position(write bool) int64 {
	f.m.disk.mu.Lock()
	defer f.m.disk.mu.Unlock()
	if write && f.flag&os.O_APPEND != 0 && !f.node.isDir() {
		return f.node.now.size
	}
	return f.pos
}

func (f *memFile) Read(b []byte) (n int, err error) {
	err = f.run(Op{Kind: OpRead, Off: f.position(false), Len: len(b)}, "read", func(*disk) error {
		var err error
		n, err = f.node.readAt(b, f.pos)
		f.pos += int64(n)
		return err
	})
	if err == nil && n == 0 && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

func (f *memFile) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, wrap("readat", f.name, errNegative)
	}
	err = f.run(Op{Kind: OpRead, Off: off, Len: len(b)}, "read", func(*disk) error {
		var err error
		n, err = f.node.readAt(b, off)
		return err
	})
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

var (
	errNegative = errors.New("negative offset")
	errAppend   = errors.New("WriteAt on a file that was opened to append")
)

func (f *memFile) Write(b []byte) (int, error) { return f.write(b, -1) }

func (f *memFile) WriteAt(b []byte, off int64) (int, error) {
	switch {
	case f.flag&os.O_APPEND != 0:
		return 0, wrap("writeat", f.name, errAppend)
	case off < 0:
		return 0, wrap("writeat", f.name, errNegative)
	}
	return f.write(b, off)
}

// write writes at off, or where the file stands when off is negative. A hook may
// let it write only a part.
func (f *memFile) write(b []byte, off int64) (wrote int, err error) {
	op := Op{Kind: OpWrite, Name: f.name, Off: off, Len: len(b)}
	if off < 0 {
		op.Off = f.position(true)
	}
	failed := f.m.start(op)
	if failed != nil {
		var short *ShortWrite
		if !errors.As(failed, &short) {
			return 0, wrap("write", f.name, failed)
		}
		b = b[:max(0, min(short.N, len(b)))]
	}
	err = f.m.do("write", f.name, func(d *disk) error {
		if err := f.usable(OpWrite); err != nil {
			return err
		}
		at := off
		switch {
		case off < 0 && f.flag&os.O_APPEND != 0:
			at = f.node.now.size
		case off < 0:
			at = f.pos
		}
		if at > math.MaxInt64-int64(len(b)) {
			return syscall.EFBIG
		}
		if len(b) > 0 {
			d.change(f.node, change{kind: changeWrite, off: at, data: slices.Clone(b)})
		}
		if off < 0 {
			f.pos = at + int64(len(b))
		}
		wrote = len(b)
		return failed
	})
	return wrote, err
}

func (f *memFile) Truncate(size int64) error {
	return f.run(Op{Kind: OpTruncate, Off: size}, "truncate", func(d *disk) error {
		if size < 0 {
			return syscall.EINVAL
		}
		if size != f.node.now.size {
			d.change(f.node, change{kind: changeCut, size: size})
		}
		return nil
	})
}

func (f *memFile) Allocate(size int64) error {
	return f.run(Op{Kind: OpAllocate, Off: size}, "allocate", func(d *disk) error {
		if size < 0 {
			return syscall.EINVAL
		}
		if size > f.node.now.size {
			d.change(f.node, change{kind: changeGrow, size: size})
		}
		return nil
	})
}

// Sync makes durable what was written before it was called. When it fails, that
// is lost: still read until the crash, and no later Sync makes it durable, as on
// Linux, where a page whose writing failed counts as clean. So it does, once, when
// a sync of the whole disk has lost what was written.
func (f *memFile) Sync() error {
	upto := f.m.mark()
	failed := f.m.start(Op{Kind: OpSync, Name: f.name})
	return f.m.do("sync", f.name, func(d *disk) error {
		if f.closed {
			return fs.ErrClosed
		}
		if f.node.isDir() {
			return errors.Join(failed, syscall.EINVAL)
		}
		if f.told != f.node.lost {
			f.told, failed = f.node.lost, errors.Join(failed, syscall.EIO)
		}
		if failed != nil {
			d.settleFile(f.node, upto, lost)
			return failed
		}
		d.settleFile(f.node, upto, sure)
		return nil
	})
}

// settleFile gives the pending changes of a file up to a number their fate, and
// reports whether there were any.
func (d *disk) settleFile(n *node, upto uint64, f fate) bool {
	old := slices.ContainsFunc(n.changes, func(ch change) bool { return ch.fate == pending && ch.seq <= upto })
	n.settle(upto, f)
	if !slices.ContainsFunc(n.changes, func(ch change) bool { return ch.fate == pending }) {
		delete(d.dirty, n)
	}
	return old
}

// settle gives the pending changes up to a number their fate. What is sure and
// has nothing open before it becomes the synced content.
func (n *node) settle(upto uint64, f fate) {
	for i := range n.changes {
		if ch := &n.changes[i]; ch.fate == pending && ch.seq <= upto {
			ch.fate = f
		}
	}
	done := 0
	for done < len(n.changes) && n.changes[done].fate == sure {
		n.synced.apply(n.changes[done])
		done++
	}
	n.changes = slices.Delete(n.changes, 0, done)
	if len(n.changes) == 0 {
		n.changes = nil
	}
}

func (f *memFile) Close() error {
	return f.m.do("close", f.name, func(*disk) error {
		if f.closed {
			return fs.ErrClosed
		}
		f.closed = true
		f.m.opened--
		return nil
	})
}

func (f *memFile) Stat() (info fs.FileInfo, err error) {
	err = f.run(Op{Kind: OpStat}, "stat", func(*disk) error {
		info = f.node.info(path.Base(f.name))
		return nil
	})
	return info, err
}

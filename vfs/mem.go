package vfs

import (
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Mem is a machine with a file system in memory. It keeps apart what is
// durable and what a crash may lose: Crash makes the disk that a power cut could
// leave, Kill the one that the death of the process leaves. Names with and
// without a leading slash are the same. Permissions are kept and not enforced.
//
// How it loses: of a file, each sector of 512 octets holds the state after some
// of its unsynced writes, in their order, and any part of the growth in length
// may have come too. Of a directory, each name is as of some point of its
// unsynced history; a rename is one step for both its names. Different sectors
// and different names do not depend on each other. A file without a durable
// entry may vanish, synced or not.
type Mem struct {
	disk *disk
	// guarded by disk.mu
	dead   bool
	ops    int
	opened int // files
	hook   func(Op) error
	delay  func(Op) time.Duration
}

// A disk is what the machines that use it one after the other share.
type disk struct {
	mu    sync.Mutex
	root  *node
	seq   uint64         // of the last change
	steps []*step        // of directories, not yet durable, oldest first
	locks []*node        // locked files
	dirty map[*node]bool // files with changes that are pending
	space Space          // what StatFS says; zero: the default
}

// A node is a file or a directory, under however many names.
type node struct {
	mode    fs.FileMode
	modTime time.Time

	// Of a directory: as it is, and as of the last sync.
	entries map[string]*node
	durable map[string]*node

	// Of a file: as it is, as of the last sync, and what came between.
	now     *content
	synced  *content
	changes []change
	bad     []span // what cannot be read until it is written again

	lost uint64 // how many syncs of the whole disk have lost changes of the file, or names of the directory
	told uint64 // of a directory: how many of these a SyncDir has told
}

// NewMem returns a machine with an empty disk.
func NewMem() *Mem {
	return &Mem{disk: newDisk(newDir(0o755))}
}

func newDisk(root *node) *disk { return &disk{root: root, dirty: map[*node]bool{}} }

func newDir(perm fs.FileMode) *node {
	return &node{mode: fs.ModeDir | perm.Perm(), modTime: time.Now(),
		entries: map[string]*node{}, durable: map[string]*node{}}
}

func newFile(perm fs.FileMode) *node {
	return &node{mode: perm.Perm(), modTime: time.Now(), now: newContent(), synced: newContent()}
}

func (n *node) isDir() bool { return n.entries != nil }

// do runs one operation that has been started: under the lock, if the machine
// still lives.
func (m *Mem) do(op, name string, f func(d *disk) error) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	err := error(ErrCrash)
	if !m.dead {
		err = f(m.disk)
	}
	return wrap(op, name, err)
}

func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// run starts an operation and does it.
func (m *Mem) run(op Op, verb, name string, f func(d *disk) error) error {
	if err := m.start(op); err != nil {
		return wrap(verb, name, err)
	}
	return m.do(verb, name, f)
}

// find walks to a name and returns its entry and what is there, nil if nothing.
// The entry of the root has no directory.
func (d *disk) find(name string) (entry, *node, error) {
	if name == "" {
		return entry{}, nil, syscall.ENOENT
	}
	at, here := entry{}, d.root
	for part := range strings.SplitSeq(path.Clean("/" + name)[1:], "/") {
		switch {
		case part == "":
			continue
		case here == nil:
			return entry{}, nil, syscall.ENOENT
		case !here.isDir():
			return entry{}, nil, syscall.ENOTDIR
		}
		at = entry{here, part}
		here = here.entries[part]
	}
	return at, here, nil
}

// there is find for a name that must be there.
func (d *disk) there(name string) (entry, *node, error) {
	at, n, err := d.find(name)
	if err == nil && n == nil {
		err = syscall.ENOENT
	}
	return at, n, err
}

// OpenFile opens a file, or makes one.
func (m *Mem) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	kind := OpOpen
	m.disk.mu.Lock()
	_, n, err := m.disk.find(name)
	m.disk.mu.Unlock()
	if err == nil && (n == nil && flag&os.O_CREATE != 0 || n != nil && flag&os.O_TRUNC != 0) {
		kind = OpCreate
	}
	f := &memFile{m: m, name: name, flag: flag}
	err = m.run(Op{Kind: kind, Name: name}, "open", name, func(d *disk) error {
		if f.node, err = d.open(name, flag, perm); err == nil {
			f.told = f.node.lost
			m.opened++
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d *disk) open(name string, flag int, perm fs.FileMode) (*node, error) {
	at, n, err := d.find(name)
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	switch {
	case err != nil:
		return nil, err
	case n == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case n == nil:
		n = newFile(perm)
		d.set(entrySet{at, n})
		return n, nil
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, syscall.EEXIST
	case n.isDir() && (writes || flag&os.O_CREATE != 0):
		return nil, syscall.EISDIR
	}
	if flag&os.O_TRUNC != 0 && writes && n.now.size > 0 {
		d.change(n, change{kind: changeCut})
	}
	return n, nil
}

// Opened returns how many files are open.
func (m *Mem) Opened() int {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.opened
}

// Stat describes what a name leads to.
func (m *Mem) Stat(name string) (info fs.FileInfo, err error) {
	err = m.run(Op{Kind: OpStat, Name: name}, "stat", name, func(d *disk) error {
		_, n, err := d.there(name)
		if err == nil {
			info = n.info(path.Base(name))
		}
		return err
	})
	return info, err
}

// ReadDir lists a directory, sorted by name.
func (m *Mem) ReadDir(name string) (list []fs.DirEntry, err error) {
	err = m.run(Op{Kind: OpReadDir, Name: name}, "readdir", name, func(d *disk) error {
		_, n, err := d.there(name)
		if err != nil {
			return err
		}
		if !n.isDir() {
			return syscall.ENOTDIR
		}
		for _, name := range sortedNames(n.entries) {
			list = append(list, fs.FileInfoToDirEntry(n.entries[name].info(name)))
		}
		return nil
	})
	return list, err
}

func sortedNames(entries map[string]*node) []string {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Rename moves an entry, and replaces a file that has the new name.
func (m *Mem) Rename(from, to string) error {
	return m.run(Op{Kind: OpRename, Name: to}, "rename", from+" "+to, func(d *disk) error {
		src, n, err := d.find(from)
		if err != nil {
			return err
		}
		dst, old, err := d.find(to)
		switch {
		case err != nil:
			return err
		case n == nil:
			return syscall.ENOENT
		case old != nil && old.isDir():
			return syscall.EEXIST
		case src.dir == nil || n.isDir() && d.inside(dst.dir, n):
			return syscall.EINVAL
		case old != nil && n.isDir():
			return syscall.ENOTDIR
		case old == n:
			return nil // two names of one file: rename(2) leaves both
		}
		d.set(entrySet{src, nil}, entrySet{dst, n})
		return nil
	})
}

// inside reports whether dir is top or lies under it.
func (d *disk) inside(dir, top *node) bool {
	if dir == top {
		return true
	}
	for _, n := range top.entries {
		if n.isDir() && d.inside(dir, n) {
			return true
		}
	}
	return false
}

// Link gives a file a second name.
func (m *Mem) Link(from, to string) error {
	return m.run(Op{Kind: OpLink, Name: to}, "link", from+" "+to, func(d *disk) error {
		_, n, err := d.there(from)
		if err != nil {
			return err
		}
		dst, old, err := d.find(to)
		switch {
		case err != nil:
			return err
		case old != nil:
			return syscall.EEXIST
		case n.isDir():
			return syscall.EPERM
		}
		d.set(entrySet{dst, n})
		return nil
	})
}

// Remove removes a file, or a directory that is empty.
func (m *Mem) Remove(name string) error {
	return m.run(Op{Kind: OpRemove, Name: name}, "remove", name, func(d *disk) error {
		at, n, err := d.there(name)
		switch {
		case err != nil:
			return err
		case at.dir == nil:
			return syscall.EBUSY
		case len(n.entries) > 0:
			return syscall.ENOTEMPTY
		}
		d.set(entrySet{at, nil})
		return nil
	})
}

// MkdirAll makes a directory and those above it that are missing, each in a
// step of its own.
func (m *Mem) MkdirAll(name string, perm fs.FileMode) error {
	return m.run(Op{Kind: OpMkdir, Name: name}, "mkdir", name, func(d *disk) error {
		clean := path.Clean("/" + name)
		for end := 1; end <= len(clean); end++ {
			if end < len(clean) && clean[end] != '/' {
				continue
			}
			at, n, err := d.find(clean[:end])
			switch {
			case err != nil:
				return err
			case n == nil:
				d.set(entrySet{at, newDir(perm)})
			case !n.isDir():
				return syscall.ENOTDIR
			}
		}
		return nil
	})
}

// Lock takes a lock that ends with the machine.
func (m *Mem) Lock(name string) (io.Closer, error) {
	var n *node
	err := m.run(Op{Kind: OpLock, Name: name}, "lock", name, func(d *disk) (err error) {
		if n, err = d.open(name, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return err
		}
		if slices.Contains(d.locks, n) {
			return ErrLocked
		}
		d.locks = append(d.locks, n)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &memLock{m: m, name: name, node: n}, nil
}

type memLock struct {
	m    *Mem
	name string
	node *node
}

func (l *memLock) Close() error {
	return l.m.do("unlock", l.name, func(d *disk) error {
		i := slices.Index(d.locks, l.node)
		if l.node == nil || i < 0 {
			return fs.ErrClosed
		}
		d.locks = slices.Delete(d.locks, i, i+1)
		l.node = nil
		return nil
	})
}

package vfs

import (
	"errors"
	"sync"
)

// A Folder syncs the names of a directory for all who change them at once. A
// SyncDir that fails may have lost what others did there, and a later one does not
// bring it back, though it succeeds: the failure is told once. So there is one at a
// time, which serves all who wait for it, and whoever changes a name says which
// syncs had failed before: a change counts as durable when one has come back and
// none has failed since.
//
// A name that stands there after a failed sync is made durable by a change of its
// own, and by nothing else. Its methods may be called by many goroutines at once.
type Folder struct {
	fs   FS
	name string

	mu      sync.Mutex // guards what follows; not held while a sync runs
	failed  int
	running *folderSync // nil: none
	next    *folderSync // that begins when running has ended; nil: nobody waits
}

// A folderSync is one sync. Err and failed are set when done is closed.
type folderSync struct {
	done   chan struct{}
	err    error
	failed int // of the folder, this one counted
}

// ErrFolder is the error of a Sync that came back, after another had failed.
var ErrFolder = errors.New("a sync of the folder has failed meanwhile")

// NewFolder returns the Folder of a directory, which need not be there yet. It
// works where all who change names there at the same time have the same one.
func NewFolder(fsys FS, name string) *Folder { return &Folder{fs: fsys, name: name} }

// Mark returns how many syncs have failed. It is asked before a name is changed.
func (f *Folder) Mark() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Sync makes durable what was changed since Mark returned since. After an error,
// which is that of SyncDir or ErrFolder, nothing is known of these changes.
func (f *Folder) Sync(since int) error {
	f.mu.Lock()
	before, mine := f.running, f.next
	lead := mine == nil
	if lead {
		mine = &folderSync{done: make(chan struct{})}
		f.next = mine
	}
	f.mu.Unlock()
	if lead {
		if before != nil {
			<-before.done
		}
		f.run(mine)
	}
	<-mine.done
	if mine.err == nil && mine.failed != since {
		return wrap("syncdir", f.name, ErrFolder)
	}
	return mine.err
}

// run does one sync, when the one before has ended.
func (f *Folder) run(one *folderSync) {
	f.mu.Lock()
	f.running, f.next = one, nil // who comes now may have changed what this one does not see
	f.mu.Unlock()
	one.err = f.fs.SyncDir(f.name)
	f.mu.Lock()
	if one.err != nil {
		f.failed++
	}
	one.failed = f.failed
	if f.running == one {
		f.running = nil
	}
	f.mu.Unlock()
	close(one.done)
}

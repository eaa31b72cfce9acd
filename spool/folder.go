package spool

import (
	"errors"
	"sync"

	"github.com/postrider/postrider/vfs"
)

// A folder syncs the names of a folder for all who change them at once. A sync
// that fails may have lost what others did there, and a later one does not bring
// it back, though it succeeds. So there is one at a time, which serves all who
// wait for it, and whoever changes a name says which syncs had failed before: a
// change counts as durable when one has come back and none has failed since.
type folder struct {
	fs   vfs.FS
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

// errFolder is of a sync that came back, after another had failed.
var errFolder = errors.New("a sync of the folder has failed meanwhile")

// mark returns how many syncs have failed. It is asked before a name is changed.
func (f *folder) mark() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// sync makes durable what was changed since mark returned since.
func (f *folder) sync(since int) error {
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
		return errFolder
	}
	return mine.err
}

// run does one sync, when the one before has ended.
func (f *folder) run(one *folderSync) {
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

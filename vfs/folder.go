package vfs

import "errors"

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
	name string
	syncs
}

// ErrFolder is the error of a Sync that came back, after another had failed.
var ErrFolder = errors.New("a sync of the folder has failed meanwhile")

// NewFolder returns the Folder of a directory, which need not be there yet. It
// works where all who change names there at the same time have the same one.
func NewFolder(fsys FS, name string) *Folder {
	return &Folder{name: name, syncs: syncs{do: func() error { return fsys.SyncDir(name) }}}
}

// Mark returns how many syncs have failed. It is asked before a name is changed.
func (f *Folder) Mark() int { return f.mark() }

// Sync makes durable what was changed since Mark returned since. After an error,
// which is that of SyncDir or ErrFolder, nothing is known of these changes.
func (f *Folder) Sync(since int) error {
	if failed, err := f.join(); err != nil || failed == since {
		return err
	}
	return wrap("syncdir", f.name, ErrFolder)
}

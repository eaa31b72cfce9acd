// Package vfs is the disk as an interface: the machine's own file system, one in
// memory that can crash at any operation and keep any part of what was not
// synced, and one that fails as told. All that must survive is written through
// it, so that the tests can take the disk away.
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// An FS is a file system. Names are slash separated, absolute or relative to
// wherever the FS begins. Errors are *fs.PathError and answer to errors.Is with
// fs.ErrNotExist, fs.ErrExist and syscall numbers such as syscall.ENOSPC.
//
// What a crash keeps: the content of a file as of its last Sync, and the
// entries of a directory as of its last SyncDir. Of the rest it keeps any part.
type FS interface {
	// OpenFile opens with the flags of package os; O_CREATE makes the entry,
	// which SyncDir of the parent makes durable.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]fs.DirEntry, error) // sorted by name
	Rename(from, to string) error               // replaces to
	Link(from, to string) error                 // fs.ErrExist if to is there
	Remove(name string) error
	MkdirAll(name string, perm fs.FileMode) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
	// StatFS tells how much room the file system of name has left.
	StatFS(name string) (Space, error)
	// Lock takes an exclusive lock that ends with the process, or with Close.
	// One that is taken is an error at once, and never waits.
	Lock(name string) (io.Closer, error)
}

// CreateAnew makes a file, to be written. One that stands there is removed and never
// written into: it may be the file of another name as well, or one that could not be
// taken back when a sync of it or of its folder had failed, and then its name may be
// lost whatever later syncs say.
func CreateAnew(fsys FS, name string, perm fs.FileMode) (File, error) {
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL
	f, err := fsys.OpenFile(name, flags, perm)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := fsys.Remove(name); err != nil {
		return nil, err
	}
	return fsys.OpenFile(name, flags, perm)
}

// Space is the room of a file system.
type Space struct {
	Total, Free int64 // octets; Free is what a process without privileges may take
	Inodes      int64 // that are free; -1: as many as wanted
}

// A File is an open file.
type File interface {
	io.Reader
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	// Allocate reserves disk space for the first size octets and makes the file
	// at least that long, so that later writes into it need no more metadata.
	Allocate(size int64) error
	// Sync makes content and length durable. After an error nothing is known of
	// what was written since the last Sync: the file is to be given up.
	Sync() error
}

// ReadFile reads a whole file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

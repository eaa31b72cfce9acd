package vfs

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// Sync is fdatasync: it also writes a changed length, which is needed to read
// the data, and leaves out the times, which cost a second write.
func (f osFile) Sync() error {
	if err := control(f.File, unix.Fdatasync); err != nil {
		return &fs.PathError{Op: "sync", Path: f.Name(), Err: err}
	}
	return nil
}

func fallocate(fd int, size int64) error { return unix.Fallocate(fd, 0, 0, size) }

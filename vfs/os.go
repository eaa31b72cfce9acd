//go:build unix

package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrLocked is the error of Lock when the lock is taken.
var ErrLocked = errors.New("another process holds it")

// OS returns the machine's own file system. Relative names begin at the working
// directory of the process.
func OS() FS { return osFS{} }

type osFS struct{}

// OpenFile never follows a symbolic link where it may create: nobody who can
// write into a folder of ours shall choose the file that we write.
func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if flag&os.O_CREATE != 0 {
		flag |= syscall.O_NOFOLLOW
	}
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Stat(name string) (fs.FileInfo, error)        { return os.Stat(name) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }
func (osFS) Remove(name string) error                     { return os.Remove(name) }
func (osFS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (osFS) Rename(from, to string) error                 { return pathError(os.Rename(from, to)) }
func (osFS) Link(from, to string) error                   { return pathError(os.Link(from, to)) }

func (osFS) SyncDir(name string) error {
	d, err := os.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Lock locks with flock, so that the lock ends with the process however that
// dies. The file stays: to remove it would let two processes lock two files of
// one name.
func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
}

type osFile struct{ *os.File }

func (f osFile) Allocate(size int64) error {
	if err := f.allocate(size); err != nil {
		return &fs.PathError{Op: "allocate", Path: f.Name(), Err: err}
	}
	return nil
}

func (f osFile) allocate(size int64) error {
	if size < 0 {
		return syscall.EINVAL
	}
	if size == 0 {
		return nil
	}
	err := control(f.File, func(fd int) error { return fallocate(fd, size) })
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// This file system reserves nothing. A hole of the right length still saves
	// the later writes a change of length.
	info, err := f.Stat()
	if err != nil || info.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

// control runs do with the descriptor of f, again for as long as a signal
// interrupts it.
func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if raw.Control(func(fd uintptr) {
		for {
			if err = do(int(fd)); err != unix.EINTR {
				return
			}
		}
	}) != nil {
		return fs.ErrClosed // the one way in which Control fails
	}
	return err
}

// pathError makes the error of package os for two names one for both.
func pathError(err error) error {
	var link *os.LinkError
	if errors.As(err, &link) {
		return &fs.PathError{Op: link.Op, Path: link.Old + " " + link.New, Err: link.Err}
	}
	return err
}

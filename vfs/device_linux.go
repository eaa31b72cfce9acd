package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// wholeSyncs are the types of file systems whose syncfs(2) writes out and flushes
// all, and whose lost metadata stop them for good: ext2 to ext4, XFS and btrfs.
// A network or a stacked one may return from it with nothing done.
var wholeSyncs = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC}

// DeviceOf implements DeviceFS.
func (osFS) DeviceOf(f File) (uint64, error) {
	file, ok := f.(osFile)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	var st unix.Stat_t
	if err := control(file.File, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return 0, &fs.PathError{Op: "fstat", Path: file.Name(), Err: err}
	}
	return uint64(st.Dev), nil
}

// OpenDevice implements DeviceFS. syncfs(2): "In mainline kernel versions prior to
// Linux 5.8, syncfs() will fail only when passed a bad file descriptor", so that
// it is unsupported there. What it tells is of the time since that was opened.
func (osFS) OpenDevice(dir string) (Device, error) {
	d, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	dev := &osDevice{File: d}
	var st unix.Stat_t
	var at unix.Statfs_t
	err = control(d, func(fd int) error { return unix.Fstat(fd, &st) })
	if err == nil {
		err = control(d, func(fd int) error { return unix.Fstatfs(fd, &at) })
	}
	if err == nil && (!slices.Contains(wholeSyncs, int64(at.Type)) || !tells(release())) {
		err = errors.ErrUnsupported
	}
	if err != nil {
		d.Close()
		return nil, &fs.PathError{Op: "opendevice", Path: dir, Err: err}
	}
	dev.number = uint64(st.Dev)
	return dev, nil
}

type osDevice struct {
	*os.File
	number uint64
}

func (d *osDevice) Number() uint64 { return d.number }

// Sync is syncfs.
func (d *osDevice) Sync() error {
	if err := control(d.File, unix.Syncfs); err != nil {
		return &fs.PathError{Op: "syncfs", Path: d.Name(), Err: err}
	}
	return nil
}

// release is that of the kernel, such as "6.18.44-generic"; empty: it does not say.
func release() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

// tells reports whether syncfs tells of failures under a kernel: from 5.8 on.
func tells(release string) bool {
	var major, minor int
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return n == 2 && (major > 5 || major == 5 && minor >= 8)
}

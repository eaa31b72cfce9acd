//go:build unix

package vfs

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// StatFS implements FS. A file system without inodes, such as btrfs, says that
// it has none at all.
func (osFS) StatFS(name string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	s := Space{Total: int64(st.Blocks) * int64(st.Bsize), Free: int64(st.Bavail) * int64(st.Bsize), Inodes: int64(st.Ffree)}
	if st.Files == 0 {
		s.Inodes = -1
	}
	return s, nil
}

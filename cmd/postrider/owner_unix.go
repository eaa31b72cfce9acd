//go:build unix

package main

import (
	"io/fs"
	"os"
	"syscall"
)

// notOurs says why a file is not ours alone to write; empty: it is.
func notOurs(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int64(st.Uid) != int64(os.Geteuid()) {
		return "belongs to somebody else"
	}
	if info.Mode().Perm()&0o022 != 0 {
		return "can be written by others"
	}
	return ""
}

// giveToOwner gives a file that root has written to whom its folder belongs: the
// server, which must read it.
func giveToOwner(name, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil
	}
	return os.Lchown(name, int(st.Uid), int(st.Gid))
}

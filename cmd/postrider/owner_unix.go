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

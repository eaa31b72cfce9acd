package main

import (
	"os"
	"syscall"
)

// diskOf is how many octets of the disk a file takes.
func diskOf(fi os.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return fi.Size()
}

package main

import (
	"os"
	"syscall"
)

// dataSync makes what was written durable, as the spool does.
func dataSync(f *os.File) error {
	return os.NewSyscallError("fdatasync", syscall.Fdatasync(int(f.Fd())))
}

// files lets this process and those that it starts have so many files open, or as
// many as it may, and returns how many that is.
func files(n uint64) int {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return int(n)
	}
	if r.Cur < n {
		more := syscall.Rlimit{Cur: n, Max: max(r.Max, n)}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) != nil {
			more = syscall.Rlimit{Cur: min(n, r.Max), Max: r.Max}
			_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more)
		}
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r)
	}
	return int(min(r.Cur, n))
}

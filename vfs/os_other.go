//go:build unix && !linux

package vfs

import "golang.org/x/sys/unix"

// fallocate is not to be had here. Sync is that of package os: fsync, or
// F_FULLFSYNC where fsync leaves the data in the cache of the drive.
func fallocate(int, int64) error { return unix.EOPNOTSUPP }

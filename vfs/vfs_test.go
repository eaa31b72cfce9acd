package vfs_test

import (
	"testing"

	"github.com/postrider/postrider/vfs"
	"github.com/postrider/postrider/vfs/vfstest"
)

func TestOS(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) vfs.FS {
		t.Chdir(t.TempDir())
		return vfs.OS()
	})
}

func TestMem(t *testing.T) {
	vfstest.Run(t, func(*testing.T) vfs.FS { return vfs.NewMem() })
}

//go:build unix

package vfs_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/postrider/postrider/vfs"
)

// A link that somebody has planted where we make a file is not followed, whether
// it leads to a file or to nothing yet; nor is one to a lock, or one in place of
// the new name of a file.
func TestPlantedLinks(t *testing.T) {
	for _, flags := range []int{
		os.O_WRONLY | os.O_CREATE, os.O_WRONLY | os.O_CREATE | os.O_TRUNC, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE | os.O_EXCL,
	} {
		for _, target := range []string{"precious", "absent"} {
			dir, fsys := t.TempDir(), vfs.OS()
			precious := filepath.Join(dir, "precious")
			if err := os.WriteFile(precious, []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
			planted := filepath.Join(dir, "planted")
			if err := os.Symlink(target, planted); err != nil {
				t.Fatal(err)
			}
			if f, err := fsys.OpenFile(planted, flags, 0o600); err == nil {
				f.Close()
				t.Errorf("flags %#x: the link to %s was followed", flags, target)
			}
			if lock, err := fsys.Lock(planted); err == nil {
				lock.Close()
				t.Errorf("the link to %s was locked", target)
			}
			made := filepath.Join(dir, "made")
			if err := os.WriteFile(made, []byte("new"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := fsys.Link(made, planted); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a file was linked over a link: %v", err)
			}
			if err := fsys.Rename(made, planted); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(precious); string(got) != "kept" || err != nil {
				t.Errorf("flags %#x, to %s: the file behind the link has %q, %v", flags, target, got, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "absent")); err == nil {
				t.Error("a file was made through a link")
			}
		}
	}
}

package vfs

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// A directory that could not be synced is not believed in the next time, for a
// later sync does not make it durable.
func TestMakeDir(t *testing.T) {
	for _, bad := range []string{".", "a", "a/b", ""} {
		m := NewMem()
		m.SetHook(func(op Op) error {
			if op.Kind == OpSyncDir && op.Name == bad {
				return syscall.EIO
			}
			return nil
		})
		if err := MakeDir(m, "a/b/c"); (err == nil) != (bad == "") || err != nil && !errors.Is(err, syscall.EIO) {
			t.Errorf("%q: %v", bad, err)
		}
		m.SetHook(nil)
		if err := MakeDir(m, "a//b/c/"); err != nil {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := m.Crash(KeepNone).Stat("a/b/c"); err != nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// What is there and may not be read is left as it is.
	m := NewMem()
	if err := m.MkdirAll("a/b", 0o700); err != nil {
		t.Fatal(err)
	}
	m.SetHook(func(op Op) error {
		if op.Kind == OpSyncDir {
			return syscall.EACCES
		}
		return nil
	})
	if err := MakeDir(m, "/a/b"); err != nil {
		t.Error(err)
	}
	if err := MakeDir(m, "/a/b/c"); !errors.Is(err, syscall.EACCES) {
		t.Error(err)
	}
	for range 2 {
		dir := filepath.Join(t.TempDir(), "x", "y")
		if err := MakeDir(OS(), dir); err != nil {
			t.Error(err)
		}
	}
}

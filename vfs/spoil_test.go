package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/postrider/postrider/vfs"
)

// A bad sector gives what is before it and EIO, time after time, under every name of
// the file and after a power cut, until it is written again.
func TestSpoil(t *testing.T) {
	m := vfs.NewMem()
	f, err := m.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	_, err = f.Write(bytes.Repeat([]byte("x"), 2000))
	must(t, err)
	must(t, f.Sync())
	must(t, m.Link("f", "g"))
	must(t, m.SyncDir("."))
	must(t, m.Spoil("f", 512, 512))
	must(t, m.Spoil("f", 1200, 8))
	check := func(m *vfs.Mem, name string, off int64, want int) {
		t.Helper()
		f, err := m.OpenFile(name, os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		b := bytes.Repeat([]byte("?"), 1000)
		n, err := f.ReadAt(b, off)
		if n != want || errors.Is(err, syscall.EIO) != (want < 1000) || bytes.Count(b, []byte("x")) != want {
			t.Errorf("%s at %d: %d octets, %v, %d of them real", name, off, n, err, bytes.Count(b, []byte("x")))
		}
	}
	for _, m := range []*vfs.Mem{m, m.Image(vfs.KeepNone)} {
		for _, name := range []string{"f", "g"} {
			check(m, name, 0, 512)
			check(m, name, 600, 0)
			check(m, name, 1024, 176)
		}
	}
	_, err = f.WriteAt([]byte("x"), 600)
	must(t, err)
	check(m, "g", 0, 1000)
	check(m, "g", 1000, 200)
	if _, err := io.ReadAll(io.NewSectionReader(f, 1208, 700)); err != nil {
		t.Error(err)
	}
	if err := m.Spoil("nobody", 0, 1); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Package vfstest holds what every vfs.FS must do.
package vfstest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/postrider/postrider/vfs"
)

// Run tests a file system. make returns an empty one for each test; names are
// relative to where it begins.
func Run(t *testing.T, make func(t *testing.T) vfs.FS) {
	tests := []struct {
		name string
		test func(t *testing.T, fsys vfs.FS)
	}{
		{"content", testContent},
		{"offsets", testOffsets},
		{"append", testAppend},
		{"length", testLength},
		{"flags", testFlags},
		{"rename", testRename},
		{"link", testLink},
		{"remove", testRemove},
		{"directories", testDirectories},
		{"closed", testClosed},
		{"lock", testLock},
		{"device", testDevice},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, make(t)) })
	}
}

func open(t *testing.T, fsys vfs.FS, name string, flag int) vfs.File {
	t.Helper()
	f, err := fsys.OpenFile(name, flag, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func put(t *testing.T, fsys vfs.FS, name, content string) {
	t.Helper()
	f := open(t, fsys, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	_, err := io.WriteString(f, content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, fsys vfs.FS, name, want string) {
	t.Helper()
	b, err := vfs.ReadFile(fsys, name)
	if err != nil || string(b) != want {
		t.Fatalf("%s holds %q, %v; want %q", name, b, err, want)
	}
}

func lists(t *testing.T, fsys vfs.FS, dir string, want ...string) {
	t.Helper()
	list, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		t.Fatalf("%s lists %q, want %q", dir, names, want)
	}
}

// fails wants an error of a kind, and a *fs.PathError around it.
func fails(t *testing.T, err, want error) {
	t.Helper()
	var pe *fs.PathError
	if !errors.Is(err, want) || !errors.As(err, &pe) {
		t.Fatalf("error %v (%T), want a *fs.PathError of %v", err, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testContent(t *testing.T, fsys vfs.FS) {
	put(t, fsys, "a", "one\ntwo")
	holds(t, fsys, "a", "one\ntwo")
	put(t, fsys, "a", "three")
	holds(t, fsys, "a", "three")
	f := open(t, fsys, "a", os.O_RDONLY)
	b := make([]byte, 3)
	for _, want := range []string{"thr", "ee", ""} {
		n, err := f.Read(b)
		if string(b[:n]) != want || (err == io.EOF) != (want == "") {
			t.Fatalf("read %q, %v; want %q", b[:n], err, want)
		}
	}
	info, err := f.Stat()
	if err != nil || info.Size() != 5 || info.Name() != "a" || info.IsDir() || info.Mode() != 0o600 {
		t.Fatalf("stat: %v %v", info, err)
	}
	// What one writes, another sees at once.
	w := open(t, fsys, "a", os.O_WRONLY)
	_, err = w.WriteAt([]byte("!"), 5)
	must(t, err)
	if n, err := f.Read(b); n != 1 || err != nil || b[0] != '!' {
		t.Fatalf("read %d, %v", n, err)
	}
}

func testOffsets(t *testing.T, fsys vfs.FS) {
	f := open(t, fsys, "a", os.O_RDWR|os.O_CREATE)
	_, err := f.WriteAt([]byte("xyz"), 5000)
	must(t, err)
	_, err = f.Write([]byte("ab"))
	must(t, err)
	_, err = f.Write([]byte("cd"))
	must(t, err)
	holds(t, fsys, "a", "abcd"+strings.Repeat("\x00", 4996)+"xyz")
	b := make([]byte, 4)
	if n, err := f.ReadAt(b, 5001); n != 2 || err != io.EOF || string(b[:n]) != "yz" {
		t.Fatalf("read %q, %v", b[:n], err)
	}
	if n, err := f.ReadAt(b, 9000); n != 0 || err != io.EOF {
		t.Fatalf("read %d, %v past the end", n, err)
	}
	if _, err := f.ReadAt(b, -1); err == nil {
		t.Fatal("read at -1")
	}
	if _, err := f.WriteAt(b, -1); err == nil {
		t.Fatal("wrote at -1")
	}
}

func testAppend(t *testing.T, fsys vfs.FS) {
	put(t, fsys, "a", "one")
	f := open(t, fsys, "a", os.O_RDWR|os.O_APPEND)
	g := open(t, fsys, "a", os.O_WRONLY|os.O_APPEND)
	for _, w := range []vfs.File{f, g, f} {
		_, err := w.Write([]byte("+"))
		must(t, err)
	}
	holds(t, fsys, "a", "one+++")
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Fatal("WriteAt on a file opened to append")
	}
}

func testLength(t *testing.T, fsys vfs.FS) {
	f := open(t, fsys, "a", os.O_RDWR|os.O_CREATE)
	_, err := f.Write([]byte("abcdef"))
	must(t, err)
	must(t, f.Truncate(3))
	must(t, f.Truncate(5))
	holds(t, fsys, "a", "abc\x00\x00")
	must(t, f.Allocate(2)) // never shorter
	holds(t, fsys, "a", "abc\x00\x00")
	must(t, f.Allocate(0))
	must(t, f.Allocate(8))
	holds(t, fsys, "a", "abc\x00\x00\x00\x00\x00")
	fails(t, f.Truncate(-1), syscall.EINVAL)
	fails(t, f.Allocate(-1), syscall.EINVAL)
	must(t, f.Sync())
}

func testFlags(t *testing.T, fsys vfs.FS) {
	_, err := fsys.OpenFile("a", os.O_RDONLY, 0)
	fails(t, err, fs.ErrNotExist)
	_, err = fsys.OpenFile("d/a", os.O_WRONLY|os.O_CREATE, 0o600)
	fails(t, err, fs.ErrNotExist)
	put(t, fsys, "a", "one")
	_, err = fsys.OpenFile("a", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	fails(t, err, fs.ErrExist)
	_, err = fsys.OpenFile("a/b", os.O_WRONLY|os.O_CREATE, 0o600)
	fails(t, err, syscall.ENOTDIR)
	must(t, fsys.MkdirAll("d", 0o700))
	_, err = fsys.OpenFile("d", os.O_WRONLY, 0)
	fails(t, err, syscall.EISDIR)
	r := open(t, fsys, "a", os.O_RDONLY)
	_, err = r.Write([]byte("x"))
	fails(t, err, syscall.EBADF)
	fails(t, r.Truncate(0), syscall.EINVAL)
	fails(t, r.Allocate(10), syscall.EBADF)
	w := open(t, fsys, "a", os.O_WRONLY)
	_, err = w.Read(make([]byte, 1))
	fails(t, err, syscall.EBADF)
	holds(t, fsys, "a", "one")
}

func testRename(t *testing.T, fsys vfs.FS) {
	put(t, fsys, "a", "one")
	put(t, fsys, "b", "two")
	must(t, fsys.MkdirAll("d", 0o700))
	must(t, fsys.Rename("a", "b"))
	must(t, fsys.Rename("b", "d/c"))
	lists(t, fsys, ".", "d")
	holds(t, fsys, "d/c", "one")
	must(t, fsys.Rename("d", "e"))
	holds(t, fsys, "e/c", "one")
	fails(t, fsys.Rename("a", "b"), fs.ErrNotExist)
	put(t, fsys, "a", "three")
	fails(t, fsys.Rename("a", "e"), fs.ErrExist)
	fails(t, fsys.Rename("e", "a"), syscall.ENOTDIR)
	fails(t, fsys.Rename("e", "e/f"), syscall.EINVAL)
	fails(t, fsys.Rename("a", "x/a"), fs.ErrNotExist)
}

func testLink(t *testing.T, fsys vfs.FS) {
	put(t, fsys, "a", "one")
	must(t, fsys.Link("a", "b"))
	fails(t, fsys.Link("a", "b"), fs.ErrExist)
	fails(t, fsys.Link("x", "y"), fs.ErrNotExist)
	fails(t, fsys.Link("a", "x/y"), fs.ErrNotExist)
	f := open(t, fsys, "a", os.O_WRONLY)
	_, err := f.Write([]byte("ONE!"))
	must(t, err)
	must(t, fsys.Rename("a", "b")) // two names of one file: nothing happens
	lists(t, fsys, ".", "a", "b")
	must(t, fsys.Remove("a"))
	holds(t, fsys, "b", "ONE!")
}

func testRemove(t *testing.T, fsys vfs.FS) {
	fails(t, fsys.Remove("a"), fs.ErrNotExist)
	must(t, fsys.MkdirAll("d/e", 0o700))
	fails(t, fsys.Remove("d"), syscall.ENOTEMPTY)
	must(t, fsys.Remove("d/e"))
	must(t, fsys.Remove("d"))
	put(t, fsys, "a", "one")
	f := open(t, fsys, "a", os.O_RDWR)
	must(t, fsys.Remove("a"))
	lists(t, fsys, ".")
	_, err := f.WriteAt([]byte("two"), 0) // an open file outlives its name
	must(t, err)
	b := make([]byte, 3)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "two" {
		t.Fatalf("read %q, %v", b, err)
	}
}

func testDirectories(t *testing.T, fsys vfs.FS) {
	must(t, fsys.MkdirAll("d/e/f", 0o700))
	must(t, fsys.MkdirAll("d/e", 0o700))
	put(t, fsys, "d/b", "")
	put(t, fsys, "d/a", "")
	lists(t, fsys, "d", "a", "b", "e")
	fails(t, fsys.MkdirAll("d/a/x", 0o700), syscall.ENOTDIR)
	info, err := fsys.Stat("d/e")
	if err != nil || !info.IsDir() || info.Mode() != fs.ModeDir|0o700 || info.Name() != "e" {
		t.Fatalf("stat: %v, %v", info, err)
	}
	_, err = fsys.Stat("d/x")
	fails(t, err, fs.ErrNotExist)
	_, err = fsys.ReadDir("x")
	fails(t, err, fs.ErrNotExist)
	_, err = fsys.ReadDir("d/a")
	fails(t, err, syscall.ENOTDIR)
	must(t, fsys.SyncDir("d"))
	must(t, fsys.SyncDir("."))
	fails(t, fsys.SyncDir("x"), fs.ErrNotExist)
	fails(t, fsys.SyncDir("d/a"), syscall.ENOTDIR)
}

func testClosed(t *testing.T, fsys vfs.FS) {
	put(t, fsys, "a", "one")
	f := open(t, fsys, "a", os.O_RDWR)
	must(t, f.Close())
	_, err := f.Read(make([]byte, 1))
	fails(t, err, fs.ErrClosed)
	_, err = f.Write([]byte("x"))
	fails(t, err, fs.ErrClosed)
	_, err = f.Stat()
	fails(t, err, fs.ErrClosed)
	fails(t, f.Sync(), fs.ErrClosed)
	fails(t, f.Truncate(0), fs.ErrClosed)
	fails(t, f.Allocate(9), fs.ErrClosed)
	fails(t, f.Close(), fs.ErrClosed)
	holds(t, fsys, "a", "one")
}

func testLock(t *testing.T, fsys vfs.FS) {
	l, err := fsys.Lock("lock")
	must(t, err)
	_, err = fsys.Lock("lock")
	fails(t, err, vfs.ErrLocked)
	if !strings.Contains(err.Error(), "lock: another process holds it") {
		t.Fatalf("error %q", err)
	}
	other, err := fsys.Lock("other")
	must(t, err)
	must(t, other.Close())
	must(t, l.Close())
	l, err = fsys.Lock("lock")
	must(t, err)
	must(t, l.Close())
	_, err = fsys.Lock("no/lock")
	fails(t, err, fs.ErrNotExist)
}

// testDevice is for a file system that may be synced as a whole.
func testDevice(t *testing.T, fsys vfs.FS) {
	disk, ok := fsys.(vfs.DeviceFS)
	if !ok {
		t.Skip("it has no devices")
	}
	must(t, fsys.MkdirAll("d", 0o700))
	dev, err := disk.OpenDevice("d")
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("it is not synced as a whole")
	}
	must(t, err)
	put(t, fsys, "d/a", "one")
	number, err := disk.DeviceOf(open(t, fsys, "d/a", os.O_RDONLY))
	if err != nil || number != dev.Number() {
		t.Fatalf("a file of device %d is on %d, %v", dev.Number(), number, err)
	}
	must(t, dev.Sync())
	must(t, dev.Close())
	_, err = disk.OpenDevice("x")
	fails(t, err, fs.ErrNotExist)
}

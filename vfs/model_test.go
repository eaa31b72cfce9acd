package vfs_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/vfs"
)

// A pair is a file system in memory and a folder on the disk, which begin empty.
type pair struct {
	mem   *vfs.Mem
	os    vfs.FS
	top   string
	files [2][2]vfs.File // slots of open files, in mem and os
}

// kind reduces an error to what a caller may ask of it.
func kind(err error) string {
	var no syscall.Errno
	switch {
	case err == nil || err == io.EOF:
		return fmt.Sprint(err)
	case errors.As(err, &no):
		return no.Error()
	}
	return "other"
}

// same does one thing on both and compares what came of it.
func (p *pair) same(t *rapid.T, what string, do func(fsys vfs.FS, top string, slot int) (string, error)) {
	a, errA := do(p.mem, "", 0)
	b, errB := do(p.os, p.top+"/", 1)
	if a != b || kind(errA) != kind(errB) {
		t.Fatalf("%s: memory %q, %v; disk %q, %v", what, a, errA, b, errB)
	}
}

// on does one thing on an open file of both.
func (p *pair) on(t *rapid.T, what string, do func(f vfs.File) (string, error)) {
	i := rapid.IntRange(0, 1).Draw(t, "slot")
	p.same(t, what, func(_ vfs.FS, _ string, slot int) (string, error) {
		if p.files[i][slot] == nil {
			return "", nil
		}
		return do(p.files[i][slot])
	})
}

var (
	someName = rapid.SampledFrom([]string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "x/y"})
	someFlag = rapid.SampledFrom([]int{os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE,
		os.O_WRONLY | os.O_CREATE | os.O_EXCL, os.O_RDWR | os.O_CREATE | os.O_TRUNC, os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_TRUNC})
	someSize = rapid.SampledFrom([]int64{0, 1, 511, 512, 513, 4095, 4096, 5000, 9000})
)

// Memory and the machine's disk answer every sequence of operations alike.
func TestMemLikeOS(t *testing.T) {
	base := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		p := &pair{mem: vfs.NewMem(), os: vfs.OS(), top: filepath.Join(base, fmt.Sprint(run))}
		if err := p.os.MkdirAll(p.top, 0o700); err != nil {
			t.Fatal(err)
		}
		defer p.close()
		t.Repeat(map[string]func(*rapid.T){
			"open": p.open, "write": p.write, "writeat": p.writeAt, "read": p.read, "length": p.length,
			"sync":   func(t *rapid.T) { p.on(t, "sync", func(f vfs.File) (string, error) { return "", f.Sync() }) },
			"rename": func(t *rapid.T) { p.two(t, "rename", vfs.FS.Rename) },
			"link":   func(t *rapid.T) { p.two(t, "link", vfs.FS.Link) },
			"remove": func(t *rapid.T) { p.one(t, "remove", vfs.FS.Remove) },
			"mkdir": func(t *rapid.T) {
				p.one(t, "mkdir", func(fsys vfs.FS, name string) error { return fsys.MkdirAll(name, 0o700) })
			},
			"syncdir": func(t *rapid.T) { p.one(t, "syncdir", vfs.FS.SyncDir) },
			"": func(t *rapid.T) {
				p.same(t, "tree", func(fsys vfs.FS, top string, _ int) (string, error) { return walk(fsys, top+".") })
			},
		})
	})
}

func (p *pair) one(t *rapid.T, what string, do func(fsys vfs.FS, name string) error) {
	name := someName.Draw(t, "name")
	p.same(t, what+" "+name, func(fsys vfs.FS, top string, _ int) (string, error) { return "", do(fsys, top+name) })
}

func (p *pair) two(t *rapid.T, what string, do func(fsys vfs.FS, from, to string) error) {
	from, to := someName.Draw(t, "from"), someName.Draw(t, "to")
	p.same(t, what+" "+from+" "+to, func(fsys vfs.FS, top string, _ int) (string, error) {
		return "", do(fsys, top+from, top+to)
	})
}

func (p *pair) open(t *rapid.T) {
	name, flag, i := someName.Draw(t, "name"), someFlag.Draw(t, "flag"), rapid.IntRange(0, 1).Draw(t, "slot")
	p.same(t, "open "+name, func(fsys vfs.FS, top string, slot int) (string, error) {
		f, err := fsys.OpenFile(top+name, flag, 0o600)
		if err == nil {
			if old := p.files[i][slot]; old != nil {
				old.Close()
			}
			p.files[i][slot] = f
		}
		return "", err
	})
}

func (p *pair) write(t *rapid.T) {
	b := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "octets")
	p.on(t, "write", func(f vfs.File) (string, error) { n, err := f.Write(b); return fmt.Sprint(n), err })
}

func (p *pair) writeAt(t *rapid.T) {
	b, off := make([]byte, someSize.Draw(t, "len")), someSize.Draw(t, "off")
	for i := range b {
		b[i] = byte(i%250) + 1
	}
	p.on(t, "writeat", func(f vfs.File) (string, error) { n, err := f.WriteAt(b, off); return fmt.Sprint(n), err })
}

func (p *pair) read(t *rapid.T) {
	n := someSize.Draw(t, "len")
	p.on(t, "read", func(f vfs.File) (string, error) {
		b := make([]byte, n)
		n, err := io.ReadFull(f, b)
		return string(b[:n]), err
	})
}

func (p *pair) length(t *rapid.T) {
	size, cut := someSize.Draw(t, "size"), rapid.Bool().Draw(t, "cut")
	p.on(t, "length", func(f vfs.File) (string, error) {
		if cut {
			return "", f.Truncate(size)
		}
		return "", f.Allocate(size)
	})
}

func (p *pair) close() {
	for _, slots := range p.files {
		for _, f := range slots {
			if f != nil {
				f.Close()
			}
		}
	}
}

// walk prints a whole tree.
func walk(fsys vfs.FS, dir string) (string, error) {
	list, err := fsys.ReadDir(dir)
	out := "("
	for _, e := range list {
		name := dir + "/" + e.Name()
		info, err := fsys.Stat(name)
		if err != nil {
			return out, err
		}
		out += fmt.Sprintf(" %s %v", e.Name(), info.Mode())
		var part string
		if e.IsDir() {
			part, err = walk(fsys, name)
		} else {
			var b []byte
			b, err = vfs.ReadFile(fsys, name)
			part = string(b)
		}
		if err != nil {
			return out, err
		}
		out += part
	}
	return out + ")", err
}

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

// Memory and the machine's disk answer every sequence of operations alike.
func TestMemLikeOS(t *testing.T) {
	base := t.TempDir()
	run := 0
	names := rapid.SampledFrom([]string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "x/y"})
	flags := rapid.SampledFrom([]int{os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE,
		os.O_WRONLY | os.O_CREATE | os.O_EXCL, os.O_RDWR | os.O_CREATE | os.O_TRUNC, os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_TRUNC})
	sizes := rapid.SampledFrom([]int64{0, 1, 511, 512, 513, 4095, 4096, 5000, 9000})
	rapid.Check(t, func(t *rapid.T) {
		run++
		p := &pair{mem: vfs.NewMem(), os: vfs.OS(), top: filepath.Join(base, fmt.Sprint(run))}
		if err := p.os.MkdirAll(p.top, 0o700); err != nil {
			t.Fatal(err)
		}
		defer p.close()
		on := func(what string, do func(f vfs.File) (string, error)) {
			i := rapid.IntRange(0, 1).Draw(t, "slot")
			p.same(t, what, func(_ vfs.FS, _ string, slot int) (string, error) {
				if p.files[i][slot] == nil {
					return "", nil
				}
				return do(p.files[i][slot])
			})
		}
		t.Repeat(map[string]func(*rapid.T){
			"open": func(t *rapid.T) {
				name, flag, i := names.Draw(t, "name"), flags.Draw(t, "flag"), rapid.IntRange(0, 1).Draw(t, "slot")
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
			},
			"write": func(t *rapid.T) {
				b := rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "octets")
				on("write", func(f vfs.File) (string, error) { n, err := f.Write(b); return fmt.Sprint(n), err })
			},
			"writeat": func(t *rapid.T) {
				b, off := make([]byte, sizes.Draw(t, "len")), sizes.Draw(t, "off")
				for i := range b {
					b[i] = byte(i%250) + 1
				}
				on("writeat", func(f vfs.File) (string, error) { n, err := f.WriteAt(b, off); return fmt.Sprint(n), err })
			},
			"read": func(t *rapid.T) {
				n := int(sizes.Draw(t, "len"))
				on("read", func(f vfs.File) (string, error) {
					b := make([]byte, n)
					n, err := io.ReadFull(f, b)
					return string(b[:n]), err
				})
			},
			"length": func(t *rapid.T) {
				size, cut := sizes.Draw(t, "size"), rapid.Bool().Draw(t, "cut")
				on("length", func(f vfs.File) (string, error) {
					if cut {
						return "", f.Truncate(size)
					}
					return "", f.Allocate(size)
				})
			},
			"sync": func(t *rapid.T) { on("sync", func(f vfs.File) (string, error) { return "", f.Sync() }) },
			"rename": func(t *rapid.T) {
				from, to := names.Draw(t, "from"), names.Draw(t, "to")
				p.same(t, "rename "+from+" "+to, func(fsys vfs.FS, top string, _ int) (string, error) {
					return "", fsys.Rename(top+from, top+to)
				})
			},
			"link": func(t *rapid.T) {
				from, to := names.Draw(t, "from"), names.Draw(t, "to")
				p.same(t, "link "+from+" "+to, func(fsys vfs.FS, top string, _ int) (string, error) {
					return "", fsys.Link(top+from, top+to)
				})
			},
			"remove": func(t *rapid.T) {
				name := names.Draw(t, "name")
				p.same(t, "remove "+name, func(fsys vfs.FS, top string, _ int) (string, error) { return "", fsys.Remove(top + name) })
			},
			"mkdir": func(t *rapid.T) {
				name := names.Draw(t, "name")
				p.same(t, "mkdir "+name, func(fsys vfs.FS, top string, _ int) (string, error) { return "", fsys.MkdirAll(top+name, 0o700) })
			},
			"syncdir": func(t *rapid.T) {
				p.same(t, "syncdir d", func(fsys vfs.FS, top string, _ int) (string, error) { return "", fsys.SyncDir(top + "d") })
			},
			"": func(t *rapid.T) {
				p.same(t, "tree", func(fsys vfs.FS, top string, _ int) (string, error) { return walk(fsys, top+".") })
			},
		})
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

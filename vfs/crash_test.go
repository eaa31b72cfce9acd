package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/vfs"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, fsys vfs.FS, name string, flag int) vfs.File {
	t.Helper()
	f, err := fsys.OpenFile(name, flag, 0o600)
	must(t, err)
	return f
}

func writeAt(t *testing.T, f vfs.File, off int64, s string) {
	t.Helper()
	_, err := f.WriteAt([]byte(s), off)
	must(t, err)
}

// create makes a file whose entry is durable.
func create(t *testing.T, fsys vfs.FS, name, content string) vfs.File {
	t.Helper()
	f := open(t, fsys, name, os.O_RDWR|os.O_CREATE)
	writeAt(t, f, 0, content)
	must(t, f.Sync())
	must(t, fsys.SyncDir("."))
	return f
}

// tree prints names and contents of the top directory and of d, on one line.
// Runs of one letter are written as the letter and their length.
func tree(t *testing.T, fsys vfs.FS) string {
	t.Helper()
	var out []string
	for _, dir := range []string{"", "d/"} {
		list, err := fsys.ReadDir("./" + dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.IsDir() {
				continue
			}
			b, err := vfs.ReadFile(fsys, dir+e.Name())
			must(t, err)
			out = append(out, dir+e.Name()+"="+runs(b))
		}
	}
	return strings.Join(out, " ")
}

func runs(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		n := len(b) - len(bytes.TrimLeft(b, string(b[:1])))
		c := string(b[:1])
		if b[0] == 0 {
			c = "."
		}
		fmt.Fprintf(&out, "%s%d", c, n)
		b = b[n:]
	}
	return out.String()
}

// outcomes returns every tree that a power cut could leave, sorted.
func outcomes(t *testing.T, m *vfs.Mem) []string {
	t.Helper()
	seen := map[string]bool{}
	for after := range m.Crashes(1 << 14) {
		seen[tree(t, after)] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func long(c string, n int) string { return strings.Repeat(c, n) }

// crashTests are operations, and every disk that a power cut may leave after them.
var crashTests = []struct {
	name string
	do   func(t *testing.T, m *vfs.Mem)
	want []string // every possible outcome
}{
	{"synced content and entry stay", func(t *testing.T, m *vfs.Mem) {
		create(t, m, "a", "x")
	}, []string{"a=x1"}},
	{"synced content without entry may vanish", func(t *testing.T, m *vfs.Mem) {
		f := open(t, m, "a", os.O_RDWR|os.O_CREATE)
		writeAt(t, f, 0, "x")
		must(t, f.Sync())
	}, []string{"", "a=x1"}},
	{"a durable entry says nothing of the content", func(t *testing.T, m *vfs.Mem) {
		f := open(t, m, "a", os.O_RDWR|os.O_CREATE)
		must(t, m.SyncDir("."))
		writeAt(t, f, 0, "x")
	}, []string{"a=", "a=.1", "a=x1"}},
	{"a write is torn at sectors", func(t *testing.T, m *vfs.Mem) {
		f := create(t, m, "a", long("o", 1024))
		writeAt(t, f, 100, long("n", 512))
	}, []string{"a=o100n412o512", "a=o100n512o412", "a=o1024", "a=o512n100o412"}},
	{"an append is torn, and its hole reads zeros", func(t *testing.T, m *vfs.Mem) {
		f := create(t, m, "a", long("o", 512))
		writeAt(t, f, 512, long("n", 600))
	}, []string{"a=o512", "a=o512.512n88", "a=o512.600", "a=o512n512", "a=o512n512.88", "a=o512n600"}},
	{"a sector keeps its writes in their order", func(t *testing.T, m *vfs.Mem) {
		f := create(t, m, "a", "ooo")
		writeAt(t, f, 0, "1")
		writeAt(t, f, 1, "2")
	}, []string{"a=11" + "21o1", "a=11o2", "a=o3"}},
	{"a sync takes all that came before", func(t *testing.T, m *vfs.Mem) {
		f := create(t, m, "a", "ooo")
		writeAt(t, f, 0, "1")
		must(t, open(t, m, "a", os.O_RDONLY).Sync())
		writeAt(t, f, 1, "2")
	}, []string{"a=11" + "21o1", "a=11o2"}},
	{"a cut", func(t *testing.T, m *vfs.Mem) {
		f := create(t, m, "a", "ooo")
		must(t, f.Truncate(1))
	}, []string{"a=o1", "a=o3"}},
	{"a file emptied on opening", func(t *testing.T, m *vfs.Mem) {
		create(t, m, "a", "ooo")
		writeAt(t, open(t, m, "a", os.O_RDWR|os.O_TRUNC), 0, "n")
	}, []string{"a=", "a=.1", "a=n1", "a=n1o2", "a=o3"}},
	{"an allocation", func(t *testing.T, m *vfs.Mem) {
		f := create(t, m, "a", "o")
		must(t, f.Allocate(3))
	}, []string{"a=o1", "a=o1.2"}},
	{"a write into an allocation needs no length", func(t *testing.T, m *vfs.Mem) {
		f := create(t, m, "a", "")
		must(t, f.Allocate(3))
		must(t, f.Sync())
		writeAt(t, f, 0, "n")
	}, []string{"a=.3", "a=n1.2"}},
	{"a rename is one step", func(t *testing.T, m *vfs.Mem) {
		create(t, m, "a", "a")
		create(t, m, "b", "b")
		must(t, m.Rename("a", "b"))
	}, []string{"a=a1 b=b1", "b=a1"}},
	{"a rename between directories is one step too", func(t *testing.T, m *vfs.Mem) {
		create(t, m, "a", "a")
		must(t, m.MkdirAll("d", 0o700))
		must(t, m.SyncDir("."))
		must(t, m.Rename("a", "d/a"))
	}, []string{"a=a1", "d/a=a1"}},
	{"a rename brings what it builds upon", func(t *testing.T, m *vfs.Mem) {
		must(t, m.MkdirAll("d", 0o700))
		create(t, m, "a", "a")
		must(t, m.Rename("a", "b"))
		must(t, m.Rename("b", "d/a"))
		must(t, m.SyncDir("d"))
	}, []string{"d/a=a1"}},
	{"names do not wait for each other", func(t *testing.T, m *vfs.Mem) {
		create(t, m, "a", "a")
		must(t, m.Link("a", "b"))
		must(t, m.Remove("a"))
	}, []string{"", "a=a1", "a=a1 b=a1", "b=a1"}},
	{"each name goes through its own history", func(t *testing.T, m *vfs.Mem) {
		create(t, m, "log", "1")
		must(t, m.Rename("log", "old"))
		f := open(t, m, "log", os.O_RDWR|os.O_CREATE)
		writeAt(t, f, 0, "2")
		must(t, f.Sync())
	}, []string{"log=11", "log=21 old=11", "old=11"}},
	{"a directory without an entry takes all with it", func(t *testing.T, m *vfs.Mem) {
		must(t, m.MkdirAll("d", 0o700))
		f := open(t, m, "d/a", os.O_RDWR|os.O_CREATE)
		writeAt(t, f, 0, "x")
		must(t, f.Sync())
		must(t, m.SyncDir("d"))
	}, []string{"", "d/a=x1"}},
	{"a removal", func(t *testing.T, m *vfs.Mem) {
		create(t, m, "a", "a")
		must(t, m.Remove("a"))
	}, []string{"", "a=a1"}},
	{"a removal that was synced", func(t *testing.T, m *vfs.Mem) {
		create(t, m, "a", "a")
		must(t, m.Remove("a"))
		must(t, m.SyncDir("."))
	}, []string{""}},
}

func TestCrash(t *testing.T) {
	for _, tt := range crashTests {
		t.Run(tt.name, func(t *testing.T) {
			m := vfs.NewMem()
			tt.do(t, m)
			before := tree(t, m)
			got := outcomes(t, m)
			if !slices.Equal(got, tt.want) {
				t.Fatalf("outcomes\n%q, want\n%q", got, tt.want)
			}
			if all := tree(t, m.Crash(vfs.KeepAll)); all != before {
				t.Fatalf("all kept: %q, was %q", all, before)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for range 20 {
				after := m.Crash(vfs.KeepSome(rng, 0.5))
				if s := tree(t, after); !slices.Contains(tt.want, s) {
					t.Fatalf("at random: %q", s)
				}
				// What a crash left is durable, and a second crash changes nothing.
				if s, again := tree(t, after), outcomes(t, after); len(again) != 1 || again[0] != s {
					t.Fatalf("%q crashes to %q", s, again)
				}
			}
		})
	}
}

// A failed Sync has lost what it was to sync, and the next one, which succeeds,
// does not bring it back.
func TestFailedSync(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "a", "ooo")
	writeAt(t, f, 0, "1")
	fail := func(op vfs.Op) error {
		if op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir {
			return syscall.EIO
		}
		return nil
	}
	m.SetHook(fail)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	m.SetHook(nil)
	if s := tree(t, m); s != "a=11o2" {
		t.Fatalf("reads %q after the failure", s)
	}
	must(t, f.Sync())
	writeAt(t, f, 1, "2")
	must(t, f.Sync())
	want := []string{"a=1121o1", "a=o121o1"}
	if got := outcomes(t, m); !slices.Equal(got, want) {
		t.Fatalf("outcomes %q, want %q", got, want)
	}

	m = vfs.NewMem()
	create(t, m, "a", "x")
	must(t, m.Rename("a", "b"))
	m.SetHook(fail)
	if err := m.SyncDir("."); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	m.SetHook(nil)
	must(t, m.SyncDir("."))
	must(t, m.Rename("b", "c"))
	must(t, m.SyncDir("."))
	want = []string{"a=x1 c=x1", "c=x1"} // two names of one file: the loss of a step that nobody was promised
	if got := outcomes(t, m); !slices.Equal(got, want) {
		t.Fatalf("outcomes %q, want %q", got, want)
	}
}

// What is written while a Sync runs is not known to be durable after it.
func TestWriteDuringSync(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "a", "ooo")
	writeAt(t, f, 0, "1")
	m.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			writeAt(t, f, 1, "2")
		}
		return nil
	})
	must(t, f.Sync())
	want := []string{"a=1121o1", "a=11o2"}
	if got := outcomes(t, m); !slices.Equal(got, want) {
		t.Fatalf("outcomes %q, want %q", got, want)
	}
}

func TestDead(t *testing.T) {
	for _, end := range []string{"crash", "kill", "hook"} {
		t.Run(end, func(t *testing.T) {
			m := vfs.NewMem()
			f := create(t, m, "a", "o")
			_, err := m.Lock("lock")
			must(t, err)
			writeAt(t, f, 0, "n")
			var next *vfs.Mem
			switch end {
			case "crash":
				next = m.Crash(vfs.KeepNone)
			case "kill":
				next = m.Kill()
			case "hook":
				m.SetHook(vfs.CrashAt(1))
				writeAt(t, f, 0, "n")
				if err := m.Remove("a"); !errors.Is(err, vfs.ErrCrash) {
					t.Fatal(err)
				}
				next = m.Crash(vfs.KeepNone)
			}
			if !m.Dead() || next.Dead() {
				t.Fatal("the wrong one is dead")
			}
			_, errOpen := m.OpenFile("a", os.O_RDONLY, 0)
			_, errRead := f.Read(make([]byte, 1))
			_, errWrite := f.Write([]byte("x"))
			for i, err := range []error{errOpen, errRead, errWrite, f.Sync(), f.Close(), m.SyncDir("."), m.Remove("a")} {
				if !errors.Is(err, vfs.ErrCrash) {
					t.Errorf("%d: %v", i, err)
				}
			}
			want := "a=o1"
			if end == "kill" {
				want = "a=n1 lock="
			}
			if s := tree(t, next); s != want {
				t.Fatalf("holds %q, want %q", s, want)
			}
			if _, err := next.Lock("lock"); err != nil {
				t.Fatal(err)
			}
			// Not synced is not durable, though the process that wrote it is gone.
			if s := tree(t, next.Crash(vfs.KeepNone)); s != "a=o1" {
				t.Fatalf("holds %q after the power cut", s)
			}
		})
	}
}

func TestHook(t *testing.T) {
	m := vfs.NewMem()
	var trace []string
	m.SetHook(func(op vfs.Op) error {
		trace = append(trace, op.String())
		switch {
		case op.Kind == vfs.OpWrite && op.Off == 4:
			return &vfs.ShortWrite{N: 2, Err: syscall.ENOSPC}
		case op.Kind == vfs.OpAllocate:
			return syscall.ENOSPC
		}
		return nil
	})
	f := open(t, m, "a", os.O_RDWR|os.O_CREATE)
	for range 2 {
		n, err := f.Write([]byte("abcd"))
		if trace[len(trace)-1] == "1 write a off=0 len=4" {
			must(t, err)
		} else if n != 2 || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if err := f.Allocate(1 << 20); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	must(t, m.MkdirAll("x", 0o700))
	if s := tree(t, m); s != "a=a1b1c1d1a1b1" {
		t.Fatalf("holds %q", s)
	}
	want := []string{"0 create a off=0 len=0", "1 write a off=0 len=4", "2 write a off=4 len=4",
		"3 allocate a off=1048576 len=0", "4 mkdir x off=0 len=0", "5 readdir ./ off=0 len=0"}
	if len(trace) < len(want) || !slices.Equal(trace[:len(want)], want) {
		t.Fatalf("trace %q", trace)
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		f := create(t, m, "a", "o")
		m.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind == vfs.OpSync {
				return time.Second
			}
			return 0
		})
		start, done := time.Now(), make(chan error)
		go func() { done <- f.Sync() }()
		synctest.Wait()
		writeAt(t, f, 0, "n") // goes on while the sync sleeps
		must(t, <-done)
		if d := time.Since(start); d != time.Second {
			t.Fatalf("took %v", d)
		}
	})
}

// A file of 64 MiB that nobody wrote takes no memory, and many unsynced steps do
// not gather for ever.
func TestSparse(t *testing.T) {
	m := vfs.NewMem()
	f := create(t, m, "a", "o")
	n := testing.AllocsPerRun(1, func() {
		must(t, f.Allocate(64<<20))
		must(t, f.Sync())
	})
	if n > 100 {
		t.Fatalf("%v allocations", n)
	}
	for range 10000 {
		must(t, open(t, m, "b", os.O_RDWR|os.O_CREATE).Close())
		must(t, m.Remove("b"))
	}
	asked := 0
	m.Crash(func(vfs.Chance) bool { asked++; return true })
	if asked > 1500 {
		t.Fatalf("%d steps are not durable", asked)
	}
}

// What was synced before a power cut is there after it, however many wrote at once.
func TestConcurrent(t *testing.T) {
	m := vfs.NewMem()
	synced := make([]chan int, 4)
	for i := range synced {
		synced[i] = make(chan int, 1000)
		go func() {
			defer close(synced[i])
			f, err := m.OpenFile(fmt.Sprint(i), os.O_RDWR|os.O_CREATE, 0o600)
			for n := 1; err == nil && n <= 1000; n++ {
				_, err = f.Write([]byte("x"))
				if err = errors.Join(err, f.Sync(), m.SyncDir(".")); err == nil {
					synced[i] <- n
				}
			}
		}()
	}
	for n := range synced[0] {
		if n == 100 {
			break
		}
	}
	after := m.Crash(vfs.KeepSome(rand.New(rand.NewPCG(1, 1)), 0.5))
	for i := range synced {
		last := 0
		for last = range synced[i] {
		}
		if b, err := vfs.ReadFile(after, fmt.Sprint(i)); len(b) < last {
			t.Errorf("%d: %d octets synced, %d there, %v", i, last, len(b), err)
		}
	}
}

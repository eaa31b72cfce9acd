package vfs_test

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/vfs"
)

// A sync of the whole disk makes files and names durable; one that fails loses
// them, and everybody who syncs a part of it hears that once.
func TestSyncAll(t *testing.T) {
	m := vfs.NewMem()
	must(t, m.MkdirAll("d", 0o700))
	dev, err := m.OpenDevice("/")
	must(t, err)
	f := open(t, m, "d/a", os.O_RDWR|os.O_CREATE)
	writeAt(t, f, 0, "1")
	must(t, dev.Sync())
	if got := tree(t, m.Image(vfs.KeepNone)); got != "d/a=11" {
		t.Fatalf("after a sync: %q", got)
	}
	writeAt(t, f, 0, "2")
	must(t, m.Link("d/a", "b"))
	g := open(t, m, "b", os.O_RDWR)
	m.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSyncFS {
			return syscall.EIO
		}
		return nil
	})
	if err := dev.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	for _, h := range []vfs.File{f, g} {
		if err := h.Sync(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("the file tells %v", err)
		}
		must(t, h.Sync())
	}
	if err := m.SyncDir("/"); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the folder tells %v", err)
	}
	must(t, m.SyncDir("/"))
	must(t, m.SyncDir("d")) // nothing of it was lost
	m.SetHook(nil)
	must(t, dev.Sync())
	if got := tree(t, m.Crash(vfs.KeepNone)); got != "d/a=11" {
		t.Fatalf("what was lost has come back: %q", got)
	}
}

// One sync at a time serves all who waited when it began, and a failure is that of
// all who wrote meanwhile.
func TestVolume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		dev, err := m.OpenDevice("/")
		must(t, err)
		v := vfs.NewVolume(dev)
		var syncs atomic.Int64
		m.SetHook(func(op vfs.Op) error {
			if op.Kind != vfs.OpSyncFS {
				return nil
			}
			time.Sleep(100 * time.Millisecond)
			if syncs.Add(1) == 2 {
				return syscall.EIO
			}
			return nil
		})
		var errs [9]error
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 31 * time.Millisecond) // 0; 1 to 3; 4 to 7; 8
				since, inside := v.Enter()
				defer v.Leave()
				if inside < 1 || inside > len(errs) {
					t.Errorf("%d inside", inside)
				}
				errs[i] = v.Sync(since)
			})
		}
		wg.Wait()
		for i, err := range errs {
			want := error(nil)
			switch {
			case i >= 1 && i <= 3:
				want = syscall.EIO
			case i >= 4 && i <= 7: // 8 comes after the failure
				want = vfs.ErrVolume
			}
			if !errors.Is(err, want) {
				t.Errorf("%d: %v, want %v", i, err, want)
			}
		}
		if n := syncs.Load(); n != 4 {
			t.Errorf("%d syncs, want 4", n)
		}
		if since, _ := v.Enter(); v.Check(since) != nil || v.Check(since-1) == nil || v.Slow() {
			t.Error("Check or Slow")
		}
	})
}

// A volume is slow for a while after a sync that took long, and no longer; and it knows how
// many are there, when some have left too.
func TestVolumeIsSlowForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		dev, err := m.OpenDevice("/")
		must(t, err)
		v := vfs.NewVolume(dev)
		for _, c := range []struct {
			takes time.Duration
			slow  bool
		}{{time.Millisecond, false}, {time.Second, true}} {
			m.SetDelay(func(op vfs.Op) time.Duration {
				if op.Kind == vfs.OpSyncFS {
					return c.takes
				}
				return 0
			})
			for range 3 {
				since, inside := v.Enter()
				must(t, v.Sync(since))
				if inside != 1 || v.Slow() != c.slow {
					t.Errorf("%d inside, slow %v after a sync that took %v", inside, v.Slow(), c.takes)
				}
				v.Leave()
			}
			time.Sleep(10 * time.Second)
			if v.Slow() {
				t.Errorf("it is slow a while after a sync that took %v", c.takes)
			}
		}
	})
}

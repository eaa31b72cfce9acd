package maildir_test

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// What wrong edits of outsiders would have done, each of which no other test saw.

// The owner moves mail from new to cur while it is looked for there: it is found.
func TestMovedWhileItIsLookedFor(t *testing.T) {
	m := vfs.NewMem()
	tr := transport(m)
	d := delivery("box", "bob@example.org")
	wantDelivered(t, tr.Deliver(t.Context(), d))
	listed, moved := 0, false
	m.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpReadDir && strings.HasPrefix(op.Name, "box/") {
			if listed++; listed == 2 { // between one folder and the other
				for name := range read(t, m, "box/new") {
					if err := m.Rename("box/new/"+name, "box/cur/"+name+":2,S"); err != nil {
						t.Error(err)
					}
					moved = true
				}
			}
		}
		return nil
	})
	d.Again = true
	wantDelivered(t, tr.Deliver(t.Context(), d))
	if got := contents(t, m, "box"); len(got) != 1 || !moved {
		t.Errorf("%d files, moved: %v", len(got), moved)
	}
}

// A toldOnce tells of what a directory has lost to somebody else, as a kernel does to
// who has had it open for longer.
type toldOnce struct{ *vfs.Mem }

func (d toldOnce) SyncDir(name string) error {
	if err := d.Mem.SyncDir(name); err == nil {
		return nil
	}
	return d.Mem.SyncDir(name)
}

// Who delivers alone, and syncs his own file and folder, hears of the sync of the whole
// file system that failed meanwhile for others, and took his name with it.
func TestAloneBesideAFailedGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		tr := transport(toldOnce{m})
		boxes(t, m, tr, 20)
		wantDelivered(t, tr.Deliver(t.Context(), delivery("alone", "cid@example.org")))
		var failed atomic.Bool
		m.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSyncFS && failed.CompareAndSwap(false, true) {
				return syscall.EIO
			}
			return nil
		})
		m.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind == vfs.OpSyncDir && op.Name == "alone/new" {
				return time.Minute
			}
			return time.Microsecond
		})
		first := make(chan postrider.Outcome)
		go func() {
			d := delivery("alone", "bob@example.org")
			d.Message.ID = "alone"
			first <- tr.Deliver(t.Context(), d)[0]
		}()
		time.Sleep(30 * time.Second)
		crowd(t.Context(), tr, 20)
		o := <-first
		if got := contents(t, m.Crash(vfs.KeepNone), "alone"); o.Result == postrider.ResultDelivered && len(got) != 2 {
			t.Errorf("told delivered, and %d of 2 files are there after the power cut", len(got))
		}
		if !failed.Load() || o.Result == postrider.ResultDelivered {
			t.Errorf("a sync failed: %v, and it was %v", failed.Load(), o.Result)
		}
	})
}

// counted counts the devices that are open.
type counted struct {
	*vfs.Mem
	open *atomic.Int64
}

func (c counted) OpenDevice(dir string) (vfs.Device, error) {
	dev, err := c.Mem.OpenDevice(dir)
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	return &countedDevice{dev, c.open}, nil
}

type countedDevice struct {
	vfs.Device
	open *atomic.Int64
}

func (c *countedDevice) Close() error {
	c.open.Add(-1)
	return c.Device.Close()
}

// Nothing is open of a file system to which nobody delivers: it can be unmounted.
func TestVolumesAreClosed(t *testing.T) {
	var open atomic.Int64
	m := vfs.NewMem()
	tr := transport(counted{m, &open})
	for range 3 {
		wantDelivered(t, tr.Deliver(t.Context(), delivery("box", "bob@example.org")))
		if n := open.Load(); n != 0 {
			t.Errorf("after one alone %d are open", n)
		}
		crowd(t.Context(), tr, 20)
		if n := open.Load(); n != 0 {
			t.Errorf("after a crowd %d are open", n)
		}
	}
	if n := m.Opened(); n != 0 {
		t.Errorf("%d files are open", n)
	}
}

// Seed 45106 of the simulator: a process died between a folder and its sync, the next one
// found it, its sync failed, and then one succeeded: the folder was believed in, and went
// with the power, and all mail in it.
func TestFolderOfOneWhoDied(t *testing.T) {
	for _, full := range []bool{false, true} {
		for at := range 4 {
			m := vfs.NewMem()
			if full { // it was there all the time, with mail in it
				wantDelivered(t, transport(m).Deliver(t.Context(), delivery("mail/box", "cid@example.org")))
			}
			n := 0
			m.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSyncDir {
					if n++; n == at+1 {
						return vfs.ErrCrash
					}
				}
				return nil
			})
			other := delivery("mail/box", "bob@example.org")
			transport(m).Deliver(t.Context(), other)
			m = m.Kill()
			fails := 0
			m.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSyncDir && fails < 4 {
					fails++
					return syscall.EIO
				}
				return nil
			})
			tr := transport(m)
			other.Again = true
			for tr.Deliver(t.Context(), other)[0].Result != postrider.ResultDelivered {
				if fails > 10 {
					t.Fatal("it is never delivered")
				}
			}
			want := 1
			if full {
				want = 2
			}
			if got := contents(t, m.Crash(vfs.KeepNone), "mail/box"); len(got) != want {
				t.Errorf("full %v, killed at sync %d: %d of %d files are there after the power cut", full, at+1, len(got), want)
			}
		}
	}
}

// A folder that has another name, since we died over it, gets its own back.
func TestFolderGetsItsNameBack(t *testing.T) {
	m := vfs.NewMem()
	wantDelivered(t, transport(m).Deliver(t.Context(), delivery("mail/box", "cid@example.org")))
	if err := m.Rename("mail/box/new", "mail/box/new.postrider-renamed"); err != nil {
		t.Fatal(err)
	}
	d := delivery("mail/box", "bob@example.org")
	d.Message.ID = "second"
	wantDelivered(t, transport(m).Deliver(t.Context(), d))
	if got := contents(t, m.Crash(vfs.KeepNone), "mail/box"); len(got) != 2 {
		t.Errorf("%d files", len(got))
	}
}

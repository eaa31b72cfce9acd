package journal

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// The folder cannot be synced after a file was made, and the file cannot be taken
// back, or the process dies over it. Its name is not durable, though the next sync
// of the folder succeeds: it is not written into.
func TestNameNotTakenBack(t *testing.T) {
	for _, killed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			b := newBench(t, disk)
			synced, removed := false, false
			disk.SetHook(func(op vfs.Op) error {
				switch {
				case op.Kind == vfs.OpSyncDir && !synced:
					synced = true
					return errDisk
				case op.Kind == vfs.OpRemove && strings.HasSuffix(op.Name, ".jnl") && !removed:
					removed = true
					if killed {
						return vfs.ErrCrash
					}
					return errDisk
				}
				return nil
			})
			one := life(1, 1, time.Now())
			if killed {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				b.j.Run(ctx, batches(one))
				disk = disk.Kill()
				b = newBench(t, disk)
			}
			b.run(one)
			if !removed {
				t.Fatal("the test has lost its sense")
			}
			for _, after := range []*vfs.Mem{disk.Kill(), disk.Crash(vfs.KeepNone), disk.Crash(vfs.KeepAll)} {
				b = newBench(t, after)
				if got := where(t, b.j, string(one[0].ID), 0); len(got) != 1 || len(got[0]) != len(one) {
					t.Errorf("killed %v: got %v", killed, got)
				}
				if len(b.alarms) > 0 {
					t.Errorf("killed %v: %q", killed, b.alarms)
				}
				b.close()
			}
		})
	}
}

// A file cannot be synced, and the process dies before it has given it up. The
// next one reads what the system has in memory, believes that it is on the disk,
// and would not write out: it is written again before it counts as told.
func TestFailedSyncAndAKill(t *testing.T) {
	for _, before := range []int{0, 1, 4} {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			b := newBench(t, disk)
			for n := range before {
				b.run(life(n, uint64(1+10*n), time.Now()))
			}
			disk.SetHook(func(op vfs.Op) error {
				switch {
				case op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".jnl"):
					return errDisk
				case op.Kind == vfs.OpTruncate:
					return vfs.ErrCrash
				}
				return nil
			})
			last := life(9, 100, time.Now())
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			b.j.Run(ctx, batches(last))
			if !disk.Dead() {
				t.Fatal("the test has lost its sense")
			}
			disk = disk.Kill()
			b = newBench(t, disk)
			b.run(last)
			b = newBench(t, disk.Crash(vfs.KeepNone))
			if got := where(t, b.j, string(last[0].ID), 0); len(got) != 1 || len(got[0]) != len(last) {
				t.Errorf("after %d: got %v", before, got)
			}
			if got := where(t, b.j, "sender@example.org", 0); len(got) != before+1 || len(b.alarms) > 0 {
				t.Errorf("after %d: %d messages, alarms %q", before, len(got), b.alarms)
			}
			b.close()
		})
	}
}

// On a disk that takes its time for a sync, the journal leaves most of it to the spool,
// and is never more than a moment behind.
func TestSlowDiskIsLeftToTheSpool(t *testing.T) {
	for _, test := range []struct {
		takes time.Duration
		least int // syncs in ten seconds
		most  int
	}{{0, 100, 200}, {5 * time.Millisecond, 40, 50}, {2 * time.Second, 3, 4}} {
		synctest.Test(t, func(t *testing.T) {
			fsys := vfs.NewMem()
			b := newBench(t, fsys)
			b.j.opt.PartSize = 1 << 20
			syncs := 0
			fsys.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSync {
					syncs++
					time.Sleep(test.takes)
				}
				return nil
			})
			began, n := time.Now(), 0
			feed := func(yield func([]postrider.Event, error) bool) {
				for time.Since(began) < 10*time.Second && yield(life(n, uint64(1+10*n), time.Now()), nil) {
					n++
					time.Sleep(10 * time.Millisecond)
				}
			}
			if err := b.j.Run(context.Background(), feed); err != nil {
				t.Error(err)
			}
			fsys.SetHook(nil)
			if got := where(t, b.j, "sender@example.org", 1000); syncs < test.least || syncs > test.most || len(got) != n {
				t.Errorf("%d syncs of %v in ten seconds, %d of %d messages are there", syncs, test.takes, len(got), n)
			}
			b.close()
		})
	}
}

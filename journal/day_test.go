package journal

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A day ends between two writes of one batch: what went into its file before is
// durable there, and found, before the batch counts as told.
func TestDayEndsInABatch(t *testing.T) {
	const many = 500 // more than one write
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		b := newBench(t, disk)
		b.j.opt.PartSize = 16 << 20
		day := time.Duration(0)
		b.j.opt.Now = func() time.Time { return time.Now().Add(day) }
		writes := 0
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, ".jnl") {
				writes++
				day = 24 * time.Hour
			}
			return nil
		})
		var all []postrider.Event
		for n := range many {
			all = append(all, life(n, uint64(1+10*n), time.Now())...)
		}
		b.run(all)
		if writes < 2 {
			t.Fatal("the test has lost its sense")
		}
		b.run(life(many, 1+10*many, time.Now())) // into the next day's
		found := func(when string, b *bench) {
			t.Helper()
			if got := where(t, b.j, "sender@example.org", 2*many); len(got) != many+1 {
				t.Errorf("%s: %d of %d messages are found", when, len(got), many+1)
			}
			if len(b.alarms) > 0 {
				t.Errorf("%s: %d alarms, the first %q", when, len(b.alarms), b.alarms[0])
			}
		}
		found("at once", b)
		if n := len(b.j.files); n != 2 {
			t.Errorf("%d files", n)
		}
		after := newBench(t, disk.Image(vfs.KeepNone))
		found("after a power cut", after)
		after.close()
		b.close()
	})
}

// A file that is over and cannot be removed counts until it is.
func TestOldDayCannotBeRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		b := newBench(t, disk)
		for n := range 5 {
			b.run(life(n, uint64(1+10*n), time.Now()))
			time.Sleep(24 * time.Hour)
		}
		b.j.opt.Keep = time.Hour
		failing := true
		disk.SetHook(func(op vfs.Op) error {
			if failing && op.Kind == vfs.OpRemove && strings.HasSuffix(op.Name, ".jnl") {
				return errDisk
			}
			return nil
		})
		b.j.expire()
		if n := len(where(t, b.j, "sender@example.org", 0)); n != 5 || len(b.alarms) != 1 {
			t.Errorf("%d days, alarms %q", n, b.alarms)
		}
		failing = false
		b.j.expire()
		if n := len(where(t, b.j, "sender@example.org", 0)); n != 1 || len(b.alarms) != 1 {
			t.Errorf("%d days, alarms %q", n, b.alarms)
		}
		b.close()
	})
}

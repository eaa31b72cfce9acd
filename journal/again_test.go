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

// The LSNs of a new spool begin anew: an event is known by its place and by what it
// says, and is written where either is another.
func TestPlaceOfAnotherSpool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		one, two := life(1, 1, time.Now()), life(2, 1, time.Now())
		b.run(one)
		b.run(two)
		for _, evs := range [][]postrider.Event{one, two} {
			if got := where(t, b.j, string(evs[0].ID), 0); len(got) != 1 || len(got[0]) != len(evs) {
				t.Errorf("of %d events are there %v", len(evs), got)
			}
		}
		b.close()
	})
}

// The clock is set back, by less than a day or by more: what was written stays, and
// what comes is written behind it.
func TestClockIsSetBack(t *testing.T) {
	for _, back := range []time.Duration{time.Hour, 24 * time.Hour, 25 * time.Hour, 100 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			off := time.Duration(0)
			b.j.opt.Now = func() time.Time { return time.Now().Add(off) }
			b.j.opt.Keep = 1000 * time.Hour
			const each = 20
			n := 0
			for _, off = range []time.Duration{-24 * time.Hour, 0, -back, 24 * time.Hour} {
				for range each {
					b.run(life(n, uint64(1+10*n), b.j.opt.Now()))
					n++
				}
			}
			if got := where(t, b.j, "sender@example.org", 10*each); len(got) != n || len(b.alarms) > 0 {
				t.Errorf("set back by %v: %d of %d messages, alarms %q", back, len(got), n, b.alarms)
			}
			b.close()
		})
	}
}

// Of a large batch too, a start writes again all that it takes as told after a failed
// sync and a kill.
func TestLargeBatchAfterAFailedSyncAndAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 800 // more than three writes
		disk := vfs.NewMem()
		b := newBench(t, disk)
		b.j.opt.PartSize = 16 << 20
		writes := 0
		disk.SetHook(func(op vfs.Op) error {
			switch {
			case op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, ".jnl"):
				writes++
			case op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".jnl"):
				return errDisk
			case op.Kind == vfs.OpTruncate:
				return vfs.ErrCrash
			}
			return nil
		})
		var all []postrider.Event
		for n := range many {
			all = append(all, life(n, uint64(1+10*n), time.Now())...)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b.j.Run(ctx, batches(all))
		if !disk.Dead() || writes < 2 {
			t.Fatal("the test has lost its sense")
		}
		disk = disk.Kill()
		b = newBench(t, disk)
		b.run(all)
		b = newBench(t, disk.Crash(vfs.KeepNone))
		if got := where(t, b.j, "sender@example.org", 2*many); len(got) != many || len(b.alarms) > 0 {
			t.Errorf("%d of %d messages, alarms %q", len(got), many, b.alarms)
		}
		b.close()
	})
}

// A batch is the feed's own, which writes into it again: a read-only journal tells of
// what was in it.
func TestReadOnlyKeepsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		b := newBench(t, disk)
		b.run(life(1, 1, time.Now()))
		b.close()
		b.j = b.open(true)
		one := life(2, 100, time.Now())
		buf := append([]postrider.Event(nil), one...)
		if err := b.j.Run(t.Context(), func(yield func([]postrider.Event, error) bool) {
			yield(buf, nil)
			clear(buf)
		}); err != nil {
			t.Error(err)
		}
		got := where(t, b.j, string(one[0].ID), 0)
		if len(got) != 1 {
			t.Fatalf("%v", got)
		}
		same(t, "what the feed told", got[0], one)
		b.close()
	})
}

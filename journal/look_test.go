package journal

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// An operator looks into the journal (postrider where) in the moment when it has begun
// the file of a day, and written nothing into it: he sees what is there, and takes
// nothing away.
func TestLookAtANewDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		b := newBench(t, disk)
		looks := 0
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSyncDir && op.Name == "data/journal" {
				looks++
				if err := b.open(true).Close(); err != nil {
					t.Error(err)
				}
			}
			return nil
		})
		one, two := life(1, 1, time.Now()), life(2, 11, time.Now().Add(24*time.Hour))
		b.run(one)
		time.Sleep(24 * time.Hour)
		b.run(two)
		if looks != 2 {
			t.Fatalf("%d looks: the test has lost its sense", looks)
		}
		disk.SetHook(nil)
		b.close()
		b.j = b.open(false)
		for _, want := range [][]postrider.Event{one, two} {
			got := where(t, b.j, string(want[0].ID), 0)
			if len(got) != 1 {
				t.Fatalf("%d messages are known of %s", len(got), want[0].ID)
			}
			same(t, "after a look at the new day", got[0], want)
		}
		b.close()
	})
}

// The files are of days in UTC, whatever the clock on the wall says: the story of a
// message begins with its arrival east and west of Greenwich, at any hour.
func TestDaysAreThoseOfUTC(t *testing.T) {
	for _, hours := range []int{-11, -5, 0, 2, 9, 14} {
		synctest.Test(t, func(t *testing.T) {
			zone := time.FixedZone("here", hours*3600)
			for hour := range 24 {
				at := time.Date(2026, 3, 1, hour, 30, 0, 0, time.UTC).In(zone)
				b := newBench(t, vfs.NewMem())
				b.j.opt.Now = func() time.Time { return at }
				all := life(1, 1, at)
				b.run(all[:3])
				look := b.open(true) // which takes the rest from the feed, as that has it
				if err := look.Run(context.Background(), batches(all)); err != nil {
					t.Fatal(err)
				}
				got := where(t, look, string(all[0].ID), 0)
				if len(got) != 1 {
					t.Fatalf("at %v: %d messages", at, len(got))
				}
				same(t, at.String(), got[0], all)
				look.Close()
				b.close()
			}
		})
	}
}

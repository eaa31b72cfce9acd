package spool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A message is moved while it is being looked at, and the power goes: the look is still to
// do, or nobody would ever give the message up, or write its report.
func TestMovedWhileItIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@held.example")
		time.Sleep(2 * time.Hour)
		b.mustClaim(postrider.Wake, 0)
		at := b.s.placeOf(id).seg
		b.traffic(time.Minute)
		if b.s.placeOf(id).seg == at {
			t.Fatal("it was not moved")
		}
		disk := b.fs.Crash(vfs.KeepNone)
		disk.Remove("data/spool/index.snap")
		b.next(disk)
		if l := b.mustClaim(postrider.Wake, 0); l.ID != id {
			t.Errorf("another is looked at: %+v", l)
		}
		b.s.Close(t.Context())
	})
}

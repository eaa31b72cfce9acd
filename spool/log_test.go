package spool

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// The loss of whole groups is told, of the very first too.
func TestLostFirstGroupIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		first := b.add([]byte("x"), "a@x.example")
		second := b.add([]byte("y"), "a@x.example")
		at, end := b.s.entries[first].loc, b.s.entries[second].loc.off
		at.seg.f.WriteAt(make([]byte, end-at.off), at.off)
		b.reopen()
		readBody(t, b.s, second)
		if len(b.alarms) == 0 {
			t.Error("no alarm")
		}
		b.s.Close(context.Background())
	})
}

// What is owed to a sender is reported soon after a crash, whatever else waits.
func TestOwedReportIsNotPutOffByACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example", "b@held.example")
		la := b.mustClaim(postrider.Attempt, 0)
		time.Sleep(time.Hour)
		lw := b.mustClaim(postrider.Wake, 1) // the first recipient is still under way
		soon, late := time.Now().Add(time.Minute), time.Now().Add(24*time.Hour)
		for _, set := range []postrider.Settlement{
			{Lease: la, Changes: []postrider.Change{failed(0)}, Wake: soon}, {Lease: lw, Wake: late},
		} {
			if err := b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{set}}); err != nil {
				t.Fatal(err)
			}
		}
		b.reopen()
		time.Sleep(time.Minute)
		if l := b.mustClaim(postrider.Wake, 0, 1); l.ID != id {
			t.Errorf("lease %+v", l)
		}
		b.s.Close(context.Background())
	})
}

// While a segment cannot be removed, none after it is: what ended the mail in it
// would be gone, and the mail come back.
func TestSegmentsAreRemovedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		bad := true
		b.fs.SetHook(func(op vfs.Op) error {
			if bad && op.Kind == vfs.OpRemove && op.Name == "data/spool/seg/0000000001.seg" {
				return errors.New("operation not permitted")
			}
			return nil
		})
		turn := func() {
			for range 40 {
				b.add(bytes.Repeat([]byte("0123456789"), 100), "a@x.example")
				b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		b.add([]byte("x"), "z@z.example")
		b.s.Pause("mx:z.example", time.Now().Add(time.Minute))
		turn()
		b.s.Pause("mx:z.example", time.Time{})
		b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0)) // its end lies in another segment
		turn()
		n := len(b.alarms)
		b.reopen()
		if m := b.s.Stat().Messages; m != 0 || len(b.alarms) != n {
			t.Errorf("%d messages came back, alarms %q", m, b.alarms[n:])
		}
		bad = false
		turn()
		if list, _ := b.fs.ReadDir("data/spool/seg"); len(list) > 4 {
			t.Errorf("%d segments are left", len(list))
		}
		b.s.Close(context.Background())
	})
}

// A lease can be given back while the message cannot be read.
func TestGiveBackWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		at := b.s.entries[id].loc
		at.seg.f.WriteAt([]byte{0xff, 0xff}, at.off+headerLen+5)
		b.settle(b.mustClaim(postrider.Attempt, 0))
		b.mustClaim(postrider.Attempt, 0)
		b.s.Close(context.Background())
	})
}

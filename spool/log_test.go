package spool

import (
	"context"
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

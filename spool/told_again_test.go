package spool

import (
	"context"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// failSyncs lets every sync of a file fail, until heal is called.
func (b *bench) failSyncs() (heal func()) {
	b.fs.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	return func() { b.fs.SetHook(nil) }
}

// A damage that a start has found stands in the feed, though the disk fails as that is
// written down beside something lazy.
func TestDamageIsToldThoughTheDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		at := b.s.placeOf(b.add([]byte("x"), "a@held.example"))
		b.add([]byte("y"), "a@x.example")
		b.s.Close(context.Background())
		b.flip("data/spool/seg/"+segmentName(at.seg.n), at.off+headerLen+5)
		b.open()
		b.settle(b.mustClaim(postrider.Attempt, 0), deferred(0, time.Now().Add(time.Hour)))
		if len(b.s.rewrite) > 0 {
			t.Fatal("nothing was written")
		}
		heal := b.failSyncs()
		time.Sleep(10 * lazySyncTime)
		heal()
		time.Sleep(2 * lazyRetryTime)
		told := 0
		for _, ev := range b.events() {
			if ev.Kind == postrider.EventDamaged {
				told++
			}
		}
		if told != 1 {
			t.Errorf("it is told %d times", told)
		}
		b.s.Close(context.Background())
	})
}

// An order of an operator that nobody waited for is in the log soon, though the disk
// fails at first.
func TestLazyOrderThoughTheDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		if err := b.s.Commit(context.Background(), postrider.Batch{Lazy: true, Amend: []postrider.Amendment{{ID: id, Do: postrider.AmendHold}}}); err != nil {
			t.Fatal(err)
		}
		heal := b.failSyncs()
		time.Sleep(10 * lazySyncTime)
		heal()
		time.Sleep(2 * lazyRetryTime)
		b.next(b.fs.Crash(vfs.KeepNone))
		b.noClaim()
		if m, _ := readBody(t, b.s, id); !m.Recipients[0].Held {
			t.Error("it is not held")
		}
		b.s.Close(context.Background())
	})
}

// What is given up with a segment is not of the log any more: a disk that fails time
// after time does not make the log look long, or the feed would lose what it keeps and
// all mail be moved for nothing.
func TestGivenUpIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for range 20 {
			b.add([]byte("x"), "a@held.example")
			heal := b.failSyncs()
			a, err := addition(b.s, "", make([]byte, 1500), time.Now(), "b@held.example")
			if err != nil {
				t.Fatal(err)
			}
			if err := b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); err == nil {
				t.Fatal("a commit whose sync failed returned nil")
			}
			heal()
		}
		octets := int64(0)
		for _, g := range b.s.segments {
			octets += g.end
		}
		if n := b.s.Stat().LogBytes; n != octets {
			t.Errorf("the log has %d octets, and %d are counted", octets, n)
		}
		b.s.Close(context.Background())
	})
}

// Who delivers is told that an earlier attempt may have come to something, when one was
// made, and also after a start that read the message from a snapshot: a store that looks
// for what is there adds no second copy.
func TestAgainAfterAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@x.example")
		due := time.Now().Add(time.Minute)
		b.settle(b.mustClaim(postrider.Attempt, 0), deferred(0, due))
		time.Sleep(time.Until(due))
		if l := b.mustClaim(postrider.Attempt, 0); !l.Again {
			t.Error("the second lease does not say Again")
		} else {
			b.settle(l, delivered(0))
		}
		untried := b.add([]byte("y"), "a@x.example")
		for range 60 {
			b.add(make([]byte, 600), "a@held.example")
			synctest.Wait()
		}
		b.reopen()
		if b.s.snapBytes == 0 || len(b.alarms) > 0 {
			t.Fatalf("no snapshot, alarms %q", b.alarms)
		}
		if l := b.mustClaim(postrider.Attempt, 0); l.ID != untried || !l.Again {
			t.Errorf("the lease after a start: %+v", l)
		}
		b.s.Close(context.Background())
	})
}

// The record of what a recipient's sender was told rots. Nobody is told that again, as
// the index still knows it: not of the failure, and not of the delay.
func TestRottenStateTellsNobodyAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example", "b@x.example")
		told, late := failed(0), deferred(1, time.Now().Add(time.Hour))
		told.Reported, late.Delayed = true, true
		b.settle(b.mustClaim(postrider.Attempt, 0, 1), told, late)
		for _, p := range places(b.s) {
			if p.kind == kindState {
				b.rot(p)
				break
			}
		}
		m, _ := readBody(t, b.s, id)
		if len(b.alarms) != 1 || !m.Recipients[0].Reported || !m.Recipients[1].Delayed {
			t.Errorf("%+v, alarms %q", m.Recipients, b.alarms)
		}
		b.s.Close(context.Background())
	})
}

package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// Bugs that the crash and fault tests and the simulator found (docs/threats.md),
// each made again by hand.

// next opens the spool on what the end of the one before has left.
func (b *bench) next(disk *vfs.Mem) {
	b.t.Helper()
	b.s.Close(context.Background())
	b.fs, b.alarms = disk, nil
	b.open()
}

// Seed 1844 of the simulator: what is dropped while it is under way goes when the
// lease ends, and its content with it. A start replays the order at its end, and
// misses no content before that.
func TestDroppedUnderWayNeedsNoContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(large, "a@x.example")
		l := b.mustClaim(postrider.Attempt, 0)
		b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDrop, Reply: bounceReply})
		b.settle(l, deferred(0, time.Now().Add(time.Hour)))
		time.Sleep(time.Second)
		synctest.Wait()
		if list, err := b.fs.ReadDir("data/spool/big"); err != nil || len(list) > 0 {
			t.Fatalf("big holds %v, %v", list, err)
		}
		b.next(b.fs.Kill())
		if len(b.alarms) > 0 || b.s.Stat().Messages > 0 {
			t.Errorf("%d messages, alarms %q", b.s.Stat().Messages, b.alarms)
		}
		b.s.Close(context.Background())
	})
}

// Seed 22 of the crash test, operation 92: a message is bounced while it is under
// way, a snapshot begins, the lease ends with a deferral, and the snapshot comes to
// the message. It knows the bounce; the deferral, which is read again, is older.
func TestSnapshotKnowsWhatWasWanted(t *testing.T) {
	for _, do := range []postrider.Amend{postrider.AmendBounce, postrider.AmendDrop} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			id := b.add([]byte("x"), "a@x.example", "b@held.example")
			l := b.mustClaim(postrider.Attempt, 0)
			b.amend(postrider.Amendment{ID: id, Rcpts: []int{0}, Do: do, Reply: bounceReply})
			synctest.Wait()
			at := mark{b.s.synced, b.s.active, b.s.active.syncedTo}
			b.settle(l, deferred(0, time.Now().Add(time.Hour)))
			synctest.Wait()
			if err := b.s.snapshot(at); err != nil {
				t.Fatal(err)
			}
			want := b.s.rcpts(b.s.entryOf(id))[0]
			b.next(b.fs.Kill())
			got := b.s.rcpts(b.s.entryOf(id))[0]
			if got.state != postrider.Failed || got.is != want.is || len(b.alarms) > 0 {
				t.Errorf("%v: state %v, %v; it was %v, %v; alarms %q", do, got.state, got.is, want.state, want.is, b.alarms)
			}
			b.s.Close(context.Background())
		})
	}
}

// Seed 2 of the crash test, operation 205: a segment goes when what ended its
// last message is durable, and not before.
func TestSegmentStaysUntilItsEndIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		l := b.mustClaim(postrider.Attempt, 0)
		for b.s.nextSegment < 3 {
			b.add(bytes.Repeat([]byte("y"), 1000), "b@held.example")
		}
		first := b.s.segments[0]
		for at := first.head; at != 0; at = first.head {
			e := b.s.slab.get(at)
			if e.id.name() == id {
				if e.next == 0 {
					break
				}
				e = b.s.slab.get(e.next)
			}
			b.amend(postrider.Amendment{ID: e.id.name(), Do: postrider.AmendDrop, Reply: bounceReply})
		}
		b.settle(l, delivered(0)) // lazy
		synctest.Wait()
		b.next(b.fs.Crash(vfs.KeepNone))
		if b.s.entryOf(id) == nil {
			t.Errorf("the message went with its segment, its end did not come: alarms %q", b.alarms)
		}
		b.s.Close(context.Background())
	})
}

// EIO at operation 732 of the fault test: what the turn of a segment has made
// durable is not written again when the next sync fails.
func TestTurnMadeItDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@x.example", "b@held.example")
		l := b.mustClaim(postrider.Attempt, 0)
		for b.s.active.size-b.s.active.end > 2000 {
			b.add(bytes.Repeat([]byte("y"), 500), "b@held.example")
		}
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && path.Base(op.Name) == segmentName(2) && b.s.active != nil && b.s.active.n == 2 {
				return syscall.EIO
			}
			return nil
		})
		b.settle(l, delivered(0)) // lazy, in the first segment
		a, err := addition(b.s, "", bytes.Repeat([]byte("z"), 2000), time.Now(), "b@held.example")
		if err == nil {
			err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
		}
		if !errors.Is(err, syscall.EIO) {
			t.Fatalf("the sync of the second segment: %v", err)
		}
		a.Draft.Discard()
		b.fs.SetHook(nil)
		b.add([]byte("again"), "b@held.example")
		told := 0
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for ev, err := range b.s.Feed(ctx, "log") {
			if err == nil && ev.Kind == postrider.EventRecipient {
				told++
			}
		}
		if told != 1 {
			t.Errorf("the delivery is told %d times", told)
		}
		b.s.Close(context.Background())
	})
}

// EIO at operation 768 of the fault test: a start after a failed sync and a kill
// finds in memory what is not on the disk, and no sync of it would bring it there.
// What it takes it writes again.
func TestStartAfterAFailedSyncAndAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("first"), "a@held.example")
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				return syscall.EIO
			}
			return nil
		})
		a, err := addition(b.s, "", []byte("second"), time.Now(), "a@held.example")
		if err == nil {
			err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
		}
		if !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		b.next(b.fs.Kill())
		ids := []postrider.ID{a.Message.ID, b.add([]byte("third"), "a@held.example")}
		b.next(b.fs.Crash(vfs.KeepNone))
		for _, id := range ids {
			if b.s.entryOf(id) == nil {
				t.Errorf("message %s, which a start had taken, is gone", id)
			}
		}
		if len(b.alarms) > 0 {
			t.Error(fmt.Sprint(b.alarms))
		}
		b.s.Close(context.Background())
	})
}

// Read at operation 332 of the fault test: at a start after a power cut a content
// at the end of the log cannot be read, once. It is not torn for that, and cut off:
// the start fails, and the next one has it.
func TestEndOfTheLogCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(bytes.Repeat([]byte("x"), 1000), "a@held.example")
		dead := b.s
		b.fs = b.fs.Crash(vfs.KeepNone)
		dead.Close(context.Background())
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpRead && op.Len == 1000 {
				return syscall.EIO
			}
			return nil
		})
		if s, err := Open(context.Background(), testOptions(b.fs)); !errors.Is(err, syscall.EIO) {
			t.Errorf("start: %v", err)
			s.Close(context.Background())
		}
		if n := b.fs.Opened(); n > 0 {
			t.Errorf("%d files are open", n)
		}
		b.fs.SetHook(nil)
		b.alarms = nil
		b.open()
		readBody(t, b.s, id)
		b.s.Close(context.Background())
	})
}

// Seed 14795 of the simulator, and 8500 and 11076: a segment that was never begun
// stands first in the log, for those before it were removed and the power went. That
// is no damage; but it is where something was ever written to it.
func TestFirstSegmentNeverBegun(t *testing.T) {
	for _, c := range []struct {
		what   string
		behind []byte // the header, of which nothing can be read
		damage bool
	}{
		{"nothing behind its header", nil, false},
		{"zeros", make([]byte, 8000), false},
		{"octets that are no record", append(make([]byte, 8000), "something"...), true},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			for b.s.nextSegment < 6 {
				b.add(bytes.Repeat([]byte("y"), 1000), "a@x.example")
				b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			}
			kept := b.add([]byte("kept"), "b@held.example")
			synctest.Wait()
			first := b.s.segments[0]
			if first.n < 2 || first.after == 0 {
				t.Fatalf("the log begins with segment %d, after record %d", first.n, first.after)
			}
			if err := b.s.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
			b.fs.Remove("data/spool/index.snap")
			f, err := b.fs.OpenFile(path.Join("data/spool/seg", segmentName(first.n-1)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			f.WriteAt(append(make([]byte, segmentHeaderLen), c.behind...), 0)
			f.Close()
			b.alarms = nil
			b.open()
			if told := len(b.alarms) > 0; told != c.damage || b.s.entryOf(kept) == nil {
				t.Errorf("%s: alarms %q, and what waits is there: %v", c.what, b.alarms, b.s.entryOf(kept) != nil)
			}
			b.s.Close(context.Background())
		})
	}
}

// Seed 508 of the simulator: what lived in a segment was moved, the segment was
// removed, and nothing came after the group of the moves. A bit of that group turned,
// and it was taken as torn: all that had moved was gone, and nobody was told. A
// segment goes only when what ended it is proven.
func TestRemovedSegmentIsProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for range 40 {
			b.add(make([]byte, 1000), "a@held.example")
		}
		lives, removed, moves := len(b.s.names()), 0, 0
		for range 80 {
			first := b.s.segments[0].n
			b.add(make([]byte, 1000), "a@x.example")
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			time.Sleep(4 * lazySyncTime)
			synctest.Wait()
			if b.s.segments[0].n == first {
				continue
			}
			removed++
			for _, p := range places(b.s) {
				if p.kind != kindMove || p.body {
					continue
				}
				moves++
				if n, alarms := b.rotten(p); n < lives && len(alarms) == 0 {
					t.Fatalf("a bit of %+v has turned: %d of %d messages are there, and nobody was told", p, n, lives)
				}
			}
		}
		if removed < 3 || moves < 100 {
			t.Errorf("%d segments were removed, and %d places of moves tried", removed, moves)
		}
		if b.s.owes() {
			t.Error("there is something to write that nobody has asked for")
		}
		b.s.Close(context.Background())
	})
}

// rotten opens what a power cut would leave now, with a bit turned at p, and tells
// how many messages there are, and what the operator hears.
func (b *bench) rotten(p place) (n int, alarms []string) {
	b.t.Helper()
	c := &bench{t: b.t, fs: b.fs.Image(vfs.KeepNone)}
	c.fs.Remove("data/spool/index.snap")
	c.rot(p)
	c.open()
	defer c.s.Close(context.Background())
	return len(c.s.names()), c.alarms
}

// rot turns a bit at p.
func (b *bench) rot(p place) {
	b.t.Helper()
	f, err := b.fs.OpenFile(p.name, os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	octet := make([]byte, 1)
	f.ReadAt(octet, p.off)
	octet[0] ^= 0x20
	f.WriteAt(octet, p.off)
	f.Close()
}

// Seed 16680 of the simulator: what was told last of some recipients had rotted, the
// snapshot of the index spared a start the sight of it, and the message could not be
// read, tried or given up any more. It goes on from what the index knows; what has
// rotted of one recipient is no matter of the others.
func TestRottenStateStopsNoMessage(t *testing.T) {
	for _, part := range []int{0, 1} { // an octet of the header, and one of the meta
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			id := b.add([]byte("x"), "a@x.example", "b@x.example", "c@y.example", "d@held.example")
			due := time.Now().Add(time.Hour)
			b.settle(b.mustClaim(postrider.Attempt, 0, 1), deferred(0, due), failed(1))
			y := deferred(2, due)
			y.Uncertain = "mx.y.example"
			b.settle(b.mustClaim(postrider.Attempt, 2), y)
			b.amend(postrider.Amendment{ID: id, Do: postrider.AmendHold, Rcpts: []int{3}})
			whole, _ := readBody(t, b.s, id)
			var of []place
			for _, p := range places(b.s) {
				if p.kind == kindState {
					of = append(of, p)
				}
			}
			b.rot(of[part])
			for range 2 {
				m, _ := readBody(t, b.s, id)
				r, want := m.Recipients, whole.Recipients
				for i := range r {
					if r[i].State != want[i].State || r[i].Reported != want[i].Reported || r[i].Tries != want[i].Tries || !r[i].Due.Equal(want[i].Due) ||
						r[i].Held != want[i].Held || r[i].Reply != want[i].Reply {
						t.Errorf("recipient %d: %+v, want %+v", i, r[i], want[i])
					}
				}
				if r[2].Uncertain != "mx.y.example" {
					t.Error("what is whole of another recipient was not read")
				}
			}
			if len(b.alarms) != 1 {
				t.Errorf("alarms %q", b.alarms)
			}
			time.Sleep(time.Hour)
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			if m, _ := readBody(t, b.s, id); m.Recipients[0].State != postrider.Delivered || m.Recipients[1].State != postrider.Failed {
				t.Errorf("then %v", m.Recipients)
			}
			b.s.Close(context.Background())
		})
	}
}

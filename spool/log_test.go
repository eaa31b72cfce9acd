package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
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
		at, end := b.s.placeOf(first), b.s.placeOf(second).off
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
		b.s.Close(context.Background())
		b.fs.Remove("data/spool/index.snap") // which would know better
		b.open()
		if m := b.s.Stat().Messages; m != 0 || strings.Contains(fmt.Sprint(b.alarms), "damaged") {
			t.Errorf("%d messages came back, alarms %q", m, b.alarms)
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
		at := b.s.placeOf(id)
		at.seg.f.WriteAt([]byte{0xff, 0xff}, at.off+headerLen+5)
		b.settle(b.mustClaim(postrider.Attempt, 0))
		b.mustClaim(postrider.Attempt, 0)
		b.s.Close(context.Background())
	})
}

// What was settled lazily and could not be made durable is written again.
func TestLazySyncFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example", "b@held.example")
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && op.Name == "data/spool/seg/0000000001.seg" {
				return errors.New("input/output error")
			}
			return nil
		})
		set := postrider.Settlement{Lease: b.mustClaim(postrider.Attempt, 0), Changes: []postrider.Change{delivered(0)}}
		if err := b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{set}, Lazy: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lazySyncTime)
		synctest.Wait()
		if g := b.s.location(b.s.rcpts(b.s.entryOf(id))[0].last).seg; g.n == 1 {
			t.Error("the index points to what was given up")
		}
		dead := b.s
		b.fs = b.fs.Crash(vfs.KeepNone)
		dead.Close(context.Background())
		b.open()
		if m, _ := readBody(t, b.s, id); m.Recipients[0].State != postrider.Delivered {
			t.Errorf("%+v", m.Recipients[0])
		}
		b.s.Close(context.Background())
	})
}

// A group after one that is torn does not count either, and nobody is alarmed.
func TestGroupAfterATornOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@x.example")
		b.add([]byte("y"), "b@y.example")
		var at [3]int64
		for i := range 2 {
			at[i] = b.s.segments[0].end
			l := b.mustClaim(postrider.Attempt, 0)
			set := []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(0)}}}
			if err := b.s.Commit(context.Background(), postrider.Batch{Settle: set, Lazy: true}); err != nil {
				t.Fatal(err)
			}
		}
		f, _ := b.fs.OpenFile("data/spool/seg/0000000001.seg", 2, 0)
		f.WriteAt(make([]byte, at[1]-at[0]), at[0]) // a power cut kept the second alone
		f.Sync()
		dead := b.s
		b.fs = b.fs.Crash(vfs.KeepAll)
		dead.Close(context.Background())
		b.alarms = nil
		b.open()
		if n := b.s.Stat().Recipients; n != 2 || len(b.alarms) > 0 {
			t.Errorf("%d recipients wait, alarms %q", n, b.alarms)
		}
		b.s.Close(context.Background())
	})
}

// A segment that is missing is told to the operator, and to the feed, whether or not
// mail comes.
func TestMissingSegmentIsTold(t *testing.T) {
	for _, mail := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) { missingSegment(t, mail) })
	}
}

func missingSegment(t *testing.T, mail bool) {
	b := newBench(t, vfs.NewMem())
	for range 30 {
		b.add(make([]byte, 1000), "a@held.example")
	}
	b.s.Close(context.Background())
	if err := b.fs.Remove("data/spool/seg/0000000002.seg"); err != nil {
		t.Fatal(err)
	}
	b.open()
	if len(b.alarms) != 1 {
		t.Errorf("alarms %q", b.alarms)
	}
	if mail {
		b.add([]byte("x"), "a@held.example")
	}
	told := 0
	for _, ev := range b.events() {
		if ev.Kind == postrider.EventDamaged {
			told++
		}
	}
	if told != 1 {
		t.Errorf("mail %v: the feed told %d times", mail, told)
	}
	b.s.Close(context.Background())
}

// A content that no message names goes at start.
func TestOrphanedContentGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(large, "a@x.example")
		d, _ := b.s.Create(context.Background(), "")
		d.Write(large)
		b.reopen()
		if list, _ := b.fs.ReadDir("data/spool/big"); len(list) != 1 || list[0].Name() != string(id) {
			t.Errorf("big holds %v", list)
		}
		b.s.Close(context.Background())
	})
}

// After a start every lease says Again: an attempt may have been cut off.
func TestAgainAfterAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@x.example")
		if l := b.mustClaim(postrider.Attempt, 0); l.Again {
			t.Error("the first lease says Again")
		}
		b.reopen()
		if l := b.mustClaim(postrider.Attempt, 0); !l.Again {
			t.Error("the lease after a start does not say Again")
		}
		at, id := b.s.placeOf(b.s.names()[0]).seg, b.s.names()[0]
		b.traffic(time.Minute)
		if b.s.placeOf(id).seg == at {
			t.Fatal("nothing was moved")
		}
		disk := b.fs.Kill()
		disk.Remove("data/spool/index.snap")
		b.next(disk)
		if l := b.mustClaim(postrider.Attempt, 0); !l.Again {
			t.Error("the lease of what was moved does not say Again after a start")
		}
		b.s.Close(context.Background())
	})
}

// A reader of the feed that stops keeps what it has not read, up to the cap; and
// one that reads on loses its place neither with a segment nor in a crash.
func TestFeedKeepsItsPlace(t *testing.T) {
	for _, limit := range []int64{1 << 30, 40 << 10} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			b.s.opt.FeedMax = limit
			turn := func() {
				for range 60 {
					b.add(make([]byte, 1000), "a@x.example")
					b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
				}
				time.Sleep(time.Second)
				synctest.Wait()
			}
			read := func(n int) (lsns []uint64) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				for ev, err := range b.s.Feed(ctx, "log") {
					if err != nil {
						break
					}
					if lsns = append(lsns, ev.LSN); len(lsns) == n {
						break
					}
				}
				return lsns
			}
			b.add([]byte("x"), "a@x.example")
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			in := read(1) // in hand, and not acknowledged
			turn()
			all := read(1000)
			if whole := all[0] == in[0] && len(all) == 61*3; whole != (limit == 1<<30) {
				t.Errorf("cap %d: %d events from %d on, the first was %d", limit, len(all), all[0], in[0])
			}
			if limit != 1<<30 && b.s.Stat().LogBytes > limit+int64(b.s.opt.SegmentSize) {
				t.Errorf("the log has %d octets", b.s.Stat().LogBytes)
			}
			turn()
			hold := func(n int) {
				for range n {
					b.add(make([]byte, 1000), "a@held.example")
				}
			}
			hold(1)
			last := read(1000)
			if last[0] <= all[len(all)-1] {
				t.Errorf("event %d comes again", last[0])
			}
			hold(10) // so that a segment begins with the place of the reader
			dead := b.s
			b.fs = b.fs.Crash(vfs.KeepNone)
			dead.Close(context.Background())
			b.open()
			if next := read(1); next[0] <= last[len(last)-1] {
				t.Errorf("event %d comes again after a crash", next[0])
			}
			b.s.Close(context.Background())
		})
	}
}

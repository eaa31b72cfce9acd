package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A batch that makes no sense is refused before anything is written.
func TestBatchesThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, other := newBench(t, vfs.NewMem()), newBench(t, vfs.NewMem())
		ours, _ := addition(b.s, "", []byte("x"), time.Now(), "a@x.example")
		theirs, _ := addition(other.s, "", []byte("x"), time.Now(), "a@x.example")
		nobody, _ := addition(b.s, "", []byte("x"), time.Now())
		misnamed, _ := addition(b.s, "", []byte("x"), time.Now(), "a@x.example")
		misnamed.Message.ID = ours.Message.ID
		for name, batch := range map[string]postrider.Batch{
			"lazy":     {Add: []postrider.Addition{ours}, Lazy: true},
			"theirs":   {Add: []postrider.Addition{theirs}},
			"nobody":   {Add: []postrider.Addition{nobody}},
			"misnamed": {Add: []postrider.Addition{misnamed}},
		} {
			if err := b.s.Commit(context.Background(), batch); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := b.s.Create(ctx, ""); !errors.Is(err, context.Canceled) {
			t.Errorf("create: %v", err)
		}
		if err := b.s.Commit(ctx, postrider.Batch{}); !errors.Is(err, context.Canceled) {
			t.Errorf("commit: %v", err)
		}
		b.s.Close(context.Background())
		other.s.Close(context.Background())
	})
}

// Segments are smaller on a small file system.
func TestSegmentsFitTheDisk(t *testing.T) {
	for total, want := range map[int64]int64{1 << 40: segmentSize, 256 << 20: 16 << 20, 1 << 20: segmentSizeMin} {
		fsys := vfs.NewMem()
		fsys.SetSpace(vfs.Space{Total: total, Free: total, Inodes: -1})
		s := &Spool{fs: fsys, dir: "data/spool"}
		if s.fitSegments(); s.opt.SegmentSize != want {
			t.Errorf("of %d octets a segment takes %d, want %d", total, s.opt.SegmentSize, want)
		}
	}
}

// Pauses of destinations for which nothing waits do not pile up.
func TestPausesAreSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for i := range 3000 {
			b.s.Pause(postrider.Dest(fmt.Sprint("mx:", i)), time.Now().Add(time.Minute))
			if i == 500 {
				time.Sleep(time.Hour)
			}
		}
		if n := len(b.s.dests); n > 2600 {
			t.Errorf("%d are kept", n)
		}
		b.s.Close(context.Background())
	})
}

// New mail and a settlement that share a group on a full disk: the settlement is
// written, and the mail is refused.
func TestFullDiskPartsAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.fillSegment(1500)
		l := b.mustClaim(postrider.Attempt, 0)
		b.noMoreRoom()
		batches := []postrider.Batch{
			{Amend: []postrider.Amendment{{ID: l.ID, Do: postrider.AmendDue, Due: time.Now()}}},
			{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(0)}}}},
		}
		a, err := addition(b.s, "", bytes.Repeat([]byte("y"), 1900), time.Now(), "b@y.example")
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, postrider.Batch{Add: []postrider.Addition{a}})
		errs := b.inTurn(batches...)
		if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], syscall.ENOSPC) {
			t.Errorf("%v", errs)
		}
		a.Draft.Discard()
		b.fs.SetHook(nil)
		b.s.Close(context.Background())
	})
}

// A snapshot whose segments are of another life is told and left.
func TestSnapshotOfAnotherLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for range 60 {
			b.add(bytes.Repeat([]byte("x"), 600), "a@held.example")
			synctest.Wait()
		}
		b.s.Close(context.Background())
		f, err := b.fs.OpenFile("data/spool/seg/0000000001.seg", 2, 0)
		if err != nil {
			t.Fatal(err)
		}
		g := &segment{n: 1, epoch: 7, first: 1}
		f.WriteAt(g.header(), 0)
		f.Close()
		b.open()
		if len(b.alarms) == 0 {
			t.Error("nobody is told")
		}
		b.s.Close(context.Background())
	})
}

// What was read of a content is another's after Close, and is not given out.
func TestContentEndsWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var ids []postrider.ID
		for _, size := range []int{500, 500, 900, 40 << 10} { // the last is a file
			ids = append(ids, b.add(bytes.Repeat([]byte{'a' + byte(len(ids))}, size), "a@x.example"))
		}
		var open []postrider.Content
		for i := range 40 {
			c, err := b.s.Open(context.Background(), ids[i%len(ids)])
			if err != nil {
				t.Fatal(err)
			}
			r := c.Reader()
			first := make([]byte, 1)
			r.Read(first)
			if open = append(open, c); i%3 == 0 {
				c.Close()
				c.Close() // once more does nothing
				if n, err := r.Read(first); n > 0 || !errors.Is(err, fs.ErrClosed) {
					t.Errorf("after Close it reads %d octets, %v", n, err)
				}
			}
			for k := max(0, i-5); k <= i; k++ {
				if k%3 == 0 {
					continue
				}
				got, err := io.ReadAll(open[k].Reader())
				if want := 'a' + byte(k%len(ids)); err != nil || got[len(got)-1] != want || got[len(got)/2] != want {
					t.Errorf("content %d after %d others: %v", k, i-k, err)
				}
			}
		}
		for _, c := range open {
			c.Close()
		}
		b.s.Close(context.Background())
	})
}

// A tight disk has so many octets left, and segments of 64 KiB.
type tight struct {
	*bench
	left int64
}

func (d *tight) open() {
	d.t.Helper()
	o := testOptions(d.fs)
	o.SegmentSize = 64 << 10
	o.Alarm = func(text string) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.alarms = append(d.alarms, text)
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		d.t.Fatal(err)
	}
	s.Rekey(destOf)
	d.s = s
	d.fs.SetHook(func(op vfs.Op) error {
		if op.Kind != vfs.OpAllocate {
			return nil
		}
		if op.Off > d.left {
			return syscall.ENOSPC
		}
		d.left -= op.Off
		return nil
	})
}

// has lets the disk have so many octets left.
func (d *tight) has(octets int64) {
	d.left = octets
	d.fs.SetSpace(vfs.Space{Total: 1 << 30, Free: octets, Inodes: 5000})
}

// wantRefused wants new mail refused for want of room.
func (d *tight) wantRefused(when string) {
	d.t.Helper()
	a, err := addition(d.s, "", bytes.Repeat([]byte("y"), 1000), time.Now().Add(time.Hour), "late@y.example")
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatalf("mail %s: %v", when, err)
	}
	a.Draft.Discard()
}

// What the spare has become is for what empties the queue: mail that took it too
// would leave nothing to settle it with, and the disk stay full for good. A start that
// finds no spare makes do with what the last segment had left over.
func TestSpareTakesNoMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &tight{bench: &bench{t: t, fs: vfs.NewMem()}, left: 1 << 30}
		d.open()
		for d.s.active == nil || d.s.active.size-d.s.active.end > 2000 {
			d.add(bytes.Repeat([]byte("x"), 500), "a@x.example")
			synctest.Wait()
		}
		d.has(0)
		n := len(d.s.names())
		for !d.s.spent {
			d.settle(d.mustClaim(postrider.Attempt, 0), delivered(0))
			time.Sleep(2 * lazySyncTime)
		}
		for range 100 {
			d.wantRefused("on a full disk whose spare is spent")
		}
		d.settle(d.mustClaim(postrider.Attempt, 0), delivered(0))
		synctest.Wait()
		kept := len(d.s.names())
		if kept == 0 || kept >= n {
			t.Fatalf("%d of %d messages wait", kept, n)
		}
		dead := d.s
		d.fs = d.fs.Kill()
		dead.Close(context.Background())
		d.left = 32 << 10
		d.open()
		for range kept {
			d.settle(d.mustClaim(postrider.Attempt, 0), delivered(0))
		}
		d.wantRefused("on a disk that was full at the start")
		d.has(1 << 29)
		d.add([]byte("with room again"), "a@x.example")
		d.s.Close(context.Background())
	})
}

// What proves the end of the oldest segment takes room, and on a disk that is full to
// the last octet there is none: the segment goes unproven, and makes it.
func TestFullDiskLetsGoUnproven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &tight{bench: &bench{t: t, fs: vfs.NewMem()}, left: 1 << 30}
		d.open()
		for d.s.active == nil || d.s.active.n == 1 {
			d.add(bytes.Repeat([]byte("x"), 500), "a@x.example")
		}
		synctest.Wait()
		d.has(0)
		d.s.spare, d.s.spent = false, true
		for len(d.s.names()) > 0 {
			l := d.mustClaim(postrider.Attempt, 0)
			if len(d.s.names()) == 1 { // room for its end, and for nothing after it
				d.s.active.size = d.s.active.end + 3*headerLen + 185
			}
			d.settle(l, delivered(0))
			synctest.Wait()
		}
		front := func() uint64 {
			d.s.mu.Lock()
			defer d.s.mu.Unlock()
			return d.s.segments[0].n
		}
		if front() != 1 {
			t.Fatal("the segment is gone before what empties it")
		}
		time.Sleep(10 * lazyRetryTime)
		synctest.Wait()
		if n := front(); n == 1 || d.s.owes() {
			t.Errorf("the first segment is %d, owes %v", n, d.s.owes())
		}
		if len(d.alarms) != 1 {
			t.Errorf("the operator heard %q", d.alarms)
		}
		d.s.Close(context.Background())
	})
}

// A spare for which there was no room leaves nothing behind, and a start gives back what
// the last segment had not used: what little is left on a disk is for mail.
func TestRoomIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.s.Close(context.Background())
		b.fs.Remove(b.s.sparePath())
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpAllocate && op.Name == b.s.sparePath() {
				return syscall.ENOSPC
			}
			return nil
		})
		b.open()
		b.add([]byte("x"), "a@held.example")
		if _, err := b.fs.Stat(b.s.sparePath()); err == nil {
			t.Error("a spare without room is there")
		}
		b.next(b.fs.Kill())
		last := b.s.segments[len(b.s.segments)-1]
		if st, err := last.f.Stat(); err != nil || st.Size() != last.end || last.end >= b.s.opt.SegmentSize {
			t.Errorf("%v: the last segment has %d octets, and %d count", err, st.Size(), last.end)
		}
		b.s.Close(context.Background())
	})
}

// No ID is given twice, though the clock is set back and runs over the same time again.
func TestIDsThoughTheClockIsSetBack(t *testing.T) {
	s := &Spool{bootID: "0000000"}
	at := time.Unix(1_700_000_000, 0)
	s.now = func() time.Time { return at }
	seen := map[postrider.ID]bool{}
	for _, step := range []time.Duration{0, 0, time.Millisecond, -time.Millisecond, -time.Hour, 0, time.Hour, time.Millisecond} {
		at = at.Add(step)
		if id := s.newID(); seen[id] {
			t.Errorf("%s is given twice", id)
		} else {
			seen[id] = true
		}
	}
}

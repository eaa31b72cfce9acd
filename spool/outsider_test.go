package spool

import (
	"bytes"
	"context"
	"errors"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// What wrong edits of outsiders would have done, each of which no other test saw.

// The file of a large content that cannot be written is taken away at once: on a full
// disk it would be what fills it.
func TestHalfAFileGoes(t *testing.T) {
	b := newBench(t, vfs.NewMem())
	b.fs.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite {
			return syscall.ENOSPC
		}
		return nil
	})
	d, err := b.s.Create(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write(large); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("written: %v", err)
	}
	b.fs.SetHook(nil)
	d.Discard()
	if list, err := b.fs.ReadDir("data/spool/big"); err != nil || len(list) > 0 {
		t.Errorf("what is left: %v, %v", list, err)
	}
	b.s.Close(context.Background())
}

// A bit that has turned anywhere in a large content is seen by who reads it.
func TestEachBlockIsCompared(t *testing.T) {
	body := sized(5*blockLen + 77)
	for _, wide := range []bool{false, true} { // in a file of its own, and in the log
		for i := range 6 {
			b := &bench{t: t, fs: vfs.NewMem()}
			if wide {
				b.wide(b.fs)
			} else {
				b.open()
			}
			id := b.add(body, "a@held.example")
			name, off := path.Join("data/spool/big", string(id)), int64(i)*blockLen+70
			if wide {
				at := b.s.placeOf(id)
				size := int64(b.s.entryOf(id).recLen) << 3
				name = path.Join("data/spool/seg", segmentName(at.seg.n))
				off += at.off + size - int64(len(body)) - 7
			}
			b.flip(name, off)
			if _, err := b.content(id); !errors.Is(err, ErrDamaged) {
				t.Errorf("block %d, in the log %v: %v", i, wide, err)
			}
			b.s.Close(context.Background())
		}
	}
}

// Mail is due by the clock of the machine. Where that is set forward, who waits
// notices, though no other mail comes.
func TestClockIsSetForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@x.example")
		b.settle(b.mustClaim(postrider.Attempt, 0), deferred(0, time.Now().Add(40*time.Minute)))
		var ahead atomic.Int64
		b.s.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		began, came := time.Now(), make(chan time.Duration)
		go func() {
			if _, err := b.s.Claim(context.Background(), 1); err != nil {
				t.Error(err)
			}
			came <- time.Since(began)
		}()
		synctest.Wait()
		ahead.Store(int64(time.Hour))
		if took := <-came; took > 2*time.Minute {
			t.Errorf("what the clock says is due waited for %v", took)
		}
		b.s.Close(context.Background())
	})
}

// Of a large damaged part in the middle of a segment nothing is left, and of what comes
// after it everything.
func TestScanCrossesAWideHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t}
		b.wide(vfs.NewMem())
		b.add([]byte("before"), "a@held.example")
		var all []postrider.ID
		for range 9 {
			all = append(all, b.add(sized(100<<10), "a@held.example"))
			synctest.Wait()
		}
		from, to := b.s.placeOf(all[1]).off, b.s.placeOf(all[7]).off
		if to-from < 2*windowLen || b.s.placeOf(all[8]).seg != b.s.placeOf(all[0]).seg {
			t.Fatalf("a hole of %d octets: the test has lost its sense", to-from)
		}
		f, err := b.fs.OpenFile(path.Join("data/spool/seg", segmentName(b.s.active.n)), 2, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt(make([]byte, to-from), from)
		f.Close()
		b.s.Close(context.Background())
		b.fs.Remove("data/spool/index.snap")
		b.s = nil
		b.wide(b.fs)
		for i, id := range all {
			if lost := i >= 1 && i < 7; !lost {
				if _, got := readBody(t, b.s, id); !bytes.Equal(got, sized(100<<10)) {
					t.Errorf("message %d: %d octets", i, len(got))
				}
			}
		}
		if n := b.s.Stat().Messages; n != 4 || len(b.alarms) == 0 {
			t.Errorf("%d messages, alarms %q", n, b.alarms)
		}
		b.s.Close(context.Background())
	})
}

// Who stops in good order in the moment after a lazy write has failed loses nothing of
// what it held, though the power goes right after: it is written before.
func TestStopAfterALazyWriteFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example", "b@held.example")
		l := b.mustClaim(postrider.Attempt, 0)
		var failed atomic.Bool // the sync, and what is written again at once
		synced := false
		b.fs.SetHook(func(op vfs.Op) error {
			if failed.Load() || !strings.Contains(op.Name, "/seg") || op.Kind != vfs.OpSync && !(synced && op.Kind == vfs.OpCreate) {
				return nil
			}
			failed.Store(synced)
			synced = true
			return syscall.EIO
		})
		err := b.s.Commit(context.Background(), postrider.Batch{Lazy: true,
			Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(0)}}}})
		if err != nil {
			t.Fatal(err)
		}
		for !failed.Load() {
			time.Sleep(time.Millisecond)
		}
		if err := b.s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		b.fs = b.fs.Crash(vfs.KeepNone)
		b.open()
		if m, _ := readBody(t, b.s, id); m.Recipients[0].State != postrider.Delivered {
			t.Errorf("%+v would be attempted again", m.Recipients[0])
		}
		b.s.Close(context.Background())
	})
}

// What fails can leave the queue of a full disk, its report with it: a report is no
// new mail, for it takes the place of what it is about.
func TestReportsFitAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var leases []postrider.Lease
		for range 20 {
			b.add(make([]byte, 500), "a@x.example")
			leases = append(leases, b.mustClaim(postrider.Attempt, 0))
		}
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpAllocate || op.Kind == vfs.OpCreate && !strings.Contains(op.Name, "spare") {
				return syscall.ENOSPC
			}
			return nil
		})
		b.fs.SetSpace(vfs.Space{Total: 1 << 30, Free: 0, Inodes: 5000})
		b.untilRefused(100)
		for i, l := range leases[:6] {
			report, err := addition(b.s, "", make([]byte, 300), time.Now().Add(time.Hour), "from@held.example")
			if err != nil {
				t.Fatal(err)
			}
			change := failed(0)
			change.Reported = true
			if err := b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{report},
				Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{change}}}}); err != nil {
				t.Errorf("settlement %d with its report: %v", i, err)
			}
		}
		b.fs.SetHook(nil)
		b.s.Close(context.Background())
	})
}

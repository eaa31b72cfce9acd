package spool

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// fill lets mail come and go, as far as the disk takes it, until the segment n is
// removed.
func (b *bench) fill(n uint64) {
	b.t.Helper()
	for range 200 {
		if _, err := b.fs.Stat(path.Join("data/spool/seg", segmentName(n))); err != nil && b.s.nextSegment > n {
			return
		}
		a, err := addition(b.s, "", bytes.Repeat([]byte("0123456789"), 100), time.Now(), "a@x.example")
		if err == nil {
			err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
		}
		if err != nil && a.Draft != nil {
			a.Draft.Discard()
		}
		if l, ok := b.claim(); ok {
			b.s.Commit(context.Background(), postrider.Batch{Lazy: true, Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(0)}}}})
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
	b.t.Errorf("segment %d is not removed", n)
}

// Seed 436 of the simulator: the sync after the removal of a segment fails, and
// the power goes when the next one is gone too. Then the first came back, alone
// in front of a hole, which was told as damage, and its mail with it. Whenever
// the power goes, and whatever it keeps, the log has no hole: when the spool goes
// on, is stopped, or killed after the failure, and when the disk fails again.
func TestCrashAfterRemovalInDoubt(t *testing.T) {
	if testing.Short() {
		t.Skip("is a crash test")
	}
	for _, then := range []string{"it goes on", "it is stopped", "it is killed"} {
		for _, fails := range []int{1, 2, 4} {
			synctest.Test(t, func(t *testing.T) {
				how := fmt.Sprintf("%d syncs fail, and %s", fails, then)
				w := &removalWatch{bench: newBench(t, vfs.NewMem()), fails: fails, rng: rand.New(rand.NewPCG(uint64(fails), 7))}
				w.fs.SetHook(w.hook)
				w.fill(2)
				switch then {
				case "it is stopped":
					w.reopen()
				case "it is killed":
					old := w.s
					w.fs = w.fs.Kill()
					old.Close(context.Background())
					w.fs.SetHook(w.hook)
					w.open()
				}
				w.fill(4)
				w.fs.SetHook(nil)
				w.s.Close(context.Background())
				if w.failed < fails || len(w.images) < 50 || strings.Contains(fmt.Sprint(w.alarms), "damaged") {
					t.Fatalf("%s: %d failures, %d images, alarms %q", how, w.failed, len(w.images), w.alarms)
				}
				for i, disk := range w.images {
					b := &bench{t: t, fs: disk, opened: 1 << 30}
					b.open()
					if m := b.s.Stat().Messages; m > 1 || len(b.alarms) > 0 {
						t.Fatalf("%s: image %d: %d messages, alarms %q", how, i, m, b.alarms)
					}
					b.s.Close(context.Background())
				}
			})
		}
	}
}

// A removalWatch makes syncs of the folder fail once the second segment is
// removed, and keeps what power cuts from then on may leave.
type removalWatch struct {
	*bench
	fails int

	mu     sync.Mutex // guards what follows
	rng    *rand.Rand
	begun  bool
	failed int
	images []*vfs.Mem
}

func (w *removalWatch) hook(op vfs.Op) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !op.Kind.Changes() || !w.begun && !(op.Kind == vfs.OpRemove && path.Base(op.Name) == segmentName(2)) {
		return nil
	}
	w.begun = true
	for _, p := range []float64{0, 0, 0.2, 0.5, 0.8, 1} {
		disk := w.fs.Image(vfs.KeepSome(w.rng, p))
		disk.Remove("data/spool/index.snap") // which would know better
		w.images = append(w.images, disk)
	}
	if op.Kind != vfs.OpSyncDir || path.Base(op.Name) != "seg" || w.failed == w.fails {
		return nil
	}
	w.failed++
	return syscall.EIO
}

// A segment gives its space back in pieces when its name is gone for sure, and all
// at once while somebody reads it.
func TestSegmentIsFreedInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var mu sync.Mutex
		last, cuts := vfs.OpKind(0), 0
		b.fs.SetHook(func(op vfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if op.Kind == vfs.OpTruncate && strings.HasSuffix(op.Name, ".seg") {
				if cuts++; last != vfs.OpSyncDir && last != vfs.OpTruncate {
					t.Errorf("a piece of %s goes after %v", op.Name, last)
				}
			}
			if op.Kind == vfs.OpRemove || op.Kind == vfs.OpTruncate || op.Kind == vfs.OpSyncDir {
				last = op.Kind
			}
			return nil
		})
		b.fill(1)
		mu.Lock()
		if cuts < freeSteps-1 {
			t.Errorf("%d cuts, want %d", cuts, freeSteps-1)
		}
		cuts = 0
		mu.Unlock()
		b.s.mu.Lock()
		g := b.s.segments[0]
		g.hold()
		b.s.mu.Unlock()
		b.fill(g.n)
		mu.Lock()
		if cuts != 0 {
			t.Errorf("%d pieces of a segment that is read", cuts)
		}
		mu.Unlock()
		if _, err := g.f.ReadAt(make([]byte, segmentHeaderLen), 0); err != nil {
			t.Errorf("read a segment that is gone: %v", err)
		}
		b.s.dropSegments([]*segment{g})
		b.fs.SetHook(nil)
		b.s.Close(context.Background())
	})
}

// The sync after the removal of the first segment fails, and the process is killed over it.
// The next one does not know of that, and makes sure of it all the same before the second
// goes: after a power cut the log has no hole.
func TestDoubtOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var mu sync.Mutex
		removed, failed := false, false
		b.fs.SetHook(func(op vfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			removed = removed || op.Kind == vfs.OpRemove && path.Base(op.Name) == segmentName(1)
			if removed && op.Kind == vfs.OpSyncDir && path.Base(op.Name) == "seg" {
				failed = true
				return syscall.EIO
			}
			return nil
		})
		b.fill(1)
		if !failed || b.s.segments[0].n != 2 {
			t.Fatalf("the log begins with segment %d: the test has lost its sense", b.s.segments[0].n)
		}
		b.next(b.fs.Kill())
		b.fill(2)
		disk := b.fs.Crash(vfs.KeepNone)
		disk.Remove("data/spool/index.snap") // which would know better
		b.next(disk)
		if n := b.s.segments[0].n; len(b.alarms) > 0 || n < 3 {
			t.Errorf("the log begins with segment %d, alarms %q", n, b.alarms)
		}
		b.s.Close(context.Background())
	})
}

package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// used is how many octets the files of a spool take.
func used(t *testing.T, disk *vfs.Mem) (n int64) {
	t.Helper()
	for _, dir := range []string{"data/spool", "data/spool/seg", "data/spool/big"} {
		list, err := disk.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, de := range list {
			if info, err := disk.Stat(dir + "/" + de.Name()); err == nil && !info.IsDir() {
				n += info.Size()
			}
		}
	}
	return n
}

// Whatever comes, goes and stays, the disk holds no more than twice what lives and
// a constant, which is 256 MiB at the sizes of a large disk and 1/256 of that here:
// the segment that is written, the one that is moved and the spare are 64 MiB each
// there, and the slack is 32.
func TestDiskSpaceIsBounded(t *testing.T) {
	for name, stays := range map[string]func(i int, rnd *rand.Rand) bool{
		"one in ten stays":                   func(_ int, rnd *rand.Rand) bool { return rnd.IntN(10) == 0 },
		"one in two stays":                   func(_ int, rnd *rand.Rand) bool { return rnd.IntN(2) == 0 },
		"all stays, then nothing":            func(i int, _ *rand.Rand) bool { return i < 1500 },
		"nothing stays, then all, then half": func(i int, rnd *rand.Rand) bool { return i > 1000 && (i < 2000 || rnd.IntN(2) == 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const unit = 64 << 20 / 256
				disk := vfs.NewMem()
				o := testOptions(disk)
				o.SegmentSize, o.SmallMax, o.Slack, o.SnapshotEvery, o.MinFree = unit, 64<<10, unit/2, unit, 1
				s, err := Open(context.Background(), o)
				if err != nil {
					t.Fatal(err)
				}
				s.Rekey(destOf)
				b := &bench{t: t, fs: disk, s: s}
				rnd := rand.New(rand.NewPCG(3, 4))
				worst := int64(0)
				for i := range 4000 {
					to := "a@x.example"
					if stays(i, rnd) {
						to = "a@held.example"
					}
					b.add(make([]byte, rnd.IntN(4000)), to)
					if l, ok := b.claim(); ok {
						b.settle(l, delivered(0))
					}
					if i%20 == 0 {
						time.Sleep(2 * lazySyncTime)
						synctest.Wait()
						worst = max(worst, used(t, disk)-2*s.Stat().LiveBytes)
					}
				}
				t.Logf("at most twice what lives and %d of %d octets", worst, 4*unit)
				if worst > 4*unit {
					t.Errorf("twice what lives and %d octets, want at most %d more", worst, 4*unit)
				}
				s.Close(context.Background())
			})
		})
	}
}

// While live messages are moved, they go with the groups that are synced anyway, and
// each goes with little beside it.
func TestMovesShareTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for range 40 {
			b.add(make([]byte, 1000), "a@held.example")
		}
		for range 40 { // what goes, so that the log is too long
			b.add(make([]byte, 1000), "a@x.example")
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		}
		synctest.Wait()
		var syncs atomic.Int64 // the snapshot has a goroutine of its own
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				syncs.Add(1)
			}
			return nil
		})
		before := b.s.nextSegment
		moved, at := 0, map[postrider.ID]location{}
		for range 30 {
			for _, id := range b.s.names() {
				at[id] = b.s.placeOf(id)
			}
			id := b.add(make([]byte, 100), "a@held.example")
			b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDrop})
			for _, id := range b.s.names() {
				if was, ok := at[id]; ok && was != b.s.placeOf(id) {
					moved++
				}
			}
		}
		synctest.Wait()
		b.fs.SetHook(nil)
		if turned := int(b.s.nextSegment - before); moved == 0 || syncs.Load() > int64(60+2*turned+turned) {
			t.Errorf("%d messages moved, %d syncs for 60 batches and %d segments", moved, syncs.Load(), turned)
		}
		b.s.Close(context.Background())
	})
}

// Seed 450 of the simulator: a bit of a waiting content had turned, its message was
// moved, and the power went before another group was written. The start took the
// whole group for torn, by its content, and what had moved beside was in no other
// place any more; neither was new mail of that group, which had been acknowledged.
func TestMoveLeavesADamagedBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		mark := []byte("what will rot")
		rotten := b.add(bytes.Repeat(mark, 80), "a@held.example")
		kept := []postrider.ID{rotten}
		for range 10 {
			kept = append(kept, b.add(make([]byte, 1000), "a@held.example"))
		}
		name := path.Join("data/spool/seg", segmentName(b.s.placeOf(rotten).seg.n))
		octets, err := vfs.ReadFile(b.fs, name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := b.fs.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt([]byte("W"), int64(bytes.Index(octets, mark)))
		f.Sync()
		f.Close()
		cut := func(kept ...postrider.ID) {
			synctest.Wait()
			after := &bench{t: t, fs: b.fs.Image(vfs.KeepNone), opened: 1 << 30}
			after.open()
			for _, id := range kept {
				if !slices.Contains(after.s.names(), id) {
					t.Fatalf("a power cut loses message %s: %q", id, after.alarms)
				}
			}
			after.s.Close(context.Background())
		}
		for range 60 { // what goes, so that the log is too long, and after each group a power cut
			last := b.add(make([]byte, 1000), "a@x.example")
			cut(append(kept[:len(kept):len(kept)], last)...)
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			cut(kept...)
			time.Sleep(2 * lazySyncTime)
			cut(kept...)
		}
		if _, err := b.fs.Stat(name); err == nil {
			t.Fatal("the segment is not moved")
		}
		c, err := b.s.Open(context.Background(), rotten)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c.Reader()); !errors.Is(err, ErrDamaged) {
			t.Errorf("what has rotted reads as %v", err)
		}
		c.Close()
		left, err := vfs.ReadFile(b.fs, path.Join("data/spool/damaged", path.Base(name)))
		if err != nil || len(left) < len(octets) || !bytes.Contains(left, mark) || !strings.Contains(strings.Join(b.alarms, "\n"), "is damaged in") {
			t.Errorf("no copy of what has rotted is kept: %v, %d octets; told %q", err, len(left), b.alarms)
		}
		b.s.Close(context.Background())
	})
}

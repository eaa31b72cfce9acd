package spool

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A batch is what is there at once; the next one acknowledges it, and not before.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for range 3 {
			b.add([]byte("x"), "a@x.example", "b@x.example")
		}
		for range 3 {
			b.settle(b.mustClaim(postrider.Attempt, 0, 1), delivered(0), delivered(1))
		}
		time.Sleep(100 * time.Millisecond) // the lazy sync comes
		read := func(n int) (batches [][]postrider.Event, end error) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			for evs, err := range b.s.Batches(ctx, "journal") {
				if err != nil {
					return batches, err
				}
				if batches = append(batches, evs); len(batches) == n {
					break
				}
			}
			return batches, nil
		}
		first, _ := read(1)
		if len(first) != 1 || len(first[0]) != 3+3*3 {
			t.Fatalf("the first batch: %v", first)
		}
		again, end := read(2) // it was not acknowledged
		if len(again) != 1 || fmt.Sprint(again[0]) != fmt.Sprint(first[0]) || !errors.Is(end, context.DeadlineExceeded) {
			t.Fatalf("again %v, %v", again, end)
		}
		b.add([]byte("y"), "c@held.example")
		next, _ := read(1)
		if len(next) != 1 || len(next[0]) != 1 || next[0][0].Kind != postrider.EventAccepted {
			t.Fatalf("then %v", next)
		}
		b.s.Close(context.Background())
	})
}

// A batch that is full holds all events of its last record.
func TestBatchHoldsWholeRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for range 4 {
			b.add([]byte("x"), "a@x.example", "b@x.example")
			b.settle(b.mustClaim(postrider.Attempt, 0, 1), delivered(0), delivered(1))
		}
		time.Sleep(100 * time.Millisecond)
		f := &follower{s: b.s}
		defer f.close()
		var sizes []int
		for {
			evs, _, err := f.batch(2)
			if err != nil {
				t.Fatal(err)
			}
			if len(evs) == 0 {
				break
			}
			sizes = append(sizes, len(evs))
		}
		if fmt.Sprint(sizes) != "[4 4 4 4]" {
			t.Errorf("batches of %v events", sizes)
		}
		f.close()
		b.s.Close(context.Background())
	})
}

// On a read-only spool the feed ends, with what the reader had not yet read.
func TestBatchesReadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@held.example")
		for range b.s.Batches(context.Background(), "journal") {
			b.add([]byte("x"), "b@held.example")
			break
		}
		o := testOptions(b.fs)
		o.ReadOnly = true
		s, err := Open(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			n := 0
			for evs, err := range s.Batches(context.Background(), fmt.Sprint("reader", i)) {
				if err != nil {
					t.Fatal(err)
				}
				n += len(evs)
			}
			if n != 2 {
				t.Errorf("%d events", n)
			}
		}
		s.Close(context.Background())
		b.s.Close(context.Background())
	})
}

// The end of the log may be lost that a reader of the feed had read already, and what
// comes then has the numbers of it: the reader is told of that, and misses nothing.
func TestFeedAfterTheEndOfTheLogWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@held.example")
		if evs := b.events(); evs[0].Kind != postrider.EventAccepted {
			t.Fatalf("%+v", evs)
		}
		b.s.mu.Lock()
		b.s.readers["events"].lsn += 100 // of which the log that is left knows nothing
		b.s.mu.Unlock()
		b.reopen()
		id := b.add([]byte("y"), "a@held.example")
		if evs := b.events(); evs[0].ID != id {
			t.Errorf("then it hears %+v", evs)
		}
		b.s.Close(context.Background())
	})
}

// Two readers of one name would each take what the other acknowledges: the second is
// refused while the first reads, and no longer.
func TestFeedHasOneReaderOfAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@held.example")
		second := func() (ev postrider.Event, err error) {
			for ev, err = range b.s.Feed(context.Background(), "log") {
				break
			}
			return ev, err
		}
		for ev, err := range b.s.Feed(context.Background(), "log") {
			if err != nil {
				t.Fatal(err)
			}
			if again, err := second(); err == nil {
				t.Errorf("with %d in the hands of one, another has %d", ev.LSN, again.LSN)
			}
			break
		}
		if _, err := second(); err != nil {
			t.Errorf("when nobody reads: %v", err)
		}
		b.s.Close(context.Background())
	})
}

// Who keeps up with the feed hears nothing of mail that was refused, as the disk had not
// taken it, and all of what came after.
func TestFeedTellsNothingOfWhatWasRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		ctx, cancel := context.WithCancel(context.Background())
		var heard []postrider.ID
		end := make(chan bool)
		go func() {
			defer close(end)
			for ev, err := range b.s.Feed(ctx, "log") {
				if err == nil {
					heard = append(heard, ev.ID)
				}
			}
		}()
		first := b.add([]byte("x"), "a@held.example")
		synctest.Wait()
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				return syscall.EIO
			}
			return nil
		})
		a, err := addition(b.s, "", []byte("y"), time.Now(), "b@held.example")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.s.Commit(ctx, postrider.Batch{Add: []postrider.Addition{a}}); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		b.fs.SetHook(nil)
		last := b.add([]byte("z"), "c@held.example")
		time.Sleep(time.Second)
		cancel()
		<-end
		if fmt.Sprint(heard) != fmt.Sprint([]postrider.ID{first, last}) {
			t.Errorf("it hears of %v, where %s and %s were taken and %s was not", heard, first, last, a.Message.ID)
		}
		b.s.Close(context.Background())
	})
}

// A reader of the feed that has read a part of the oldest segment keeps the rest of it,
// though all mail of it is over.
func TestFeedKeepsHalfASegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var ids []postrider.ID
		deliver := func(n int) {
			for range n {
				ids = append(ids, b.add(make([]byte, 1000), "a@x.example"))
				b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		var heard []postrider.ID
		read := func(most int) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			for ev, err := range b.s.Feed(ctx, "log") {
				if err != nil || most == 0 { // what is in hand then is told again
					break
				}
				if most--; ev.Kind == postrider.EventAccepted {
					heard = append(heard, ev.ID)
				}
			}
		}
		deliver(4)
		read(4)
		deliver(60)
		read(1000)
		if fmt.Sprint(heard) != fmt.Sprint(ids) {
			t.Errorf("%d messages are told of, of %d", len(heard), len(ids))
		}
		b.s.Close(context.Background())
	})
}

// A reader of the feed has its place in the log written now and then, in the middle of
// a long segment too: a start after a crash tells it little again.
func TestFeedPlaceInALongSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, fs: vfs.NewMem()}
		b.wide(b.fs)
		for range cursorLag {
			b.add([]byte("x"), "a@held.example")
		}
		b.events()
		b.add([]byte("its place goes with this"), "a@held.example")
		read := b.s.readers["events"].lsn
		b.wide(b.fs.Crash(vfs.KeepNone))
		if evs := b.events(); evs[0].LSN <= read {
			t.Errorf("it is told of %d again, and had read up to %d", evs[0].LSN, read)
		}
		b.s.Close(context.Background())
	})
}

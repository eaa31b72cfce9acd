package spool

import (
	"context"
	"errors"
	"fmt"
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

package journal

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// What wrong edits of outsiders would have done, each of which no other test saw.

// Where all files together are too large, no more of them go than must.
func TestNoMoreGoesThanMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		const days = 8
		for n := range days {
			for k := range 20 { // the data is larger than its index
				b.run(life(100*n+k, uint64(1+10*(20*n+k)), time.Now()))
			}
			time.Sleep(24 * time.Hour)
		}
		var total int64
		for _, d := range b.j.files {
			total += d.size + d.idx
		}
		files := len(b.j.files)
		for left := files; left > 2; left-- {
			oldest := b.j.files[0]
			total -= oldest.size + oldest.idx
			b.j.opt.MaxSize = total
			b.j.expire()
			if len(b.j.files) != left-1 {
				t.Fatalf("%d of %d files are left where one was too much", len(b.j.files), left)
			}
		}
		b.close()
	})
}

// The story of a message begins with its arrival, however long it was in the queue and
// however few messages are asked for.
func TestStoryOfDaysIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		all := life(1, 1, time.Now())
		for i, ev := range all {
			if ev.Kind != postrider.EventAccepted {
				time.Sleep(20 * time.Hour)
			}
			ev.LSN, ev.Time = uint64(1+i), time.Now()
			b.run([]postrider.Event{ev})
		}
		if n := len(b.j.files); n < 4 {
			t.Fatalf("%d files: the test has lost its sense", n)
		}
		for _, limit := range []int{1, 2, 0} {
			got := where(t, b.j, "sender@example.org", limit)
			if len(got) != 1 || len(got[0]) != len(all) || got[0][0].Kind != postrider.EventAccepted {
				t.Errorf("limit %d: %d messages, %d of %d events", limit, len(got), len(got[0]), len(all))
			}
		}
		b.close()
	})
}

// What a crash has left behind a torn place is cut off, and written when the feed tells
// it again.
func TestBehindATornPlaceIsToldAgain(t *testing.T) {
	disk := vfs.NewMem()
	b := newBench(t, disk)
	b.j.opt.PartSize = 1 << 20
	at := time.Now()
	b.run(life(1, 1, at))
	name, torn := b.j.dataName(b.j.files[0]), b.j.size
	later := append(life(2, 11, at), life(3, 21, at)...)
	b.run(later)
	b.close()
	f, err := disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt(make([]byte, 40), torn)
	f.Close()
	b = newBench(t, disk)
	if n := len(where(t, b.j, "sender@example.org", 0)); n != 1 {
		t.Errorf("%d messages are known after the crash", n)
	}
	b.run(later)
	got := where(t, b.j, "sender@example.org", 0)
	if len(got) != 3 {
		t.Fatalf("%d messages are known when they were told again", len(got))
	}
	for _, evs := range got {
		if len(evs) != len(life(1, 1, at)) {
			t.Errorf("%s: %d events", evs[0].ID, len(evs))
		}
	}
	b.close()
}

package journal

import (
	"context"
	"math"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// A start takes away what a crash has left of indexes: those that were half written, and
// those whose day is gone. Nothing else would, and they would take room for ever. Who
// only reads leaves them.
func TestLeftOfIndexesGoes(t *testing.T) {
	b := newBench(t, vfs.NewMem())
	b.run(life(1, 1, time.Now()))
	b.close()
	left := []string{"data/journal/2001-02-03.idx.tmp", "data/journal/2001-02-03.idx", "data/journal/2001-02-03.0001.idx"}
	for _, name := range left {
		f, err := b.fs.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	b.open(true).Close()
	for _, name := range left {
		if _, err := b.fs.Stat(name); err != nil {
			t.Errorf("who only reads has removed it: %v", err)
		}
	}
	b.j = b.open(false)
	for _, name := range left {
		if _, err := b.fs.Stat(name); err == nil {
			t.Errorf("%s is left", name)
		}
	}
	if got := where(t, b.j, "sender@example.org", 0); len(got) != 1 {
		t.Errorf("%d messages are known", len(got))
	}
	b.close()
}

// days makes a journal of several days, with one message each.
func days(t *testing.T, n int) *bench {
	b := newBench(t, vfs.NewMem())
	for i := range n {
		b.run(life(i, uint64(1+10*i), time.Now()))
		time.Sleep(24 * time.Hour)
	}
	return b
}

// A day may be over, and its file be removed, while somebody looks for what was in it: he
// is told of all the others.
func TestDayEndsWhileItIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := days(t, 4)
		look := b.open(true)
		b.j.opt.Keep = 3 * 24 * time.Hour
		b.j.expire()
		if len(b.j.files) != 3 || len(look.files) != 4 {
			t.Fatalf("%d files of %d", len(b.j.files), len(look.files))
		}
		if got := where(t, look, "sender@example.org", 0); len(got) != 3 {
			t.Errorf("%d messages are found", len(got))
		}
		look.Close()
		b.close()
	})
}

// An octet rots in what an index says of itself: it is made anew, and what it was to find
// is found.
func TestHeadOfAnIndexRots(t *testing.T) {
	for _, off := range []int64{3, 9, 16, 25} { // of its magic, of the length of the file, of the number of entries, of the checksum
		synctest.Test(t, func(t *testing.T) {
			b := days(t, 3)
			flip(t, b.fs, b.j.indexName(b.j.files[0]), off)
			for range 2 {
				if got := where(t, b.j, "sender@example.org", 0); len(got) != 3 {
					t.Errorf("octet %d: %d messages are found", off, len(got))
				}
			}
			b.close()
		})
	}
}

// However large a file is wished for, an index can name every place in it.
func TestPartsFitTheIndex(t *testing.T) {
	j, err := Open(context.Background(), Options{FS: vfs.NewMem(), Dir: "data/journal", PartSize: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if last := j.opt.PartSize + payloadMax + writeMax; last > math.MaxUint32 {
		t.Errorf("a record may begin at octet %d", last)
	}
}

// Days that are over go while nothing comes, too, and at once when Run begins: what is kept
// of people is kept no longer than was said.
func TestOldDaysGoWhileNothingComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := days(t, 6)
		b.j.opt.Keep = 3 * 24 * time.Hour
		ctx, cancel := context.WithCancel(context.Background())
		end := make(chan error, 1)
		go func() {
			end <- b.j.Run(ctx, func(func([]postrider.Event, error) bool) { <-ctx.Done() })
		}()
		for _, want := range []int{3, 1} { // of six days, the last of which has ended; and the last file always stays
			synctest.Wait()
			if got := where(t, b.j, "sender@example.org", 0); len(got) != want {
				t.Errorf("%d days are kept, want %d", len(got), want)
			}
			time.Sleep(4 * 24 * time.Hour)
		}
		cancel()
		if err := <-end; err != nil {
			t.Error(err)
		}
		b.close()
	})
}

// The feed ends, as it does when the server stops in good order, while a refusal waits to
// be written: it is written. Which of the two is seen first is left to chance, so it is
// tried some times.
func TestRefusedAsTheFeedEnds(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			b := newBench(t, disk)
			b.run(life(1, 1, time.Now()))
			time.Sleep(24 * time.Hour)
			b.run(life(2, 11, time.Now()))
			b.j.opt.Keep = time.Hour
			b.j.Refuse(postrider.Event{From: addr("spam@z.example"), Reply: smtp.Reply{Code: 550, Text: "no"}})
			disk.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpRemove {
					time.Sleep(time.Second) // the feed has ended when Run comes to look
				}
				return nil
			})
			time.Sleep(24 * time.Hour)
			b.run()
			if got := where(t, b.j, "spam@z.example", 0); len(got) != 1 || len(b.j.files) != 2 {
				t.Errorf("%d refusals are known, %d files", len(got), len(b.j.files))
			}
			b.close()
		})
	}
}

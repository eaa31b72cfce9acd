package journal

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

const (
	partLives    = 100 // with partRefusals more than two writes
	partRefusals = 1000
)

// parts makes the events of partLives messages, and refuses partRefusals.
func (b *bench) parts() (all []postrider.Event) {
	for n := range partLives {
		all = append(all, life(n, uint64(1+10*n), time.Now())...)
	}
	for n := range partRefusals {
		b.j.Refuse(postrider.Event{From: addr("spam@z.example"), Tos: []smtp.Path{addr("bob@x.example")}, Time: time.Now(),
			Reply: smtp.Reply{Code: 550, Text: fmt.Sprintf("%d %s", n, strings.Repeat("no ", 200))}})
	}
	return all
}

// records counts what is in the files, whether Where would leave it out or not.
func (b *bench) records() (n int) {
	b.t.Helper()
	for _, d := range b.j.files {
		f, err := b.fs.OpenFile(b.j.dataName(d), 0, 0)
		if err != nil {
			b.t.Fatal(err)
		}
		sc := &scanner{f: f, size: d.size}
		for {
			if _, err = sc.next(); err != nil {
				break
			}
			n++
		}
		if f.Close(); err != io.EOF {
			b.t.Fatal(err)
		}
	}
	return n
}

// A batch takes several syncs, and one of them fails: what the others made durable
// is not written again, and all is there once. A refusal has no place in the feed
// by which it would be known.
func TestPartOfABatchFails(t *testing.T) {
	for fails := 1; fails <= 3; fails++ {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			b := newBench(t, disk)
			syncs := 0
			disk.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".jnl") {
					if syncs++; syncs == fails {
						return errDisk
					}
				}
				return nil
			})
			all := b.parts()
			b.run(all)
			if syncs < 4 {
				t.Fatal("the test has lost its sense")
			}
			if len(b.alarms) != 2 {
				t.Errorf("alarms %q", b.alarms)
			}
			b.once(fmt.Sprintf("sync %d failed", fails), all)
			for _, keep := range []vfs.Keep{vfs.KeepNone, vfs.KeepAll} {
				after := newBench(t, disk.Image(keep))
				after.once(fmt.Sprintf("sync %d failed, and a power cut", fails), all)
				after.close()
			}
			b.run(all) // and is known when it is told again
			b.once(fmt.Sprintf("sync %d failed, told again", fails), all)
			b.close()
		})
	}
}

// once checks that what parts made is there once.
func (b *bench) once(when string, all []postrider.Event) {
	b.t.Helper()
	for n, evs := range where(b.t, b.j, "sender@example.org", 2*partLives) {
		same(b.t, when, evs, all[6*n:6*n+6])
	}
	seen := map[string]int{}
	for _, evs := range where(b.t, b.j, "bob@x.example", 3*partRefusals) {
		seen[evs[0].Reply.Text]++
	}
	for _, n := range seen {
		if n > 1 {
			b.t.Errorf("%s: a refusal is there %d times", when, n)
			break
		}
	}
	if n := b.records(); n != len(all)+partRefusals || len(seen) != partRefusals {
		b.t.Errorf("%s: %d records of %d, %d of %d refusals", when, n, len(all)+partRefusals, len(seen), partRefusals)
	}
}

// Run ends while a part of a batch is not durable: the next one knows those that are.
func TestRunEndsInABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		b := newBench(t, disk)
		var all []postrider.Event
		for n := range 8 * partLives {
			all = append(all, life(n, uint64(1+10*n), time.Now())...)
		}
		syncs := 0
		var mended atomic.Bool
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".jnl") && !mended.Load() {
				if syncs++; syncs > 1 {
					return errDisk
				}
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.j.Run(ctx, batches(all)); err != nil {
			t.Error(err)
		}
		some := b.records()
		if some == 0 || some == len(all) {
			t.Fatal("the test has lost its sense")
		}
		mended.Store(true)
		b.run(all)
		if n := b.records(); n != len(all) {
			t.Errorf("%d records of %d, after %d", n, len(all), some)
		}
		b.close()
	})
}

package spool

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// wide opens a spool whose records may be larger than a block of checksums, and
// than what is read at once.
func (b *bench) wide(disk *vfs.Mem) {
	b.t.Helper()
	if b.s != nil {
		b.s.Close(context.Background())
	}
	o := testOptions(disk)
	b.opened++
	o.SegmentSize, o.SmallMax, o.Slack, o.Rand = 4<<20, 1<<20, 4<<20, rand.New(rand.NewPCG(1, b.opened))
	o.Alarm = func(text string) { b.alarms = append(b.alarms, text) }
	s, err := Open(context.Background(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.fs, b.s = disk, s
	s.Rekey(destOf)
}

// sized is a content of so many octets, no two places of which are alike.
func sized(n int) []byte {
	body, rng := make([]byte, n), rand.New(rand.NewPCG(7, uint64(n)))
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	return body
}

// sizes are around one block of checksums, two, and what is read at once.
var sizes = []int{1, blockLen - 1, blockLen + 1, 2*blockLen + 1, 5*blockLen + 77}

// A start after a failed sync and a kill writes again all of what it takes, however
// large: a power cut then leaves each octet.
func TestLargeGroupIsWrittenAgain(t *testing.T) {
	for _, n := range sizes {
		synctest.Test(t, func(t *testing.T) {
			b, body := &bench{t: t}, sized(n)
			b.wide(vfs.NewMem())
			b.add([]byte("first"), "a@held.example")
			b.fs.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSync {
					return syscall.EIO
				}
				return nil
			})
			a, err := addition(b.s, "", body, time.Now(), "a@held.example")
			if err == nil {
				err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
			}
			if !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			b.wide(b.fs.Kill())
			b.add([]byte("third"), "a@held.example")
			b.wide(b.fs.Crash(vfs.KeepNone))
			if _, got := readBody(t, b.s, a.Message.ID); !bytes.Equal(got, body) || b.alarmed("damaged") {
				t.Errorf("%d octets: the content is another, alarms %q", n, b.alarms)
			}
			b.s.Close(context.Background())
		})
	}
}

// The power goes while a message is written, and any one sector of it is not on the
// disk: it was not acknowledged, and is there whole or not at all.
func TestTornAtAnySector(t *testing.T) {
	for _, n := range sizes {
		synctest.Test(t, func(t *testing.T) {
			b, body := &bench{t: t}, sized(n)
			b.wide(vfs.NewMem())
			kept := b.add([]byte("first"), "a@held.example")
			b.fs.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpSync {
					return vfs.ErrCrash
				}
				return nil
			})
			a, err := addition(b.s, "", body, time.Now(), "a@held.example")
			if err == nil {
				err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
			}
			if err == nil {
				t.Fatal("committed")
			}
			chances := 0
			b.fs.Image(func(vfs.Chance) bool { chances++; return true })
			for lost := 0; lost < chances; lost += 1 + chances/16 {
				i := -1
				after := &bench{t: t}
				after.wide(b.fs.Image(func(vfs.Chance) bool { i++; return i != lost }))
				readBody(t, after.s, kept)
				if after.s.entryOf(a.Message.ID) != nil {
					if _, got := readBody(t, after.s, a.Message.ID); !bytes.Equal(got, body) {
						t.Errorf("%d octets, without piece %d of %d: the content is another", n, lost, chances)
					}
				}
				if len(after.alarms) > 0 {
					t.Errorf("%d octets, without piece %d: %q", n, lost, after.alarms)
				}
				after.s.Close(context.Background())
			}
			b.s.Close(context.Background())
		})
	}
}

// Lazy settlements that were lost with their segment are written again until they
// are durable, all of them and for all recipients, however often that fails.
func TestLazyFailsAgainAndAgain(t *testing.T) {
	const many = 12
	for fails := 1; fails <= 4; fails++ {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			var ids []postrider.ID
			for range many {
				ids = append(ids, b.add([]byte("x"), "a@x.example", "b@x.example", "c@held.example"))
			}
			for range many { // no addition syncs what is lazy
				b.settle(b.mustClaim(postrider.Attempt, 0, 1), delivered(0), delivered(1))
			}
			first := b.s.active.n
			var left atomic.Int64
			left.Store(int64(fails))
			b.fs.SetHook(func(op vfs.Op) error {
				lazy := op.Kind == vfs.OpSync && kindOfName(op.Name) == "seg" && left.Load() == int64(fails) ||
					op.Kind == vfs.OpWrite && kindOfName(op.Name) == "seg" && op.Off > 0 && left.Load() < int64(fails)
				if lazy && left.Add(-1) >= 0 {
					return syscall.EIO
				}
				return nil
			})
			time.Sleep(time.Duration(fails+2) * 2 * max(lazyRetryTime, lazySyncTime))
			synctest.Wait()
			if left.Load() >= 0 && fails > 1 || b.s.active == nil || b.s.active.n == first {
				t.Fatalf("the test has lost its sense: %d left of %d", left.Load(), fails)
			}
			for _, id := range ids {
				for i, r := range b.s.rcpts(b.s.entryOf(id))[:2] {
					if g := b.s.location(r.last).seg; g == nil || g.n == first {
						t.Errorf("the state of recipient %d is looked for in what was given up", i)
					}
				}
			}
			dead := b.s
			b.fs = b.fs.Crash(vfs.KeepNone)
			dead.Close(context.Background())
			b.open()
			for _, id := range ids {
				m, _ := readBody(t, b.s, id)
				for i := range 2 {
					if m.Recipients[i].State != postrider.Delivered {
						t.Errorf("after %d failures message %s would go to recipient %d again", fails, id, i)
					}
				}
			}
			b.s.Close(context.Background())
		})
	}
}

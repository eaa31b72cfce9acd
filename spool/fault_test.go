package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

func TestSyncErrorLosesNothingAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		first := b.add([]byte("first"), "a@x.example", "b@y.example")
		b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0)) // lazy, not yet synced
		fail := true
		b.fs.SetHook(func(op vfs.Op) error {
			if fail && op.Kind == vfs.OpSync {
				fail = false
				return errors.New("input/output error")
			}
			return nil
		})
		a, _ := addition(b.s, "", []byte("second"), time.Now(), "a@x.example")
		if err := b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); err == nil {
			t.Fatal("a commit whose sync failed returned nil")
		}
		a.Draft.Discard()
		third := b.add([]byte("third"), "a@x.example")
		dead := b.s
		b.fs = b.fs.Crash(vfs.KeepNone)
		dead.Close(context.Background())
		b.open()
		m, _ := readBody(t, b.s, first)
		if m.Recipients[0].State != postrider.Delivered {
			t.Error("the settlement before the failed sync is lost")
		}
		readBody(t, b.s, third)
		if _, err := b.s.Open(context.Background(), a.Message.ID); !errors.Is(err, postrider.ErrNotFound) {
			t.Errorf("the refused message: %v", err)
		}
		b.s.Close(context.Background())
	})
}

func TestDamageIsSetAsideAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var ids []postrider.ID
		for range 5 {
			ids = append(ids, b.add(bytes.Repeat([]byte("0123456789"), 50), "a@x.example"))
		}
		off := b.s.placeOf(ids[2]).off
		b.s.Close(context.Background())
		f, err := b.fs.OpenFile("data/spool/seg/0000000001.seg", 2, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt([]byte{0xff, 0xff}, off+headerLen+5) // in the meta of the third
		f.Close()
		b.open()
		for i, id := range ids {
			if i != 2 {
				readBody(t, b.s, id)
			}
		}
		if len(b.alarms) == 0 {
			t.Error("no alarm")
		}
		if list, _ := b.fs.ReadDir("data/spool/damaged"); len(list) != 1 {
			t.Errorf("damaged holds %v", list)
		}
		b.s.Close(context.Background())
	})
}

func TestDamagedBodyIsAReadError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(bytes.Repeat([]byte("0123456789"), 50), "a@x.example")
		at := b.s.placeOf(id)
		at.seg.f.WriteAt([]byte("X"), at.off+int64(b.s.entryOf(id).recLen)<<3-20)
		b.s.fresh.forget(at)
		c, err := b.s.Open(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c.Reader()); !errors.Is(err, ErrDamaged) {
			t.Fatalf("read: %v", err)
		}
		c.Close()
		b.s.Close(context.Background())
	})
}

// A content must not go before the record that says it is needless.
func TestLargeContentStaysUntilItsEndIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add(bytes.Repeat([]byte("0123456789abcdef\r\n"), 200), "a@x.example")
		b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		synctest.Wait()
		if list, _ := b.fs.ReadDir("data/spool/big"); len(list) != 1 {
			t.Fatalf("before the lazy sync big holds %v", list)
		}
		time.Sleep(2 * lazySyncTime)
		synctest.Wait()
		if list, _ := b.fs.ReadDir("data/spool/big"); len(list) != 0 {
			t.Fatalf("after the lazy sync big holds %v", list)
		}
		b.s.Close(context.Background())
	})
}

// What a failed batch would have settled is not written again with the rest.
func TestFailedBatchLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example", "b@y.example")
		l := b.mustClaim(postrider.Attempt, 0)
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				return errors.New("input/output error")
			}
			return nil
		})
		batch := postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(0)}}}}
		if err := b.s.Commit(context.Background(), batch); err == nil {
			t.Fatal("a commit whose sync failed returned nil")
		}
		b.fs.SetHook(nil)
		b.settle(b.mustClaim(postrider.Attempt, 1), delivered(1))
		b.reopen()
		if m, _ := readBody(t, b.s, id); m.Recipients[0].State != postrider.Waiting || m.Recipients[1].State != postrider.Delivered {
			t.Fatalf("recipients %+v", m.Recipients)
		}
		b.s.Close(context.Background())
	})
}

// A Wake lease may be out that holds nothing, while an attempt settles the last
// recipient. It ends with the message, and touches no other.
func TestWakeLeaseEndsWithItsMessage(t *testing.T) {
	for _, together := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			b.add([]byte("x"), "a@x.example")
			other := b.add([]byte("y"), "b@held.example")
			la := b.mustClaim(postrider.Attempt, 0)
			time.Sleep(time.Hour)
			lw := b.mustClaim(postrider.Wake)
			batch := postrider.Batch{Settle: []postrider.Settlement{{Lease: la, Changes: []postrider.Change{delivered(0)}}}}
			wake := postrider.Settlement{Lease: lw, Wake: time.Now().Add(time.Hour)}
			if together {
				batch.Settle = append(batch.Settle, wake)
			}
			if err := b.s.Commit(context.Background(), batch); err != nil {
				t.Fatal(err)
			}
			if !together {
				err := b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{wake}})
				if !errors.Is(err, postrider.ErrLeaseLost) {
					t.Fatalf("settlement of a lease whose message is gone: %v", err)
				}
			}
			b.reopen()
			readBody(t, b.s, other)
			if b.s.slab.n != 1 {
				t.Fatalf("%d messages", b.s.slab.n)
			}
			b.s.Close(context.Background())
		})
	}
}

// On a full disk new mail is refused and what is there still leaves; with room
// again, all is as before.
func TestFullDiskEmpties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var leases []postrider.Lease
		for range 30 {
			b.add(bytes.Repeat([]byte("x"), 500), "a@x.example")
			leases = append(leases, b.mustClaim(postrider.Attempt, 0))
		}
		full := true
		b.fs.SetHook(func(op vfs.Op) error {
			if full && (op.Kind == vfs.OpAllocate || op.Kind == vfs.OpCreate) {
				return syscall.ENOSPC
			}
			return nil
		})
		b.fs.SetSpace(vfs.Space{Total: 1 << 30, Free: 0, Inodes: 5000})
		late := b.untilRefused(500)
		if b.s.Room(1) {
			t.Fatal("a full disk has room")
		}
		for _, l := range leases {
			b.settle(l, delivered(0))
		}
		full = false
		b.fs.SetSpace(vfs.Space{Total: 1 << 30, Free: 1 << 29, Inodes: 5000})
		b.add([]byte("again"), "a@x.example")
		if !b.s.Room(1) {
			t.Error("no room on an empty disk")
		}
		b.fs.SetSpace(vfs.Space{Total: 1 << 30, Free: 1 << 29, Inodes: 5})
		time.Sleep(roomTime)
		if b.s.Room(1) {
			t.Error("room without inodes")
		}
		b.reopen()
		if n := b.s.slab.n; n != late+1 {
			t.Errorf("%d messages, want %d", n, late+1)
		}
		b.s.Close(context.Background())
	})
}

// untilRefused adds mail, so many octets each, until a full disk takes no more, and
// returns how much it took.
func (b *bench) untilRefused(octets int) int {
	b.t.Helper()
	for n := range 100 {
		a, err := addition(b.s, "", make([]byte, octets), time.Now().Add(time.Hour), "late@y.example")
		if err == nil {
			err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
		}
		if err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				b.t.Fatalf("refused with %v", err)
			}
			a.Draft.Discard()
			return n
		}
	}
	b.t.Fatal("a full disk takes mail")
	return 0
}

// When to look at a message next may be asked for while a Wake lease is out. A
// start knows it from the record that ends the lease.
func TestWakeAskedForDuringAWakeLease(t *testing.T) {
	for _, together := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			id := b.add([]byte("x"), "a@x.example", "b@held.example")
			la := b.mustClaim(postrider.Attempt, 0)
			time.Sleep(time.Hour)
			lw := b.mustClaim(postrider.Wake, 1)
			at := time.Now().Add(10 * time.Minute)
			sets := []postrider.Settlement{{Lease: la, Changes: []postrider.Change{deferred(0, at.Add(time.Hour))}, Wake: at}, {Lease: lw}}
			batches := []postrider.Batch{{Settle: sets}}
			if !together {
				batches = []postrider.Batch{{Settle: sets[:1]}, {Settle: sets[1:]}}
			}
			for _, batch := range batches {
				if err := b.s.Commit(context.Background(), batch); err != nil {
					t.Fatal(err)
				}
			}
			for _, when := range []string{"before", "after"} {
				if got := b.s.entryOf(id).wake; got != at.UnixNano() {
					t.Errorf("together %v: %s a start it wakes at %d, want %d", together, when, got, at.UnixNano())
				}
				b.reopen()
			}
			b.s.Close(context.Background())
		})
	}
}

// That there is room is believed for a while, for a part of it, and until a write
// fails; that there is none is not.
func TestRoomIsAskedForNowAndThen(t *testing.T) {
	const least, free = int64(1 << 20), int64(1<<20 + 16<<10)
	plenty := vfs.Space{Total: 1 << 30, Free: free, Inodes: -1}
	for _, c := range []struct {
		name  string
		space vfs.Space
		sizes []int64 // asked for at once after the space was nothing
		yes   int     // how many of them are taken
	}{
		{"a sixteenth of the octets", plenty, []int64{0, 512, 400, 200}, 3},
		{"one that is larger", plenty, []int64{1025}, 0},
		{"a sixteenth of the inodes", vfs.Space{Total: 1 << 30, Free: free, Inodes: inodesMin + 35}, []int64{0, 0, 0}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, vfs.NewMem())
				b.s.opt.MinFree = least
				b.fs.SetSpace(c.space)
				time.Sleep(roomTime)
				if !b.s.Room(0) {
					t.Fatal("no room")
				}
				b.fs.SetSpace(vfs.Space{Total: 1 << 30, Free: 0, Inodes: -1})
				for i, size := range c.sizes {
					if got := b.s.Room(size); got != (i < c.yes) {
						t.Errorf("room for number %d of %d octets: %v", i, size, got)
					}
				}
				for _, end := range []struct {
					name string
					does func()
				}{
					{"time", func() { time.Sleep(roomTime) }},
					{"the clock set back", func() { b.s.now = func() time.Time { return time.Now().Add(-time.Second) } }},
					{"a write that failed", func() {
						b.fs.SetHook(func(op vfs.Op) error { return syscall.EIO })
						a, err := addition(b.s, "", []byte("x"), time.Now(), "a@x.example")
						if err == nil {
							err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
						}
						if b.fs.SetHook(nil); err == nil {
							t.Error("nothing failed")
						}
					}},
					{"a large message that failed", func() {
						b.fs.SetHook(func(op vfs.Op) error { return syscall.ENOSPC })
						d, _ := b.s.Create(context.Background(), "")
						_, err := d.Write(make([]byte, 1<<20))
						if b.fs.SetHook(nil); err == nil {
							t.Error("nothing failed")
						}
						d.Discard()
					}},
				} {
					b.fs.SetSpace(plenty)
					yes := b.s.Room(0)
					b.fs.SetSpace(vfs.Space{Total: 1 << 30, Free: 0, Inodes: -1})
					if known := b.s.Room(0); !yes || !known {
						t.Errorf("%v, and then %v", yes, known)
					}
					if end.does(); b.s.Room(0) {
						t.Errorf("after %s it is still believed", end.name)
					}
				}
				b.s.Close(context.Background())
			})
		})
	}
}

package spool

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// Faults that were found by reading, each made by hand.

// A new segment whose name could not be made durable and not be taken back either is
// not written into: a later sync of the folder may succeed and leave the name out.
func TestSegmentNameNotTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		synced, removed := false, false
		b.fs.SetHook(func(op vfs.Op) error {
			switch {
			case op.Kind == vfs.OpSyncDir && path.Base(op.Name) == "seg" && !synced:
				synced = true
				return syscall.EIO
			case op.Kind == vfs.OpRemove && strings.HasSuffix(op.Name, ".seg") && synced && !removed:
				removed = true
				return syscall.EIO
			}
			return nil
		})
		kept := b.addUntil(12)
		if !removed {
			t.Fatal("the test has lost its sense")
		}
		for _, keep := range []vfs.Keep{vfs.KeepNone, vfs.KeepAll} {
			after := &bench{t: t, fs: b.fs.Image(keep), opened: 100}
			after.open()
			for _, id := range kept {
				if _, err := after.content(id); err != nil {
					t.Errorf("%s: %v", id, err)
				}
			}
			after.s.Close(context.Background())
		}
		b.s.Close(context.Background())
	})
}

// A segment was given up in the middle of a group, and the header of the next rots:
// what the start finds there is in that segment, and nothing else.
func TestHeaderRotsAfterASegmentWasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		bodies := map[postrider.ID][]byte{}
		add := func(i byte) {
			body := bytes.Repeat([]byte{'a' + i}, 300)
			bodies[b.add(body, "a@held.example")] = body
		}
		for i := range byte(3) {
			add(i)
		}
		failed := false
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite && strings.HasSuffix(op.Name, ".seg") && !failed {
				failed = true
				return &vfs.ShortWrite{N: op.Len - 40, Err: syscall.EIO}
			}
			return nil
		})
		if a, err := addition(b.s, "", make([]byte, 300), time.Now(), "a@held.example"); err != nil ||
			b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}) == nil {
			t.Fatal("the test has lost its sense")
		}
		for i := range byte(5) {
			add(3 + i)
		}
		name := path.Join("data/spool/seg", segmentName(b.s.active.n))
		if b.s.active.n != 2 {
			t.Fatalf("%s", name)
		}
		b.s.Close(context.Background())
		b.flip(name, 12)
		b.fs.Remove("data/spool/index.snap")
		b.open()
		for id, body := range bodies {
			if _, got := readBody(t, b.s, id); !bytes.Equal(got, body) {
				t.Errorf("%s: %.20q, want %.20q", id, got, body)
			}
		}
		if n := b.s.Stat().Messages; n != len(bodies) || !b.alarmed("its header cannot be read") {
			t.Errorf("%d messages of %d, alarms %q", n, len(bodies), b.alarms)
		}
		b.s.Close(context.Background())
	})
}

// flip turns a bit of a file.
func (b *bench) flip(name string, off int64) {
	b.t.Helper()
	f, err := b.fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	var c [1]byte
	f.ReadAt(c[:], off)
	c[0] ^= 0x20
	if _, err := f.WriteAt(c[:], off); err != nil {
		b.t.Fatal(err)
	}
	f.Sync()
}

// Wherever the index leads, a record of another message is not taken for this one.
func TestRecordOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		one, two := b.add([]byte("one"), "a@held.example"), b.add([]byte("two"), "a@held.example")
		b.s.mu.Lock()
		b.s.entryOf(one).at = b.s.entryOf(two).at
		b.s.mu.Unlock()
		if _, err := b.s.Open(context.Background(), one); !errors.Is(err, ErrDamaged) {
			t.Errorf("%v", err)
		}
		b.s.Close(context.Background())
	})
}

// Who bounces mail by hand does not make it forget that its delay was told.
func TestBounceRemembersTheNotice(t *testing.T) {
	for name, leased := range map[string]bool{"waiting": false, "under way": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, vfs.NewMem())
				id := b.add([]byte("x"), "a@x.example", "b@held.example")
				due := time.Now().Add(time.Hour)
				late := deferred(0, due)
				late.Delayed = true
				b.settle(b.mustClaim(postrider.Attempt, 0), late)
				if leased {
					time.Sleep(time.Until(due))
					b.mustClaim(postrider.Attempt, 0)
				}
				b.amend(postrider.Amendment{ID: id, Rcpts: []int{0}, Do: postrider.AmendBounce, Reply: bounceReply})
				for _, how := range []string{"at once", "after a kill", "after a stop"} {
					switch how {
					case "after a kill":
						b.next(b.fs.Kill())
					case "after a stop":
						b.reopen()
					}
					m, _ := readBody(t, b.s, id)
					if r := m.Recipients[0]; !r.Delayed || (how != "at once" || !leased) && r.State != postrider.Failed {
						t.Errorf("%s: %+v", how, r)
					}
				}
				b.s.Close(context.Background())
			})
		})
	}
}

// The content of what was dropped while it was under way goes with the next start,
// where a crash came before the end of its lease.
func TestDroppedUnderWayLeavesNoFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(large, "a@x.example")
		b.mustClaim(postrider.Attempt, 0)
		b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDrop, Reply: bounceReply})
		b.next(b.fs.Kill())
		if list, err := b.fs.ReadDir("data/spool/big"); err != nil || len(list) > 0 || b.s.Stat().Messages > 0 || len(b.alarms) > 0 {
			t.Errorf("big holds %v, %v; %d messages, alarms %q", list, err, b.s.Stat().Messages, b.alarms)
		}
		b.s.Close(context.Background())
	})
}

// A settlement of very many recipients ends those that an operator has ended meanwhile.
func TestManyEndedUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var to []string
		for range 60 {
			to = append(to, "a@x.example")
		}
		id := b.add([]byte("x"), to...)
		l, _ := b.claim()
		b.amend(postrider.Amendment{ID: id, Rcpts: []int{7, 50}, Do: postrider.AmendDrop, Reply: bounceReply})
		var changes []postrider.Change
		for i := range 40 {
			changes = append(changes, deferred(i, time.Now().Add(time.Hour)))
		}
		changes[3] = delivered(3)
		b.settle(l, changes...)
		m, _ := readBody(t, b.s, id)
		for i, r := range m.Recipients {
			want := map[int]postrider.State{3: postrider.Delivered, 7: postrider.Failed, 50: postrider.Failed}[i]
			if r.State != want {
				t.Errorf("%d is %v, want %v", i, r.State, want)
			}
		}
		b.s.Close(context.Background())
	})
}

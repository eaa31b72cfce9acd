package spool

import (
	"bytes"
	"context"
	"errors"
	"path"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// fillSegment adds mail until the active segment has less room than so many octets.
func (b *bench) fillSegment(octets int64) {
	for b.s.active == nil || b.s.active.size-b.s.active.end > octets {
		b.add(bytes.Repeat([]byte("x"), 500), "a@x.example")
		synctest.Wait()
	}
}

// noMoreRoom lets the disk make no more files, and gives batches time to gather.
func (b *bench) noMoreRoom() {
	b.fs.SetHook(func(op vfs.Op) error {
		switch op.Kind {
		case vfs.OpAllocate, vfs.OpCreate:
			return syscall.ENOSPC
		case vfs.OpWrite:
			time.Sleep(time.Second)
		}
		return nil
	})
}

// What a full disk refuses is not there: the client that heard 452 sends it again, and
// nobody gets it twice, though a settlement that came with it was written.
func TestRefusedOnAFullDiskIsNotThere(t *testing.T) {
	for name, body := range map[string][]byte{"small": bytes.Repeat([]byte("y"), 1900), "large": large} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, vfs.NewMem())
				b.fillSegment(1500)
				l, l2 := b.mustClaim(postrider.Attempt, 0), b.mustClaim(postrider.Attempt, 0)
				a, err := addition(b.s, "", body, time.Now(), "b@y.example")
				if err != nil {
					t.Fatal(err)
				}
				b.noMoreRoom()
				late := deferred(0, time.Now().Add(time.Hour))
				late.Reply.Text = strings.Repeat("later ", 250) // for which there is no room either
				batches := []postrider.Batch{
					{Amend: []postrider.Amendment{{ID: l.ID, Do: postrider.AmendDue, Due: time.Now()}}},
					{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(0)}}}},
					{Settle: []postrider.Settlement{{Lease: l2, Changes: []postrider.Change{late}}}},
					{Add: []postrider.Addition{a}},
				}
				errs := b.inTurn(batches...)
				if errs[0] != nil || errs[1] != nil || errs[2] != nil || !errors.Is(errs[3], syscall.ENOSPC) {
					t.Fatalf("%v", errs)
				}
				a.Draft.Discard()
				b.fs.SetHook(nil)
				for _, keep := range []vfs.Keep{vfs.KeepNone, vfs.KeepAll} {
					after := &bench{t: t, fs: b.fs.Image(keep), opened: 100}
					after.open()
					if _, err := after.s.Open(context.Background(), a.Message.ID); !errors.Is(err, postrider.ErrNotFound) {
						t.Errorf("the mail that was refused: %v", err)
					}
					if _, err := after.s.Open(context.Background(), l.ID); !errors.Is(err, postrider.ErrNotFound) {
						t.Errorf("the mail that was delivered: %v", err)
					}
					if len(after.alarms) > 0 {
						t.Errorf("alarms %q", after.alarms)
					}
					after.s.Close(context.Background())
				}
				b.s.Close(context.Background())
			})
		})
	}
}

// What is settled beside mail that is refused for another reason has the spare of a full
// disk.
func TestSettledBesideRefusedOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.fillSegment(1500)
		l := b.mustClaim(postrider.Attempt, 0)
		b.s.opt.MaxRecipients = b.s.Waiting()
		a, err := addition(b.s, "", []byte("y"), time.Now(), "b@y.example")
		if err != nil {
			t.Fatal(err)
		}
		b.noMoreRoom()
		late := deferred(0, time.Now().Add(time.Hour))
		late.Reply.Text = strings.Repeat("later ", 250) // for which there is no room in the segment
		errs := b.inTurn(
			postrider.Batch{Amend: []postrider.Amendment{{ID: l.ID, Do: postrider.AmendDue, Due: time.Now()}}},
			postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{late}}}},
			postrider.Batch{Add: []postrider.Addition{a}},
		)
		if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], postrider.ErrFull) {
			t.Errorf("%v", errs)
		}
		b.fs.SetHook(nil)
		b.s.Close(context.Background())
	})
}

// A large report cannot be committed, as no segment can be made, and is made again under
// the same ID: what was accepted then stays.
func TestLargeReportIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.fillSegment(600)
		l := b.mustClaim(postrider.Attempt, 0)
		report := func() error {
			a, err := addition(b.s, "report00000000000001", large, time.Now(), "from@held.example")
			if err != nil {
				return err
			}
			defer a.Draft.Discard()
			change := failed(0)
			change.Reported, change.Reply.Text = true, strings.Repeat("no ", 300)
			return b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a},
				Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{change}}}})
		}
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpCreate && path.Base(path.Dir(op.Name)) == "seg" {
				return syscall.EIO
			}
			return nil
		})
		for range 2 {
			if err := report(); !errors.Is(err, syscall.EIO) {
				t.Fatalf("without a segment: %v", err)
			}
		}
		b.fs.SetHook(nil)
		if err := report(); err != nil {
			t.Fatalf("with one: %v", err)
		}
		for range 3 {
			b.add([]byte("z"), "a@held.example")
			synctest.Wait()
		}
		if _, body := readBody(t, b.s, "report00000000000001"); !bytes.Equal(body, large) {
			t.Errorf("%d octets of the report are there", len(body))
		}
		b.s.Close(context.Background())
	})
}

// An operator's order comes while the end of its message is being written: it is told
// that there is no such message any more, and all goes on.
func TestOrderComesAfterTheEnd(t *testing.T) {
	for _, do := range []postrider.Amend{postrider.AmendDue, postrider.AmendHold, postrider.AmendRelease, postrider.AmendBounce, postrider.AmendDrop, postrider.AmendPass} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			id := b.add([]byte("x"), "a@x.example")
			other := b.add([]byte("y"), "b@held.example")
			l := b.mustClaim(postrider.Attempt, 0)
			b.fs.SetDelay(func(op vfs.Op) time.Duration {
				if op.Kind == vfs.OpSync {
					return time.Second
				}
				return 0
			})
			end := make(chan error, 1)
			go func() {
				end <- b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(0)}}}})
			}()
			time.Sleep(time.Millisecond)
			order := postrider.Amendment{ID: id, Do: do, Due: time.Now(), Reply: bounceReply}
			err := b.s.Commit(context.Background(), postrider.Batch{Amend: []postrider.Amendment{order}})
			if !errors.Is(err, postrider.ErrNotFound) {
				t.Errorf("order %v: %v", do, err)
			}
			if err := <-end; err != nil {
				t.Error(err)
			}
			b.fs.SetDelay(nil)
			b.reopen()
			if readBody(t, b.s, other); b.s.Stat().Messages != 1 {
				t.Errorf("%d messages", b.s.Stat().Messages)
			}
			b.s.Close(context.Background())
		})
	}
}

// Settlements that nobody waits for come one after the other, with no new mail: each is
// on the disk a moment later, and a power cut repeats the last deliveries alone.
func TestStreamOfLazySettlements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t}
		b.wide(vfs.NewMem()) // no segment is full, which would be synced for that
		const many, every = 100, lazySyncTime / 5
		for range many {
			b.add([]byte("x"), "a@x.example")
		}
		for range many {
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			time.Sleep(every)
		}
		b.next(b.fs.Crash(vfs.KeepNone))
		if n := b.s.Stat().Messages; n > int(2*lazySyncTime/every) {
			t.Errorf("%d of %d that were delivered in the last %v are attempted again", n, many, many*every)
		}
		b.s.Close(context.Background())
	})
}

// The folder of the log cannot be synced for who removes a segment from it, while a new
// segment is being made: the name of that may be lost, though its own sync comes back.
// What is acknowledged is there.
func TestNewSegmentBesideAFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		struck := false
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync && path.Base(op.Name) == segmentName(2) && !struck {
				struck = true
				fails := true
				b.fs.SetHook(func(op vfs.Op) error {
					if op.Kind == vfs.OpSyncDir && fails {
						fails = false
						return syscall.EIO
					}
					return nil
				})
				if b.s.segs.Sync(b.s.segs.Mark()) == nil {
					t.Error("the test has lost its sense")
				}
			}
			return nil
		})
		kept := b.addUntil(8)
		if !struck {
			t.Fatal("the test has lost its sense")
		}
		b.next(b.fs.Crash(vfs.KeepNone))
		for _, id := range kept {
			if b.s.entryOf(id) == nil {
				t.Errorf("message %s was acknowledged, and is lost", id)
			}
		}
		b.s.Close(context.Background())
	})
}

package spool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

func (b *bench) amend(a postrider.Amendment) {
	b.t.Helper()
	if err := b.s.Commit(context.Background(), postrider.Batch{Amend: []postrider.Amendment{a}}); err != nil {
		b.t.Fatal(err)
	}
}

var bounceReply = smtp.Reply{Code: 554, Status: smtp.Status{Class: 5, Subject: 7, Detail: 0}, Text: "by hand"}

func TestHoldSurvivesAndReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example", "b@x.example")
		b.amend(postrider.Amendment{ID: id, Do: postrider.AmendHold, Rcpts: []int{0}})
		l := b.mustClaim(postrider.Attempt, 1)
		b.amend(postrider.Amendment{ID: id, Do: postrider.AmendHold}) // in flight
		b.settle(l, deferred(1, time.Now()))
		b.noClaim()
		b.reopen()
		b.noClaim()
		if m, _ := readBody(t, b.s, id); !m.Recipients[0].Held || !m.Recipients[1].Held || m.Recipients[1].Tries != 1 {
			t.Fatalf("recipients %+v", m.Recipients)
		}
		b.amend(postrider.Amendment{ID: id, Do: postrider.AmendRelease, Rcpts: []int{1}})
		b.settle(b.mustClaim(postrider.Attempt, 1), delivered(1))
		b.settle(b.mustClaim(postrider.Wake, 0))
		b.noClaim()
		b.amend(postrider.Amendment{ID: id, Do: postrider.AmendRelease})
		b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		if b.s.slab.n != 0 {
			t.Fatal("the message is not forgotten")
		}
		b.s.Close(context.Background())
	})
}

func TestBounceAndDrop(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			id := b.add([]byte("x"), "a@x.example", "b@y.example")
			b.amend(postrider.Amendment{ID: id, Do: postrider.AmendBounce, Rcpts: []int{0}, Reply: bounceReply})
			b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDrop, Rcpts: []int{1}})
			if restart {
				b.reopen()
			}
			m, _ := readBody(t, b.s, id)
			if r := m.Recipients[0]; r.State != postrider.Failed || r.Reported || r.Reply.Text != "by hand" || r.Settled.IsZero() {
				t.Fatalf("bounced: %+v", r)
			}
			if r := m.Recipients[1]; r.State != postrider.Failed || !r.Reported {
				t.Fatalf("dropped: %+v", r)
			}
			lw := b.mustClaim(postrider.Wake, 0)
			c := failed(0)
			c.Reported = true
			b.settle(lw, c)
			b.noClaim()
			if b.s.slab.n != 0 || b.s.waiting != 0 {
				t.Fatal("the message is not forgotten")
			}
			b.s.Close(context.Background())
		})
	}
}

// What is wanted of a recipient that is under way holds if the attempt did not
// deliver it, also when the process died meanwhile.
func TestBounceInFlight(t *testing.T) {
	for _, how := range []string{"delivered", "deferred", "crash", "deferred, crash"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			id := b.add([]byte("x"), "a@x.example", "b@held.example")
			l := b.mustClaim(postrider.Attempt, 0)
			b.amend(postrider.Amendment{ID: id, Do: postrider.AmendBounce, Rcpts: []int{0}, Reply: bounceReply})
			b.noClaim()
			switch how {
			case "delivered":
				b.settle(l, delivered(0))
			case "deferred", "deferred, crash":
				b.settle(l, deferred(0, time.Now()))
			}
			if how == "crash" || how == "deferred, crash" {
				time.Sleep(time.Second)
				dead := b.s
				b.fs = b.fs.Crash(vfs.KeepNone)
				dead.Close(context.Background())
				b.open()
			}
			m, _ := readBody(t, b.s, id)
			r := m.Recipients[0]
			if how == "delivered" {
				if r.State != postrider.Delivered {
					t.Errorf("%s: %+v", how, r)
				}
				b.noClaim()
			} else {
				if r.State != postrider.Failed || r.Reply.Text != "by hand" {
					t.Errorf("%s: %+v", how, r)
				}
				b.mustClaim(postrider.Wake, 0, 1)
			}
			b.s.Close(context.Background())
		})
	}
}

func TestAmendRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		for _, a := range []postrider.Amendment{
			{ID: id, Do: postrider.AmendBounce},
			{ID: id, Do: 99},
			{ID: id, Do: postrider.AmendHold, Rcpts: []int{1}},
		} {
			if err := b.s.Commit(context.Background(), postrider.Batch{Amend: []postrider.Amendment{a}}); err == nil {
				t.Errorf("%+v was taken", a)
			}
		}
		err := b.s.Commit(context.Background(), postrider.Batch{Amend: []postrider.Amendment{{ID: "nosuch", Do: postrider.AmendHold}}})
		if !errors.Is(err, postrider.ErrNotFound) {
			t.Error(err)
		}
		b.s.Close(context.Background())
	})
}

// A recipient that an operator lets go past a route that holds has a queue of
// its own, also after a restart, while others of its message stay.
func TestPass(t *testing.T) {
	for _, restart := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			b.s.Rekey(holdAll)
			id := b.add([]byte("x"), "a@X.example", "b@y.example")
			b.noClaim()
			b.amend(postrider.Amendment{ID: id, Do: postrider.AmendPass, Rcpts: []int{0}})
			if restart {
				b.reopen()
				b.s.Rekey(holdAll)
			}
			l := b.mustClaim(postrider.Attempt, 0)
			if l.Dest != "mx:x.example" {
				t.Errorf("it waits for %q", l.Dest)
			}
			b.settle(l, deferred(0, time.Now()))
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			b.settle(b.mustClaim(postrider.Wake, 1))
			b.noClaim()
			if m, _ := readBody(t, b.s, id); !m.Recipients[0].Passed || m.Recipients[1].Passed {
				t.Errorf("%+v", m.Recipients)
			}
			if n := b.s.Stat().Held; n != 1 {
				t.Errorf("%d recipients are held, want 1", n)
			}
			b.s.Close(context.Background())
		})
	}
}

func holdAll(smtp.Path) postrider.Dest { return postrider.DestHold }

// The feed tells the end of a message that was dropped, at once or when its
// attempt came back.
func TestFeedTellsTheEndOfWhatIsDropped(t *testing.T) {
	for _, inFlight := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			id := b.add([]byte("x"), "a@x.example", "b@y.example")
			b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDrop, Rcpts: []int{1}})
			if inFlight {
				l := b.mustClaim(postrider.Attempt, 0)
				b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDrop})
				b.settle(l, deferred(0, time.Now()))
			} else {
				b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDrop})
			}
			if b.s.slab.n != 0 {
				t.Fatal("the message is not forgotten")
			}
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			removed := 0
			for ev, err := range b.s.Feed(ctx, "log") {
				if err != nil {
					break
				}
				if ev.Kind == postrider.EventRemoved {
					removed++
				}
			}
			if removed != 1 {
				t.Errorf("in flight %v: the end is told %d times", inFlight, removed)
			}
			b.s.Close(context.Background())
		})
	}
}

// A snapshot that has seen a bounce whose record lies beyond its mark must not
// make a start forget what the record says.
func TestSnapshotAroundABounce(t *testing.T) {
	for _, inFlight := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			id := b.add([]byte("x"), "a@x.example", "b@held.example")
			at := mark{b.s.synced, b.s.segments[0], b.s.segments[0].end}
			var l postrider.Lease
			if inFlight {
				l = b.mustClaim(postrider.Attempt, 0)
			}
			b.amend(postrider.Amendment{ID: id, Do: postrider.AmendBounce, Rcpts: []int{0}, Reply: bounceReply})
			if inFlight {
				b.settle(l, deferred(0, time.Now()))
				time.Sleep(time.Second)
			}
			if err := b.s.snapshot(at); err != nil {
				t.Fatal(err)
			}
			b.reopen()
			if m, _ := readBody(t, b.s, id); m.Recipients[0].State != postrider.Failed || m.Recipients[0].Reply.Text != "by hand" || b.s.waiting != 1 {
				t.Errorf("in flight %v: %+v, %d wait", inFlight, m.Recipients[0], b.s.waiting)
			}
			b.s.Close(context.Background())
		})
	}
}

// A drop that waits for the end of an attempt is not done by a later wish, when
// the log is read again: the attempt may have come to something else.
func TestWishesInFlightInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		l := b.mustClaim(postrider.Attempt, 0)
		b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDrop, Reply: bounceReply})
		b.amend(postrider.Amendment{ID: id, Do: postrider.AmendRelease})
		b.settle(l, failed(0))
		b.reopen()
		if m, _ := readBody(t, b.s, id); m.Recipients[0].State != postrider.Failed || m.Recipients[0].Reported {
			t.Errorf("%+v", m.Recipients[0])
		}
		b.s.Close(context.Background())
	})
}

// The feed tells that a recipient under way is bounced or dropped when that is so,
// and not when it was ordered: the attempt may deliver.
func TestFeedTellsWhatCameOfAnOrder(t *testing.T) {
	for _, c := range []struct {
		name string
		do   postrider.Amend
		end  func() postrider.Change
		want string
	}{
		{"drop too late", postrider.AmendDrop, func() postrider.Change { return delivered(0) }, "accepted, ordered 4, recipient delivered, removed"},
		{"drop", postrider.AmendDrop, func() postrider.Change { return deferred(0, time.Now()) },
			"accepted, ordered 4, recipient waiting, amended 4, removed"},
		{"bounce too late", postrider.AmendBounce, func() postrider.Change { return delivered(0) }, "accepted, ordered 3, recipient delivered, removed"},
		{"bounce", postrider.AmendBounce, func() postrider.Change { return deferred(0, time.Now()) },
			"accepted, ordered 3, recipient waiting, amended 3"},
	} {
		for _, together := range []bool{false, true} { // the order and the end of the attempt, in one group
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, vfs.NewMem())
				id := b.add([]byte("x"), "a@x.example")
				l := b.mustClaim(postrider.Attempt, 0)
				order := postrider.Amendment{ID: id, Do: c.do, Reply: bounceReply}
				if together {
					errs := b.together(postrider.Batch{Amend: []postrider.Amendment{order}},
						postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{c.end()}}}})
					if err := errors.Join(errs...); err != nil {
						t.Error(err)
					}
				} else {
					b.amend(order)
					b.settle(l, c.end())
				}
				time.Sleep(time.Second)
				if got := b.told(id); got != c.want {
					t.Errorf("%s, together %v: %s, want %s", c.name, together, got, c.want)
				}
				b.s.Close(context.Background())
			})
		}
	}
}

// What is ordered in the group in which the attempt ends holds at once, or is no
// longer told of.
func TestOrderedAsTheAttemptEnds(t *testing.T) {
	for _, c := range []struct {
		end  func() postrider.Change
		want string
	}{
		{func() postrider.Change { return delivered(0) }, "accepted, recipient delivered, removed"},
		{func() postrider.Change { return deferred(0, time.Now()) }, "accepted, recipient waiting, to be tried again, amended 4, removed"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			id := b.add([]byte("x"), "a@x.example")
			l := b.mustClaim(postrider.Attempt, 0)
			drop := postrider.Batch{Amend: []postrider.Amendment{{ID: id, Do: postrider.AmendDrop}}}
			errs := b.together(postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{c.end()}}}}, drop, drop)
			if err := errors.Join(errs...); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			if got := b.told(id); got != c.want || b.s.entryOf(id) != nil {
				t.Errorf("%s, want %s; left: %v", got, c.want, b.s.entryOf(id))
			}
			b.reopen()
			if b.s.entryOf(id) != nil {
				t.Error("the message is back")
			}
			b.s.Close(context.Background())
		})
	}
}

// Who is to be bounced or dropped is had by nobody while that is written down; others of
// the message are. Where it cannot be written they wait on as before.
func TestNobodyHasWhatIsBeingDropped(t *testing.T) {
	for _, do := range []postrider.Amend{postrider.AmendDrop, postrider.AmendBounce} {
		for _, fails := range []bool{false, true} {
			for _, look := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, vfs.NewMem())
					id := b.add([]byte("x"), "a@x.example", "b@x.example")
					if look {
						l := b.mustClaim(postrider.Attempt, 0, 1)
						later := time.Now().Add(time.Minute)
						set := postrider.Settlement{Lease: l, Changes: []postrider.Change{deferred(0, later), deferred(1, later)}, Wake: time.Now()}
						if err := b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{set}}); err != nil {
							t.Fatal(err)
						}
					}
					b.fs.SetDelay(func(op vfs.Op) time.Duration {
						if op.Kind == vfs.OpSync {
							return 10 * time.Second
						}
						return 0
					})
					if fails {
						b.fs.SetHook(func(op vfs.Op) error {
							if op.Kind == vfs.OpSync {
								return syscall.EIO
							}
							return nil
						})
					}
					done := make(chan error, 1)
					go func() {
						done <- b.s.Commit(context.Background(), postrider.Batch{Amend: []postrider.Amendment{{ID: id, Do: do, Rcpts: []int{0}, Reply: bounceReply}}})
					}()
					time.Sleep(time.Second)
					synctest.Wait()
					if look {
						l := b.mustClaim(postrider.Wake, 1)
						go b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{{Lease: l}}, Lazy: true})
					} else {
						b.mustClaim(postrider.Attempt, 1)
					}
					b.noClaim()
					if err := <-done; (err != nil) != fails {
						t.Fatalf("the order: %v", err)
					}
					b.fs.SetHook(nil)
					time.Sleep(time.Minute)
					if m, _ := readBody(t, b.s, id); fails != (m.Recipients[0].State == postrider.Waiting) {
						t.Errorf("%v, fails %v: %+v", do, fails, m.Recipients[0])
					}
					claimed := map[postrider.Why][]int{}
					for {
						ctx, stop := context.WithTimeout(context.Background(), time.Second)
						l, err := b.s.Claim(ctx, 10)
						if stop(); err != nil {
							break
						}
						claimed[l.Why] = append(claimed[l.Why], l.Rcpts...)
					}
					if got := slices.Contains(claimed[postrider.Attempt], 0) || slices.Contains(claimed[postrider.Wake], 0); got != (fails || do == postrider.AmendBounce) {
						t.Errorf("%v, fails %v: then %v is claimed", do, fails, claimed)
					}
					b.s.Close(context.Background())
				})
			}
		}
	}
}

// told returns what the feed tells of a message.
func (b *bench) told(id postrider.ID) string {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var all []string
	for ev, err := range b.s.Feed(ctx, "log") {
		if err != nil {
			break
		}
		if ev.ID != id {
			continue
		}
		switch ev.Kind {
		case postrider.EventAccepted:
			all = append(all, "accepted")
		case postrider.EventRecipient:
			all = append(all, "recipient "+ev.State.String())
		case postrider.EventOrdered:
			all = append(all, fmt.Sprint("ordered ", ev.Amend))
		case postrider.EventAmended:
			all = append(all, fmt.Sprint("amended ", ev.Amend))
		case postrider.EventRemoved:
			all = append(all, "removed")
		}
		if ev.Kind != postrider.EventAccepted && !ev.Next.IsZero() {
			all = append(all, "to be tried again")
		}
	}
	return strings.Join(all, ", ")
}

// An order cannot be written down, and while it was tried a look came at the message that
// left out whom it was of: they are looked at when it has failed, or nobody would ever
// tell their sender of a delay, or give them up.
func TestLookBesideAnOrderThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@held.example")
		time.Sleep(time.Hour - time.Second)
		b.fs.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind == vfs.OpSync {
				return 10 * time.Second
			}
			return 0
		})
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpSync {
				return syscall.EIO
			}
			return nil
		})
		order := make(chan error, 1)
		go func() {
			order <- b.s.Commit(context.Background(), postrider.Batch{Amend: []postrider.Amendment{{ID: id, Do: postrider.AmendDrop}}})
		}()
		time.Sleep(5 * time.Second)
		l := b.mustClaim(postrider.Wake)
		if err := <-order; !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		b.fs.SetDelay(nil)
		b.fs.SetHook(nil)
		b.settle(l)
		if l := b.mustClaim(postrider.Wake, 0); l.ID != id {
			t.Errorf("another is looked at: %+v", l)
		}
		b.s.Close(context.Background())
	})
}

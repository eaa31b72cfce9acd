package spool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// inTurn commits batches a millisecond after each other, in a bubble, whether those
// before have been answered or not.
func (b *bench) inTurn(batches ...postrider.Batch) []error {
	errs := make([]error, len(batches))
	var wg sync.WaitGroup
	for i := range batches {
		wg.Go(func() {
			time.Sleep(time.Duration(i) * time.Millisecond)
			errs[i] = b.s.Commit(context.Background(), batches[i])
		})
	}
	wg.Wait()
	return errs
}

// together commits batches in one group, in their order, and returns what each
// came to.
func (b *bench) together(batches ...postrider.Batch) []error {
	b.t.Helper()
	slow := true
	b.fs.SetDelay(func(op vfs.Op) time.Duration {
		if slow && op.Kind == vfs.OpSync {
			slow = false
			return time.Second
		}
		return 0
	})
	a, err := addition(b.s, "", []byte("holds the committer up"), time.Now().Add(time.Hour), "a@held.example")
	if err != nil {
		b.t.Fatal(err)
	}
	errs := make([]error, len(batches)+1)
	done := make(chan bool)
	for i, batch := range append([]postrider.Batch{{Add: []postrider.Addition{a}}}, batches...) {
		go func() {
			errs[i] = b.s.Commit(context.Background(), batch)
			done <- true
		}()
		synctest.Wait()
	}
	for range errs {
		<-done
	}
	if errs[0] != nil {
		b.t.Fatal(errs[0])
	}
	return errs[1:]
}

// What is lazy takes nothing from what it is written with.
func TestLazyBesideAnAddition(t *testing.T) {
	for _, lazyLast := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			b.add([]byte("x"), "a@x.example")
			l := b.mustClaim(postrider.Attempt, 0)
			a, err := addition(b.s, "", []byte("new"), time.Now(), "a@y.example")
			if err != nil {
				t.Fatal(err)
			}
			batches := []postrider.Batch{
				{Lazy: true, Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(0)}}}},
				{Add: []postrider.Addition{a}},
			}
			if lazyLast {
				batches[0], batches[1] = batches[1], batches[0]
			}
			if err := errors.Join(b.together(batches...)...); err != nil {
				t.Fatal(err)
			}
			dead := b.s
			b.fs = b.fs.Crash(vfs.KeepNone)
			dead.Close(context.Background())
			b.open()
			readBody(t, b.s, a.Message.ID)
			b.s.Close(context.Background())
		})
	}
}

// Of two settlements of one lease that come at once one holds.
func TestLeaseIsSettledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@x.example", "b@y.example")
		l := b.mustClaim(postrider.Attempt, 0)
		batch := func(c postrider.Change) postrider.Batch {
			return postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{c}}}}
		}
		errs := b.together(batch(delivered(0)), batch(failed(0)))
		if errs[0] != nil || !errors.Is(errs[1], postrider.ErrLeaseLost) {
			t.Errorf("came to %v", errs)
		}
		b.s.Close(context.Background())
	})
}

// A lease gives no right to other recipients, nor to one twice.
func TestLeaseCoversItsRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example", "b@y.example")
		l := b.mustClaim(postrider.Attempt, 0)
		for _, changes := range [][]postrider.Change{{delivered(1)}, {delivered(0), delivered(1)}, {delivered(0), failed(0)}, {delivered(2)}, {delivered(-1)}} {
			err := b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: changes}}})
			if err == nil {
				t.Errorf("%+v was taken", changes)
			}
		}
		b.settle(l, delivered(0))
		if m, _ := readBody(t, b.s, id); m.Recipients[1].State != postrider.Waiting {
			t.Errorf("%+v", m.Recipients)
		}
		b.s.Close(context.Background())
	})
}

// A full queue refuses mail and takes reports, and has room again when mail has
// gone, was given up, or is found again after a start.
func TestFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.s.opt.MaxRecipients = 3
		b.add([]byte("x"), "a@x.example", "b@y.example", "c@held.example")
		commit := func(rcpt string, set ...postrider.Settlement) error {
			a, err := addition(b.s, "", []byte("y"), time.Now(), rcpt)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Draft.Discard()
			return b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}, Settle: set})
		}
		if err := commit("d@x.example"); !errors.Is(err, postrider.ErrFull) {
			t.Fatalf("over the limit: %v", err)
		}
		time.Sleep(time.Hour)
		b.settle(b.mustClaim(postrider.Attempt, 0), failed(0))
		b.settle(b.mustClaim(postrider.Attempt, 1), failed(1))
		lw := b.mustClaim(postrider.Wake, 0, 1, 2)
		if err := errors.Join(commit("d@x.example"), commit("e@x.example")); err != nil {
			t.Fatalf("with room: %v", err)
		}
		if err := commit("from@example.org", postrider.Settlement{Lease: lw}); err != nil {
			t.Fatalf("a report: %v", err)
		}
		if n := b.s.Stat().Recipients; n != 4 {
			t.Errorf("%d recipients wait", n)
		}
		b.reopen()
		if n := b.s.Stat().Recipients; n != 4 {
			t.Errorf("after a start %d recipients wait", n)
		}
		if n := b.s.draftBytes.Load(); n != 0 {
			t.Errorf("%d octets of drafts are not given back", n)
		}
		b.s.Close(context.Background())
	})
}

// Those that come at once share what room the queue has: not each of them has it alone.
// Who is refused leaves nothing behind, though the others of the group were written.
func TestFullQueueWithinAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.s.opt.MaxRecipients = 5 // one of them holds the committer up
		var batches []postrider.Batch
		for _, body := range [][]byte{[]byte("x"), []byte("y"), large} {
			a, err := addition(b.s, "", body, time.Now(), "a@x.example", "b@x.example")
			if err != nil {
				t.Fatal(err)
			}
			batches = append(batches, postrider.Batch{Add: []postrider.Addition{a}})
		}
		errs := b.together(batches...)
		if errs[0] != nil || errs[1] != nil || !errors.Is(errs[2], postrider.ErrFull) || b.s.Waiting() != 5 {
			t.Errorf("%v, and %d wait", errs, b.s.Waiting())
		}
		batches[2].Add[0].Draft.Discard()
		if list, err := b.fs.ReadDir("data/spool/big"); err != nil || len(list) > 0 {
			t.Errorf("big holds %v, %v", list, err)
		}
		b.s.Close(context.Background())
	})
}

// The memory of drafts is given back, however they end.
func TestDraftMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for i, end := range []string{"commit", "discard", "spill"} {
			a, err := addition(b.s, "", []byte("0123456789"), time.Now(), "a@x.example")
			if err != nil {
				t.Fatal(err)
			}
			switch end {
			case "commit":
				err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
			case "spill":
				_, err = a.Draft.Write(large)
			}
			if err != nil {
				t.Fatal(err)
			}
			a.Draft.Discard()
			if n := b.s.draftBytes.Load(); n != 0 {
				t.Errorf("%d %s: %d octets are not given back", i, end, n)
			}
		}
		if list, _ := b.fs.ReadDir("data/spool/big"); len(list) > 0 {
			t.Errorf("big holds %v", list)
		}
		b.s.Close(context.Background())
	})
}

// A message that is moved from a segment that goes is the same afterwards, and
// after a start: its states, its times, and what it waited to be looked at for.
func TestMoveKeepsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("moves"), "a@x.example", "b@y.example", "c@z.example")
		woken := b.add([]byte("moves too"), "a@held.example")
		due := time.Now().Add(30 * time.Hour)
		late := deferred(0, due)
		late.Delayed, late.Tries, late.Remote = true, 7, "mx.example"
		b.settle(b.mustClaim(postrider.Attempt, 0), late)
		b.settle(b.mustClaim(postrider.Attempt, 1), delivered(1))
		dead := failed(2)
		dead.Reported, dead.Reply.Status = true, smtp.Status{Class: 5, Subject: 1, Detail: 1}
		b.settle(b.mustClaim(postrider.Attempt, 2), dead)
		before, _ := readBody(t, b.s, id)
		if r := before.Recipients[0]; !r.Delayed || r.Tries != 7 || !r.Due.Equal(due) || r.Remote != "mx.example" {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Hour)
		for range 2 { // their first looks: one wants another, of one the lease lasts
			if l := b.mustClaimAny(); l.ID == id {
				err := b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Wake: time.Now().Add(2 * time.Hour)}}})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		first := b.s.placeOf(id).seg
		for i := range 100 {
			b.add(make([]byte, 600), fmt.Sprintf("a@d%d.example", i))
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		}
		if b.s.placeOf(id).seg == first || b.s.placeOf(woken).seg == first {
			t.Fatal("nothing was moved")
		}
		for _, what := range []string{"after the move", "after a start"} {
			m, body := readBody(t, b.s, id)
			if fmt.Sprintf("%+v", m) != fmt.Sprintf("%+v", before) || string(body) != "moves" {
				t.Errorf("%s:\n%+v\nwas\n%+v", what, m, before)
			}
			b.reopen()
		}
		if l := b.mustClaimAny(); l.ID != woken || l.Why != postrider.Wake {
			t.Errorf("the look that was under way: %+v", l)
		}
		b.noClaim()
		time.Sleep(2 * time.Hour)
		if l := b.mustClaimAny(); l.ID != id || l.Why != postrider.Wake {
			t.Errorf("the look that was asked for: %+v", l)
		}
		b.s.Close(context.Background())
	})
}

func (b *bench) mustClaimAny() postrider.Lease {
	b.t.Helper()
	l, ok := b.claim()
	if !ok {
		b.t.Fatal("nothing is due")
	}
	return l
}

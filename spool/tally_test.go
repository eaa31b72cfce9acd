package spool

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// What is counted in memory is what a look at every message counts.
func TestTally(t *testing.T) {
	b := newBench(t, vfs.NewMem())
	b.s.Rekey(destOf)
	ids := []postrider.ID{b.add([]byte("one"), "a@big.example", "b@big.example"), b.add([]byte("two"), "c@big.example"), b.add([]byte("three"), "d@small.example")}
	if err := b.s.Commit(t.Context(), postrider.Batch{Amend: []postrider.Amendment{{ID: ids[2], Do: postrider.AmendHold}}}); err != nil {
		t.Fatal(err)
	}
	l, ok := b.claim()
	if !ok {
		t.Fatal("nothing is due")
	}
	reply := smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 7, Detail: 1}, Text: "greylisted"}
	b.settle(l, postrider.Change{Rcpt: l.Rcpts[0], State: postrider.Waiting, Due: time.Now().Add(time.Hour), Tries: 1, Reply: reply})
	all := b.s.Tally()
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	big, small := all[0], all[1]
	if big.Dest != destOf(addr("x@big.example")) || big.Queued != 2 || big.Deferred != 1 || big.Active+big.Held != 0 || big.Oldest.IsZero() ||
		!slices.Equal(big.Domains, []Domain{{"big.example", 3}}) || len(big.Replies) != 1 || big.Replies[0].Count != 1 ||
		fmt.Sprint(big.Replies[0].Reply) != fmt.Sprint(reply) {
		t.Errorf("the first: %+v", big)
	}
	if small.Held != 1 || small.waiting() != 1 || small.MoreDomains != 0 || len(small.Replies) != 0 {
		t.Errorf("the second: %+v", small)
	}
}

// By order of their sender wait those alone for whose release it is not yet time, and
// whom nobody has asked to go sooner.
func TestTallyOfReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var ids []postrider.ID
		for i := range 3 {
			release := time.Now().Add(time.Duration(i+1) * time.Hour)
			a, err := addition(b.s, "", []byte("x\r\n"), release, "a@big.example", "b@big.example")
			if a.Message != nil {
				a.Message.Release = release
			}
			if err == nil {
				err = b.s.Commit(t.Context(), postrider.Batch{Add: []postrider.Addition{a}})
			}
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, a.Message.ID)
		}
		ordered := func(want int) {
			t.Helper()
			if all := b.s.Tally(); len(all) != 1 || all[0].Queued != 6 || all[0].Ordered != want {
				t.Errorf("want %d by order of their sender: %+v", want, all)
			}
		}
		ordered(6)
		time.Sleep(time.Hour)
		ordered(4)
		now := postrider.Amendment{ID: ids[2], Rcpts: []int{0}, Do: postrider.AmendDue, Due: time.Now()}
		if err := b.s.Commit(t.Context(), postrider.Batch{Amend: []postrider.Amendment{now}}); err != nil {
			t.Fatal(err)
		}
		ordered(3)
		time.Sleep(2 * time.Hour)
		ordered(0)
		if err := b.s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

package spool

import (
	"fmt"
	"slices"
	"testing"
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

package spool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// An ID is what it was packed from, the order is that of the text, and what is no ID
// is refused.
func TestPackID(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	last, lastKey := postrider.ID(""), key{}
	for range 10_000 {
		b := make([]byte, 1+rnd.IntN(idLen))
		for i := range b {
			b[i] = idDigits[rnd.IntN(36)]
		}
		id := postrider.ID(b)
		k, ok := packID(id)
		if !ok || k.name() != id {
			t.Fatalf("%s comes back as %s, %v", id, k.name(), ok)
		}
		if last != "" && k.compare(lastKey) != strings.Compare(string(id), string(last)) {
			t.Fatalf("%s and %s are in another order", id, last)
		}
		last, lastKey = id, k
	}
	for _, id := range []postrider.ID{"", "A", "a-b", "000000000000000000001", "ä"} {
		if _, ok := packID(id); ok {
			t.Errorf("%q is an ID", id)
		}
	}
	b := newBench(t, vfs.NewMem())
	if _, err := b.s.Create(context.Background(), "UPPER"); err == nil {
		t.Error("a draft has an ID that is none")
	}
	b.s.Close(context.Background())
}

// Entries come and go in waves; each is found by its ID and its handle as long as it
// is there, and by neither after, though its place is another's.
func TestSlabIsAMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var b slab
	live, gone := map[key]handle{}, map[key]handle{}
	var order []key
	for wave := range 12 {
		for i := range 20_000 {
			if grow := wave%2 == 0; grow == (rnd.IntN(10) < 8) {
				k := key{rnd.Uint64N(1 << 52), uint64(wave*100_000 + i)}
				e := b.add(k)
				e.arrived = int64(k[1])
				live[k] = e.handle()
				order = append(order, k)
			} else if len(order) > 0 {
				j := rnd.IntN(len(order))
				k := order[j]
				order[j] = order[len(order)-1]
				order = order[:len(order)-1]
				gone[k] = live[k]
				delete(live, k)
				b.remove(b.findKey(k))
			}
		}
		n := 0
		b.each(func(e *entry) {
			if n++; live[e.id] != e.handle() {
				t.Fatalf("wave %d: an entry that was removed is there", wave)
			}
		})
		if n != len(live) || b.n != n {
			t.Fatalf("wave %d: %d entries, counted %d, want %d", wave, n, b.n, len(live))
		}
		for k, h := range live {
			if e := b.findKey(k); e == nil || e != b.at(h) || e.arrived != int64(k[1]) {
				t.Fatalf("wave %d: an entry is not found", wave)
			}
		}
		for k, h := range gone {
			if b.findKey(k) != nil || b.at(h) != nil {
				t.Fatalf("wave %d: an entry is found that was removed", wave)
			}
		}
	}
	if b.at(handle{}) != nil || b.at(handle{1 << 30, 1}) != nil {
		t.Error("an entry of no place")
	}
	for _, k := range order {
		b.remove(b.findKey(k))
	}
	pages := 0
	for _, pg := range b.pages {
		pages += btoi(pg != nil)
	}
	if b.n != 0 || pages > 2*emptyPages {
		t.Errorf("%d entries in %d pages are left", b.n, pages)
	}
	for range 3000 { // and it is used again
		b.add(key{rnd.Uint64N(1 << 52), rnd.Uint64N(1 << 52)})
	}
	b.sweep()
	if len(b.partial) > emptyPages*2 || b.n != 3000 {
		t.Errorf("%d pages have room, %d entries", len(b.partial), b.n)
	}
}

// Texts are kept once and as long as they are used, up to a bound.
func TestInterner(t *testing.T) {
	var in interner
	a, b := in.add([]byte("a"), 10), in.add([]byte("bb"), 10)
	if a == b || in.add([]byte("a"), 10) != a || in.text(a) != "a" || in.text(0) != "" || in.add(nil, 10) != 0 {
		t.Error("texts are mixed up")
	}
	if in.add([]byte("12345678"), 10) != 0 {
		t.Error("more than the bound is kept")
	}
	in.drop(a)
	if in.text(a) != "a" {
		t.Error("a text goes that is used")
	}
	in.drop(a)
	in.drop(0)
	if c := in.add([]byte("c"), 10); c != a || in.text(c) != "c" || in.size != 3 {
		t.Errorf("%d, %q, %d octets", c, in.text(c), in.size)
	}
}

// When there are too many texts of replies, their numbers stay.
func TestRepliesAreBounded(t *testing.T) {
	now := time.Now()
	s := ranked(&now)
	var r rcptState
	for i := range repliesMax / replyMax {
		s.setWhy(&r, smtp.Reply{Code: 451, Text: fmt.Sprintf("%d %0300d", i, 0)})
		r.why = 0 // of another recipient
	}
	s.setWhy(&r, smtp.Reply{Code: 450, Status: smtp.Status{Class: 4}, Text: strings.Repeat("new", 50)})
	d := decoder{b: []byte(s.replies.text(r.why))}
	if got := d.reply(); got.Code != 450 || got.Text != "" || s.replies.size > repliesMax+100 {
		t.Errorf("%v, %d octets", got, s.replies.size)
	}
}

// While a log is read, what is kept of messages that are gone does not grow, and
// what is kept of the others stays.
func TestRecoveredForgetsWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		stays := b.add([]byte("x"), "a@x.example", "b@y.example")
		for range 1500 {
			b.add(nil, "gone@x.example")
			l, ok := b.claim()
			for ok && l.ID == stays {
				l, ok = b.claim()
			}
			b.settle(l, delivered(0))
		}
		time.Sleep(time.Second)
		b.s.Close(context.Background())
		if err := b.fs.Remove("data/spool/index.snap"); err != nil {
			t.Fatal(err)
		}
		b.fs = b.fs.Kill()
		b.open()
		if n := cap(b.s.recovered.all); n != 0 {
			t.Errorf("%d are kept after the first Rekey", n)
		}
		got := map[postrider.Dest]bool{}
		for range 2 {
			l := b.mustClaimAny()
			got[l.Dest] = l.ID == stays
		}
		if !got["mx:x.example"] || !got["mx:y.example"] {
			t.Errorf("%v", got)
		}
		b.s.Close(context.Background())
	})
	now := time.Now()
	s := ranked(&now)
	var keep []handle
	for i := range 5000 {
		k, _ := packID(postrider.ID(fmt.Sprintf("%010d", i)))
		e := s.newEntry(k, 1)
		s.keepTos(e, &postrider.Message{Recipients: []postrider.Recipient{{To: smtp.Path{Local: fmt.Sprint(i), Domain: "x.example"}}}})
		if i%100 == 0 {
			keep = append(keep, e.handle())
		} else {
			s.forget(e)
		}
	}
	if n := len(s.recovered.all); n > 2*len(keep)+1024 {
		t.Errorf("%d are kept of %d", n, len(keep))
	}
	s.recovered.each(func(h handle, tos []smtp.Path) {
		e := s.slab.at(h)
		if e == nil {
			return
		}
		if want := strings.TrimLeft(string(e.id.name())[:9], "0") + string(e.id.name())[9:]; tos[0].Local != want {
			t.Fatalf("%s is kept for %s", tos[0].Local, e.id.name())
		}
		keep = slices.DeleteFunc(keep, func(k handle) bool { return k == h })
	})
	if len(keep) > 0 {
		t.Errorf("%d are lost", len(keep))
	}
}

// A message for thousands, in hundreds of domains: whatever part of it is amended or
// leased, each recipient that waits comes once, with those of its destination.
func TestManyRecipients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		const n, domains = 3000, 40
		rnd := rand.New(rand.NewPCG(5, 6))
		var to []string
		for i := range n {
			to = append(to, fmt.Sprintf("r%d@d%d.example", i, rnd.IntN(domains)))
		}
		id := b.add([]byte("x"), to...)
		var some []int
		for i := range n {
			if rnd.IntN(3) == 0 {
				some = append(some, i)
			}
		}
		b.amend(postrider.Amendment{ID: id, Rcpts: some, Do: postrider.AmendHold})
		b.amend(postrider.Amendment{ID: id, Rcpts: some[:len(some)/2], Do: postrider.AmendRelease})
		b.amend(postrider.Amendment{ID: id, Rcpts: []int{2999, 1500}, Do: postrider.AmendDue, Due: time.Now().Add(-time.Second)})
		came := map[int]bool{}
		for {
			l, ok := b.claim()
			if !ok {
				break
			}
			if l.Why == postrider.Wake { // as some were released
				b.settle(l)
				continue
			}
			if len(l.Rcpts) > 100 || !slices.IsSorted(l.Rcpts) {
				t.Fatalf("a lease of %v", l.Rcpts)
			}
			for _, i := range l.Rcpts {
				if came[i] || destOf(addr(to[i])) != l.Dest {
					t.Fatalf("recipient %d comes again, or for %s", i, l.Dest)
				}
				came[i] = true
			}
			var changes []postrider.Change
			for _, i := range l.Rcpts {
				changes = append(changes, delivered(i))
			}
			b.settle(l, changes...)
		}
		if want := n - (len(some) - len(some)/2); len(came) != want {
			t.Errorf("%d recipients came, want %d", len(came), want)
		}
		b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDrop})
		if st := b.s.Stat(); st.Messages != 0 || st.Recipients != 0 || len(b.s.dests) > 1 || len(b.s.many) > 0 || b.s.Waiting() != 0 || b.s.domains.size > 0 {
			t.Errorf("%+v, %d destinations and %d octets of domains are left", st, len(b.s.dests), b.s.domains.size)
		}
		b.s.Close(context.Background())
	})
}

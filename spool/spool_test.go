package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// A bench is a spool under test, small enough that everything happens often.
type bench struct {
	t      testing.TB
	fs     *vfs.Mem
	s      *Spool
	opened uint64
	mu     sync.Mutex // guards alarms
	alarms []string
}

func testOptions(fsys vfs.FS) Options {
	return Options{
		FS: fsys, Dir: "data/spool", Rand: rand.New(rand.NewPCG(1, 2)),
		SegmentSize: 8 << 10, SmallMax: 2 << 10, Slack: 16 << 10, SnapshotEvery: 6 << 10,
	}
}

func newBench(t testing.TB, fsys *vfs.Mem) *bench {
	b := &bench{t: t, fs: fsys}
	b.open()
	return b
}

func destOf(to smtp.Path) postrider.Dest {
	if to.Domain == "held.example" {
		return postrider.DestHold
	}
	return postrider.Dest("mx:" + to.Domain)
}

func (b *bench) open() {
	b.t.Helper()
	o := testOptions(b.fs)
	b.opened++
	o.Rand = rand.New(rand.NewPCG(1, b.opened))
	o.Alarm = func(text string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.alarms = append(b.alarms, text)
	}
	s, err := Open(context.Background(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.s = s
	s.Rekey(destOf)
}

func (b *bench) reopen() {
	b.t.Helper()
	if err := b.s.Close(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

func addr(s string) smtp.Path {
	local, domain, _ := strings.Cut(s, "@")
	return smtp.Path{Local: local, Domain: domain}
}

// addition drafts a message whose content is body.
func addition(s *Spool, id postrider.ID, body []byte, due time.Time, rcpts ...string) (postrider.Addition, error) {
	d, err := s.Create(context.Background(), id)
	if err != nil {
		return postrider.Addition{}, err
	}
	if _, err := d.Write(body); err != nil {
		d.Discard()
		return postrider.Addition{}, err
	}
	m := &postrider.Message{ID: d.ID(), From: addr("from@example.org"), EnvID: "e1", Arrived: time.Now(),
		Source: postrider.Source{Listener: "mx", Hello: "client.example", Protocol: "ESMTP"}}
	for _, r := range rcpts {
		m.Recipients = append(m.Recipients, postrider.Recipient{To: addr(r), Due: due, Notify: smtp.NotifyFailure})
	}
	head := []byte("Received: test\r\n")
	m.Size = int64(len(head) + len(body))
	return postrider.Addition{Draft: d, Message: m, Head: head, Wake: due.Add(time.Hour)}, nil
}

func (b *bench) add(body []byte, rcpts ...string) postrider.ID {
	b.t.Helper()
	a, err := addition(b.s, "", body, time.Now(), rcpts...)
	if err == nil {
		err = b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}})
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return a.Message.ID
}

// addUntil offers held messages until so many are taken, and returns those.
func (b *bench) addUntil(many int) (kept []postrider.ID) {
	b.t.Helper()
	for len(kept) < many {
		a, err := addition(b.s, "", make([]byte, 1500), time.Now(), "a@held.example")
		if err != nil {
			b.t.Fatal(err)
		}
		if b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}) == nil {
			kept = append(kept, a.Message.ID)
		} else {
			a.Draft.Discard()
		}
	}
	return kept
}

// claim returns the lease that is due now, and false when none is.
func (b *bench) claim() (postrider.Lease, bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Microsecond)
	defer cancel()
	l, err := b.s.Claim(ctx, 100)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		b.t.Fatal(err)
	}
	return l, err == nil
}

func (b *bench) mustClaim(why postrider.Why, rcpts ...int) postrider.Lease {
	b.t.Helper()
	l, ok := b.claim()
	if !ok || l.Why != why || fmt.Sprint(l.Rcpts) != fmt.Sprint(rcpts) {
		b.t.Fatalf("claim = %+v, %v; want why %d, recipients %v", l, ok, why, rcpts)
	}
	return l
}

func (b *bench) noClaim() {
	b.t.Helper()
	if l, ok := b.claim(); ok {
		b.t.Fatalf("claim = %+v, want none", l)
	}
}

func (b *bench) settle(l postrider.Lease, changes ...postrider.Change) {
	b.t.Helper()
	err := b.s.Commit(context.Background(), postrider.Batch{Lazy: true, Settle: []postrider.Settlement{{Lease: l, Changes: changes}}})
	if err != nil {
		b.t.Fatal(err)
	}
}

func delivered(i int) postrider.Change {
	return postrider.Change{Rcpt: i, State: postrider.Delivered, Reported: true, Tries: 1, Settled: time.Now(), Reply: smtp.OK, Remote: "mx.example"}
}

func failed(i int) postrider.Change {
	return postrider.Change{Rcpt: i, State: postrider.Failed, Tries: 1, Settled: time.Now(), Reply: smtp.Reply{Code: 550, Text: "no"}}
}

func deferred(i int, due time.Time) postrider.Change {
	return postrider.Change{Rcpt: i, Due: due, Tries: 1, Reply: smtp.Reply{Code: 451, Text: "later"}}
}

func readBody(t testing.TB, s *Spool, id postrider.ID) (*postrider.Message, []byte) {
	t.Helper()
	c, err := s.Open(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := io.ReadAll(c.Reader())
	if err != nil {
		t.Fatal(err)
	}
	body, ok := bytes.CutPrefix(all, c.Head())
	if !ok {
		t.Fatalf("content does not begin with its head")
	}
	return c.Message(), body
}

func TestAcceptDeliverForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		body := []byte("Subject: x\r\n\r\nhello\r\n")
		id := b.add(body, "a@x.example", "b@x.example", "c@y.example")
		m, got := readBody(t, b.s, id)
		if !bytes.Equal(got, body) || m.From != addr("from@example.org") || len(m.Recipients) != 3 || m.EnvID != "e1" {
			t.Fatalf("read back %q %+v", got, m)
		}
		l := b.mustClaim(postrider.Attempt, 0, 1) // the two of one destination are one parcel
		l2 := b.mustClaim(postrider.Attempt, 2)
		if l.Dest != "mx:x.example" || l2.Dest != "mx:y.example" || l.Again {
			t.Fatalf("leases %+v %+v", l, l2)
		}
		b.settle(l, delivered(0), deferred(1, time.Now().Add(time.Minute)))
		b.settle(l2, delivered(2))
		b.noClaim()
		m, _ = readBody(t, b.s, id)
		if r := m.Recipients[1]; r.Tries != 1 || r.Reply.Code != 451 || m.Recipients[0].State != postrider.Delivered {
			t.Fatalf("recipients %+v", m.Recipients)
		}
		b.reopen()
		b.noClaim()
		time.Sleep(time.Minute)
		l = b.mustClaim(postrider.Attempt, 1)
		if !l.Again {
			t.Error("a parcel that was tried before is not marked so")
		}
		b.settle(l, delivered(1))
		if _, err := b.s.Open(context.Background(), id); !errors.Is(err, postrider.ErrNotFound) {
			t.Fatalf("open after the end: %v", err)
		}
		b.reopen()
		if n := b.s.slab.n; n != 0 || b.s.waiting != 0 || len(b.alarms) > 0 {
			t.Fatalf("%d messages, %d waiting, alarms %q", n, b.s.waiting, b.alarms)
		}
		b.s.Close(context.Background())
	})
}

func TestLargeContentHasItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		body := bytes.Repeat([]byte("0123456789abcdef\r\n"), 20_000)
		id := b.add(body, "a@x.example")
		b.reopen()
		if _, got := readBody(t, b.s, id); !bytes.Equal(got, body) {
			t.Fatal("content differs")
		}
		b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		time.Sleep(time.Second)
		if list, _ := b.fs.ReadDir("data/spool/big"); len(list) != 0 {
			t.Fatalf("left in big: %v", list)
		}
		d, _ := b.s.Create(context.Background(), "")
		d.Write(body)
		d.Discard()
		if list, _ := b.fs.ReadDir("data/spool/big"); len(list) != 0 {
			t.Fatalf("a discarded draft is left in big: %v", list)
		}
		b.s.Close(context.Background())
	})
}

func TestLeaseIsAFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@x.example")
		l := b.mustClaim(postrider.Attempt, 0)
		b.settle(l, deferred(0, time.Now()))
		again := postrider.Batch{Lazy: true, Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(0)}}}}
		if err := b.s.Commit(context.Background(), again); !errors.Is(err, postrider.ErrLeaseLost) {
			t.Fatalf("second settlement of a lease: %v", err)
		}
		l = b.mustClaim(postrider.Attempt, 0)
		b.reopen()
		again.Settle[0].Lease = l
		if err := b.s.Commit(context.Background(), again); !errors.Is(err, postrider.ErrLeaseLost) {
			t.Fatalf("settlement of a lease of another life: %v", err)
		}
		l = b.mustClaim(postrider.Attempt, 0)
		err := b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: []postrider.Change{delivered(1)}}}})
		if err == nil {
			t.Fatal("a recipient that does not exist was settled")
		}
		b.settle(l, delivered(0))
		b.s.Close(context.Background())
	})
}

func TestPauseAndHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.s.Pause("mx:x.example", time.Now().Add(time.Minute))
		b.s.Pause("mx:y.example", time.Unix(1<<60, 0))
		b.add([]byte("x"), "a@x.example", "a@y.example", "a@held.example")
		b.noClaim()
		time.Sleep(time.Minute)
		b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		b.noClaim()
		b.s.Pause("mx:y.example", time.Time{})
		b.settle(b.mustClaim(postrider.Attempt, 1), delivered(1))
		b.noClaim()
		b.s.Rekey(func(smtp.Path) postrider.Dest { return "mx:free" })
		b.settle(b.mustClaim(postrider.Attempt, 2), delivered(2))
		b.s.Close(context.Background())
	})
}

func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.s.Pause("mx:x.example", time.Unix(1<<60, 0))
		id := b.add([]byte("x"), "a@x.example", "b@y.example")
		ly := b.mustClaim(postrider.Attempt, 1)
		b.noClaim()
		time.Sleep(time.Hour) // the wake of addition
		lw := b.mustClaim(postrider.Wake, 0)
		b.settle(ly, failed(1)) // owes a report, but a@x has not been tried
		b.noClaim()
		b.settle(lw, failed(0)) // the queue gave it up: a Wake lease does not wake by itself again
		b.noClaim()
		if b.s.entryOf(id).owed != 2 {
			t.Fatalf("owed %d", b.s.entryOf(id).owed)
		}
		b.reopen() // at start, what is owed wakes
		lw = b.mustClaim(postrider.Wake, 0, 1)
		report, err := addition(b.s, "00000000reportreport", []byte("report"), time.Now(), "from@z.example")
		if err != nil {
			t.Fatal(err)
		}
		c0, c1 := failed(0), failed(1)
		c0.Reported, c1.Reported = true, true
		err = b.s.Commit(context.Background(), postrider.Batch{
			Add:    []postrider.Addition{report},
			Settle: []postrider.Settlement{{Lease: lw, Changes: []postrider.Change{c0, c1}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.s.Open(context.Background(), id); !errors.Is(err, postrider.ErrNotFound) {
			t.Fatalf("the reported message: %v", err)
		}
		b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		b.s.Close(context.Background())
	})
}

func TestRipeWakesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@x.example", "b@y.example")
		lx, ly := b.mustClaim(postrider.Attempt, 0), b.mustClaim(postrider.Attempt, 1)
		b.settle(lx, failed(0))
		b.noClaim() // b is in its first attempt
		b.settle(ly, deferred(1, time.Now().Add(time.Hour)))
		lw := b.mustClaim(postrider.Wake, 0, 1)
		c := failed(0)
		c.Reported = true
		b.settle(lw, c)
		b.noClaim()
		b.s.Close(context.Background())
	})
}

func TestAmendMakesDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		b.settle(b.mustClaim(postrider.Attempt, 0), deferred(0, time.Now().Add(time.Hour)))
		b.noClaim()
		amend := func(id postrider.ID) error {
			return b.s.Commit(context.Background(), postrider.Batch{Amend: []postrider.Amendment{{ID: id, Due: time.Now()}}})
		}
		if err := amend(id); err != nil {
			t.Fatal(err)
		}
		b.reopen()
		b.mustClaim(postrider.Attempt, 0)
		if err := amend("nosuch"); !errors.Is(err, postrider.ErrNotFound) {
			t.Fatal(err)
		}
		b.s.Close(context.Background())
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		a, _ := addition(b.s, id, []byte("y"), time.Now(), "a@x.example")
		if err := b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); !errors.Is(err, postrider.ErrExists) {
			t.Fatalf("the same ID again: %v", err)
		}
		b.s.opt.MaxRecipients = 2
		a, _ = addition(b.s, "", []byte("y"), time.Now(), "a@x.example", "b@x.example")
		if err := b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); !errors.Is(err, postrider.ErrFull) {
			t.Fatalf("beyond the limit: %v", err)
		}
		if _, err := Open(context.Background(), testOptions(b.fs)); err == nil {
			t.Fatal("opened twice")
		}
		b.s.Close(context.Background())
		if err := b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); !errors.Is(err, postrider.ErrClosed) {
			t.Fatalf("commit after close: %v", err)
		}
		if _, err := b.s.Claim(context.Background(), 1); !errors.Is(err, postrider.ErrClosed) {
			t.Fatalf("claim after close: %v", err)
		}
	})
}

func TestFeedTellsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example", "b@y.example")
		b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		b.settle(b.mustClaim(postrider.Attempt, 1), deferred(1, time.Now()))
		b.settle(b.mustClaim(postrider.Attempt, 1), delivered(1))
		read := func(n int) (got []string) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			for ev, err := range b.s.Feed(ctx, "log") {
				if err != nil {
					break
				}
				got = append(got, fmt.Sprintf("%d %s %s", ev.Kind, ev.To, ev.State))
				if ev.ID != id || ev.From != addr("from@example.org") {
					t.Errorf("event %+v", ev)
				}
				if len(got) == n {
					break
				}
			}
			return got
		}
		want := []string{"1  waiting", "2 a@x.example delivered", "2 b@y.example waiting", "2 b@y.example delivered", "4  waiting"}
		if got := read(2); fmt.Sprint(got) != fmt.Sprint(want[:2]) {
			t.Fatalf("got %q", got)
		}
		b.reopen()
		// The event in hand was not acknowledged: it comes again.
		if got := read(10); fmt.Sprint(got) != fmt.Sprint(want[1:]) {
			t.Fatalf("after the break: %q", got)
		}
		if got := read(10); len(got) != 0 {
			t.Fatalf("read again: %q", got)
		}
		b.s.Close(context.Background())
	})
}

// A held message must not keep the log for ever.
func TestLogStaysShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		body := bytes.Repeat([]byte("held\r\n"), 100)
		held := b.add(body, "a@held.example")
		for i := range 400 {
			b.add(bytes.Repeat([]byte("x"), 600), fmt.Sprintf("a@d%d.example", i%7))
			l := b.mustClaim(postrider.Attempt, 0)
			b.settle(l, delivered(0))
			if i%50 == 0 {
				b.reopen()
			}
		}
		if st := b.s.Stat(); st.LogBytes > 64<<10 || st.Messages != 1 || st.Held != 1 {
			t.Fatalf("%+v", st)
		}
		if _, got := readBody(t, b.s, held); !bytes.Equal(got, body) {
			t.Fatal("the held message changed")
		}
		time.Sleep(time.Second)
		if list, _ := b.fs.ReadDir("data/spool/seg"); len(list) > 8 {
			t.Fatalf("%d segments are left", len(list))
		}
		b.reopen()
		if _, got := readBody(t, b.s, held); !bytes.Equal(got, body) || len(b.alarms) > 0 {
			t.Fatalf("the held message changed; alarms %q", b.alarms)
		}
		b.s.Close(context.Background())
	})
}

func TestReadOnlyBesideAndAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		look := func() {
			t.Helper()
			o := testOptions(b.fs)
			o.ReadOnly = true
			s, err := Open(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for m, err := range s.Scan(context.Background()) {
				if err != nil || m.ID != id {
					t.Fatalf("%+v %v", m, err)
				}
				n++
			}
			if n != 1 {
				t.Fatalf("%d messages", n)
			}
			if err := s.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		look()
		b.s.Close(context.Background())
		look()
	})
}

// People look for a message by the address that they wrote, too.
func TestFeedNamesWhatAnAliasWas(t *testing.T) {
	a := accepted{msg: &postrider.Message{Recipients: []postrider.Recipient{
		{To: addr("carol@x.example"), ORcpt: "rfc822;both+2B1@x.example"},
		{To: addr("dave@y.example"), ORcpt: "rfc822;both+2B1@x.example"},
		{To: addr("erin@y.example"), ORcpt: "rfc822;erin@y.example"},
		{To: addr("frank@y.example"), ORcpt: "x400;what"},
	}}}
	want := "[carol@x.example dave@y.example erin@y.example frank@y.example both+1@x.example]"
	if got := fmt.Sprint(a.named()); got != want {
		t.Errorf("named %s, want %s", got, want)
	}
	a.msg.Recipients = append(a.msg.Recipients, postrider.Recipient{To: addr("both+1@x.example"), Expanded: true})
	if a.given() != 3 || a.has() != 4 {
		t.Errorf("%d were given and there are %d, want 3 and 4", a.given(), a.has())
	}
}

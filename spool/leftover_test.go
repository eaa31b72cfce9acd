package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// What a message asks for is stored, be it the one thing that it asks for.
//
// RFC 3030 3: "If a receiver-SMTP does not indicate support the BINARYMIME message format
// then the sender-SMTP MUST NOT, under any circumstances, send binary data."
func TestEachAskedIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		since := time.Date(2014, 4, 3, 23, 1, 0, 0, time.UTC)
		all := map[postrider.ID]*postrider.Message{}
		for _, ask := range []func(m *postrider.Message){
			func(*postrider.Message) {},
			func(m *postrider.Message) { m.Binary = true },
			func(m *postrider.Message) { m.EightBit = true },
			func(m *postrider.Message) { m.UTF8 = true },
			func(m *postrider.Message) { m.By = smtp.DeliverBy{Seconds: 60, Mode: smtp.ByReturn} },
			func(m *postrider.Message) { m.By = smtp.DeliverBy{Seconds: -60, Mode: smtp.ByNotify, Trace: true} },
			func(m *postrider.Message) { m.Release, m.HoldFor = time.Now().Add(time.Hour), time.Hour },
			func(m *postrider.Message) { m.Priority = -3 },
			func(m *postrider.Message) { m.Auth = "a@example.org" },
			func(m *postrider.Message) { m.Solicit = "org.example:adv" },
			func(m *postrider.Message) { m.Recipients[1].RRVS = smtp.RRVS{Since: since} },
			func(m *postrider.Message) { m.Recipients[0].RRVS = smtp.RRVS{Since: since, Continue: true} },
		} {
			a, err := addition(b.s, "", []byte("x"), time.Now(), "a@held.example", "b@held.example")
			if err != nil {
				t.Fatal(err)
			}
			ask(a.Message)
			if err := b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); err != nil {
				t.Fatal(err)
			}
			all[a.Message.ID] = a.Message
		}
		b.reopen()
		asked := func(m *postrider.Message) string {
			return fmt.Sprintln(m.Binary, m.EightBit, m.UTF8, m.By, nanos(m.Release), m.HoldFor, m.Priority, m.Auth, m.Solicit, m.Recipients[0].RRVS, m.Recipients[1].RRVS)
		}
		for id, want := range all {
			if m, _ := readBody(t, b.s, id); asked(m) != asked(want) {
				t.Errorf("after a start a message asks for %s, and asked for %s", asked(m), asked(want))
			}
		}
		b.s.Close(context.Background())
	})
}

// Under a backlog that does not end a message is looked at when its time has come: its
// sender is told of a delay, and it expires.
func TestLooksUnderABacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@held.example")
		time.Sleep(2 * time.Hour)
		for n := range 100 {
			b.add([]byte("y"), "b@x.example") // there is always one that is due
			b.add([]byte("y"), "b@y.example")
			l := b.mustClaimAny()
			if l.ID == id && l.Why == postrider.Wake {
				b.s.Close(context.Background())
				return
			}
			b.settle(l, delivered(0))
			if n == 99 {
				t.Errorf("%d leases, and nobody has looked at the message", n+1)
			}
		}
		b.s.Close(context.Background())
	})
}

// What is needed of a message while it is attempted is not kept when it waits again: a
// large queue of deferred mail has little of each in memory.
func TestDeferredIsSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for range 30 {
			id := b.add([]byte("x"), "a@x.example", "b@y.example")
			la, lb := b.mustClaim(postrider.Attempt, 0), b.mustClaim(postrider.Attempt, 1)
			readBody(t, b.s, id) // as who attempts it does
			b.settle(la, deferred(0, time.Now().Add(10*time.Hour)))
			if e := b.s.entryOf(id); !e.out || b.s.outings[e.self] == nil {
				t.Fatal("one of two attempts is under way, and nothing is kept of it")
			}
			b.settle(lb, deferred(1, time.Now().Add(10*time.Hour)))
		}
		time.Sleep(2 * time.Hour)
		for range 30 { // and looked at
			b.settle(b.mustClaim(postrider.Wake, 0, 1))
		}
		if n := len(b.s.outings); n != 0 {
			t.Errorf("of %d messages it is kept what only an attempt needs", n)
		}
		b.s.Close(context.Background())
	})
}

// Destinations come and go: the table of them is as large as there were at a time.
func TestDestinationsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for n := range 200 {
			b.add([]byte("x"), fmt.Sprintf("a@d%d.example", n))
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		}
		if len(b.s.dests) != 0 || len(b.s.queues) > 5 {
			t.Errorf("%d destinations in a table of %d, after 200 one by one", len(b.s.dests), len(b.s.queues))
		}
		b.s.Close(context.Background())
	})
}

// A sector under the record of a message is bad. An operator can do with it what needs no
// address: release it, and drop it, and then it keeps no segment any more.
func TestUnreadableCanBeDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		at := b.spoil(id, 100)
		order := func(do postrider.Amend) {
			t.Helper()
			err := b.s.Commit(context.Background(), postrider.Batch{Amend: []postrider.Amendment{{ID: id, Do: do, Reply: bounceReply}}})
			if err != nil {
				t.Errorf("order %v: %v", do, err)
			}
		}
		order(postrider.AmendHold)
		b.noClaim()
		order(postrider.AmendRelease)
		if l, ok := b.claim(); !ok || l.ID != id {
			t.Errorf("released, and %+v is claimed", l)
		} else {
			b.settle(l) // given back
		}
		order(postrider.AmendDrop)
		if n := b.s.Stat().Messages; n != 0 {
			t.Errorf("dropped, and there are %d messages", n)
		}
		b.traffic(moveTries * moveWait)
		if n := b.s.segments[0].n; n <= at.seg.n {
			t.Errorf("the log still begins with segment %d", n)
		}
		b.reopen()
		if n := b.s.Stat().Messages; n != 0 {
			t.Errorf("after a start there are %d messages", n)
		}
		b.s.Close(context.Background())
	})
}

// A large message whose file cannot be opened for the moment is opened later, and nothing
// is held for those who failed: what is open is closed at the end.
func TestLargeFileCannotBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(large, "a@x.example", "b@held.example")
		b.settle(b.mustClaim(postrider.Attempt, 0), deferred(0, time.Now().Add(time.Hour)))
		for _, fails := range []error{syscall.EIO, syscall.EMFILE, syscall.ENFILE} {
			b.fs.SetHook(func(op vfs.Op) error {
				if op.Kind == vfs.OpOpen && path.Dir(op.Name) == "data/spool/big" {
					return fails
				}
				return nil
			})
			if _, err := b.s.Open(context.Background(), id); !errors.Is(err, fails) {
				t.Errorf("%v, want %v", err, fails)
			}
		}
		b.fs.SetHook(nil)
		if _, body := readBody(t, b.s, id); !bytes.Equal(body, large) {
			t.Errorf("%d octets", len(body))
		}
		b.s.Close(context.Background())
		if n := b.fs.Opened(); n != 0 {
			t.Errorf("%d files are open after the end", n)
		}
	})
}

// A content that is read apart from its record cannot be read for a while: it is moved
// when it can, whole.
func TestLongContentThatCannotBeReadForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, fs: vfs.NewMem()}
		o := testOptions(b.fs)
		o.SegmentSize, o.SmallMax, o.Slack, o.Rand = 64<<10, 48<<10, 64<<10, rand.New(rand.NewPCG(1, 9))
		o.Alarm = func(text string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.alarms = append(b.alarms, text)
		}
		var err error
		if b.s, err = Open(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		b.s.Rekey(destOf)
		body := sized(2 * readWhole)
		id := b.add(body, "a@held.example")
		at := b.s.placeOf(id)
		until := time.Now().Add((moveTries - 2) * moveWait)
		var refused atomic.Int64
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpRead && path.Base(op.Name) == segmentName(at.seg.n) && op.Off > at.off && op.Off < at.off+readFirst &&
				time.Now().Before(until) {
				refused.Add(1)
				return syscall.EIO
			}
			return nil
		})
		for range 4 { // 200 messages each
			b.traffic(moveTries * moveWait / 2)
		}
		if n := b.s.segments[0].n; n <= at.seg.n || refused.Load() == 0 {
			t.Errorf("the log begins with segment %d, after %d errors", n, refused.Load())
		}
		if _, err := b.content(id); err != nil || b.alarmed("is left behind") || b.s.stuck {
			t.Fatalf("%v, alarms %q", err, b.alarms)
		}
		if _, got := readBody(t, b.s, id); !bytes.Equal(got, body) {
			t.Errorf("%d octets of %d", len(got), len(body))
		}
		b.s.Close(context.Background())
	})
}

package spool

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// spoil makes a few octets of the record of a message unreadable, so far from its end.
func (b *bench) spoil(id postrider.ID, fromEnd int64) location {
	b.t.Helper()
	at := b.s.placeOf(id)
	size := int64(b.s.entryOf(id).recLen) << 3
	if err := b.fs.Spoil(path.Join("data/spool/seg", segmentName(at.seg.n)), at.off+size-fromEnd, 8); err != nil {
		b.t.Fatal(err)
	}
	b.s.fresh.forget(at)
	return at
}

// alarmed reports whether an alarm has said so.
func (b *bench) alarmed(what string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.alarms, func(a string) bool { return strings.Contains(a, what) })
}

// traffic is mail that comes and goes, for a while.
func (b *bench) traffic(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(d / 200) {
		b.add(make([]byte, 1000), "t@traffic.example")
		for {
			l, ok := b.claim()
			if !ok {
				break
			}
			if b.s.leases[l.Token] == nil || len(l.Rcpts) != 1 {
				b.t.Fatalf("lease %+v", l)
			}
			b.settle(l, delivered(0))
		}
	}
	synctest.Wait()
}

// events are those that a new reader of the feed hears.
func (b *bench) events() (all []postrider.Event) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for ev := range b.s.Feed(ctx, "events") {
		all = append(all, ev)
	}
	return all
}

// content reads a message, however far that goes.
func (b *bench) content(id postrider.ID) (m *postrider.Message, err error) {
	b.t.Helper()
	c, err := b.s.Open(context.Background(), id)
	if err != nil {
		b.t.Fatalf("open: %v", err)
	}
	defer c.Close()
	_, err = io.Copy(io.Discard, c.Reader())
	return c.Message(), err
}

// A sector under the content of a message goes bad. What the log knows of it is
// read, so that it can be attempted, expire, and be reported; a start needs no content;
// and it does not keep the log from getting shorter.
func TestBadSectorUnderAContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add(bytes.Repeat([]byte("x"), 1700), "a@x.example")
		other := b.add(make([]byte, 100), "b@held.example")
		at := b.spoil(id, 400)
		l := b.mustClaim(postrider.Attempt, 0)
		if m, err := b.content(id); !errors.Is(err, syscall.EIO) || m.Recipients[0].To != addr("a@x.example") || !b.alarmed("cannot be read") {
			t.Errorf("%+v, %v, alarms %q", m, err, b.alarms)
		}
		b.settle(l, deferred(0, time.Now().Add(100*time.Hour)))
		b.fs.Remove("data/spool/index.snap")
		b.next(b.fs.Kill())
		if m, err := b.content(id); !errors.Is(err, syscall.EIO) || m.Recipients[0].Tries != 1 {
			t.Errorf("after a start: %+v, %v", m, err)
		}
		if _, err := b.content(other); err != nil || b.s.Stat().Messages != 2 {
			t.Errorf("the other: %v, %d messages", err, b.s.Stat().Messages)
		}
		b.traffic(2 * moveTries * moveWait)
		if n := b.s.segments[0].n; n <= at.seg.n {
			t.Errorf("the log still begins with segment %d", n)
		}
		if m, err := b.content(id); !errors.Is(err, ErrDamaged) || m.Recipients[0].Tries != 1 || !b.alarmed("is left behind") {
			t.Errorf("after it was moved: %+v, %v, alarms %q", m, err, b.alarms)
		}
		if list, err := b.fs.ReadDir("data/spool/damaged"); err != nil || len(list) != 1 {
			t.Errorf("set aside: %v, %v", list, err)
		}
		b.s.Close(context.Background())
	})
}

// unreadable lets the disk not give what lies at a place, for so long.
func (b *bench) unreadable(at location, long time.Duration) {
	until := time.Now().Add(long)
	b.fs.SetHook(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && path.Base(op.Name) == segmentName(at.seg.n) && op.Off <= at.off && time.Now().Before(until) {
			return syscall.EIO
		}
		return nil
	})
}

// What cannot be read for a while is moved when it can, whole.
func TestContentThatCannotBeReadForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		body := bytes.Repeat([]byte("x"), 1700)
		id := b.add(body, "a@held.example")
		at := b.s.placeOf(id)
		b.unreadable(at, (moveTries-2)*moveWait)
		b.traffic(2 * moveTries * moveWait)
		if n := b.s.segments[0].n; n <= at.seg.n {
			t.Errorf("the log still begins with segment %d", n)
		}
		if _, got := readBody(t, b.s, id); !bytes.Equal(got, body) || b.alarmed("is left behind") || b.s.stuck {
			t.Errorf("%d octets, alarms %q", len(got), b.alarms)
		}
		b.s.Close(context.Background())
	})
}

// A sector under what the log says of a message goes bad. Nobody can be told; but who
// claims it gives it back, with another time or on hold, and holds nothing else up.
func TestBadSectorUnderARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		id := b.add([]byte("x"), "a@x.example")
		b.spoil(id, 100)
		for _, do := range []postrider.Amend{postrider.AmendDue, postrider.AmendHold} {
			l := b.mustClaim(postrider.Attempt, 0)
			if _, err := b.s.Open(context.Background(), id); !errors.Is(err, syscall.EIO) {
				t.Fatalf("%v", err)
			}
			due := time.Now().Add(15 * time.Minute)
			err := b.s.Commit(context.Background(), postrider.Batch{Lazy: true, Settle: []postrider.Settlement{{Lease: l}},
				Amend: []postrider.Amendment{{ID: id, Rcpts: l.Rcpts, Do: do, Due: due}}})
			if err != nil || len(b.s.leases) != 0 {
				t.Errorf("%v: %v, %d leases", do, err, len(b.s.leases))
			}
			b.noClaim()
			time.Sleep(time.Until(due))
		}
		b.noClaim() // on hold
		if err := b.s.Commit(context.Background(), postrider.Batch{Amend: []postrider.Amendment{{ID: id, Do: postrider.AmendPass}}}); !errors.Is(err, syscall.EIO) {
			t.Errorf("what needs an address: %v", err)
		}
		evs := b.events()
		for _, ev := range evs {
			if ev.Kind == postrider.EventAmended && (ev.ID != id || !ev.To.IsNull()) {
				t.Errorf("%+v", ev)
			}
		}
		b.s.Close(context.Background())
	})
}

// A start reads what it must beside a sector that it need not.
func TestStartReadsPastABadSector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var ids []postrider.ID
		for range 12 {
			ids = append(ids, b.add(bytes.Repeat([]byte("x"), 1700), "a@held.example"))
		}
		for i := 0; i < len(ids); i += 2 {
			b.spoil(ids[i], 400)
		}
		b.s.Close(context.Background())
		b.fs.Remove("data/spool/index.snap")
		b.open()
		for i, id := range ids {
			if _, err := b.content(id); errors.Is(err, syscall.EIO) != (i%2 == 0) {
				t.Errorf("message %d: %v", i, err)
			}
		}
		if n := len(b.events()); n < len(ids) {
			t.Errorf("the feed tells of %d events", n)
		}
		b.s.Close(context.Background())
	})
}

// What the disk did not give for a while, and then did, is believed the next time too:
// tries of long ago do not count against it, and it moves again and again, whole.
func TestContentThatCannotBeReadNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		body := bytes.Repeat([]byte("x"), 1700)
		id := b.add(body, "a@held.example")
		for round := range 3 {
			at := b.s.placeOf(id)
			b.unreadable(at, (moveTries-2)*moveWait)
			b.traffic(2 * moveTries * moveWait)
			if b.s.placeOf(id).seg == at.seg {
				t.Fatalf("round %d: it was not moved", round)
			}
			if _, got := readBody(t, b.s, id); !bytes.Equal(got, body) || b.alarmed("is left behind") || b.alarmed("cannot be read") {
				t.Errorf("round %d: %d octets, alarms %q", round, len(got), b.alarms)
			}
		}
		b.s.Close(context.Background())
	})
}

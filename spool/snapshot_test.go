package spool

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// dump writes the index down, without the order of its maps and the LSNs.
func (b *bench) dump() string {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	var lines []string
	waits := 0
	b.s.slab.each(func(e *entry) {
		loc := b.s.location(e.at)
		line := fmt.Sprintf("%s at %d/%d len %d wake %d open %d untried %d owed %d big %v:", e.id.name(), loc.seg.n, loc.off, e.recLen,
			e.wake, e.open, e.untried, e.owed, e.big)
		for _, r := range b.s.rcpts(e) {
			if r.state == postrider.Waiting {
				waits++
			}
			where := "-"
			if last := b.s.location(r.last); last.seg != nil {
				where = fmt.Sprintf("%d/%d", last.seg.n, last.off)
			}
			line += fmt.Sprintf(" [%s due %d tries %d reported %v held %v queued %v last %s]", r.state, r.due, r.tries, r.is.has(isReported), r.is.has(isHeld), r.pos != posNone, where)
			line += fmt.Sprintf("%v, late %v, in %s, heard %q", r.is.has(isPassed), r.is.has(isDelayed), b.s.domains.text(r.domain), b.s.replies.text(r.why))
		}
		lines = append(lines, line)
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n") + fmt.Sprintf("\nwaiting %d, counted %d, live %d", b.s.waiting, waits, b.s.liveBytes)
}

// mix does something random to a spool.
func (b *bench) mix(rng *rand.Rand) {
	switch rng.IntN(8) {
	case 0, 1, 2:
		var to []string
		for i := range 1 + rng.IntN(3) {
			to = append(to, fmt.Sprintf("r%d@d%d.example", i, rng.IntN(4)))
		}
		b.add(bytes.Repeat([]byte("x"), rng.IntN(3000)), to...)
	case 3:
		if all := b.s.names(); len(all) > 0 {
			b.amend(postrider.Amendment{ID: all[rng.IntN(len(all))], Do: postrider.Amend(rng.IntN(6)), Due: time.Now(), Reply: bounceReply})
		}
	default:
		l, ok := b.claim()
		if !ok {
			time.Sleep(time.Second)
			return
		}
		var changes []postrider.Change
		for _, i := range l.Rcpts {
			c := []postrider.Change{delivered(i), failed(i), deferred(i, time.Now().Add(time.Duration(rng.IntN(5))*time.Second))}[rng.IntN(3)]
			c.Delayed = len(l.Rcpts) > 1
			c.Reported = c.State != postrider.Waiting && (l.Why == postrider.Wake || rng.IntN(2) == 0)
			changes = append(changes, c)
		}
		b.settle(l, changes...)
	}
}

// An index that comes from a snapshot and the rest of the log is the same as one
// that comes from the log alone.
func TestSnapshotIsTheLog(t *testing.T) {
	used := 0
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			b.opened = 1000 * (seed + 1)
			rng := rand.New(rand.NewPCG(seed, 1))
			for range 150 {
				b.mix(rng)
			}
			synctest.Wait()
			b.s.Close(context.Background())
			if _, err := b.fs.Stat("data/spool/index.snap"); err == nil {
				used++
			}
			b.open()
			with := b.dump()
			b.s.Close(context.Background())
			b.fs.Remove("data/spool/index.snap")
			b.open()
			if without := b.dump(); with != without || len(b.alarms) > 0 {
				t.Errorf("seed %d: alarms %q, and without a snapshot\n%s", seed, b.alarms, different(with, without))
			}
			b.s.Close(context.Background())
		})
	}
	if used < 30 {
		t.Errorf("only %d of 60 runs took a snapshot", used)
	}
}

// different returns the lines of two texts that the other does not have.
func different(a, b string) string {
	var out []string
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, l := range as {
		if !slices.Contains(bs, l) {
			out = append(out, "- "+l)
		}
	}
	for _, l := range bs {
		if !slices.Contains(as, l) {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out, "\n")
}

// What lies before the mark is not read at a start.
func TestSnapshotSparesReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for range 60 {
			b.add(bytes.Repeat([]byte("x"), 600), "a@held.example")
			synctest.Wait() // for a snapshot that was begun
		}
		b.s.Close(context.Background())
		read := 0
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, "0000000001.seg") && op.Len > segmentHeaderLen {
				read++
			}
			return nil
		})
		b.open()
		b.fs.SetHook(nil)
		if b.s.slab.n != 60 || read > 0 {
			t.Errorf("%d messages, the first segment was read %d times", b.s.slab.n, read)
		}
		b.s.Rekey(func(smtp.Path) postrider.Dest { return "free" }) // the addresses are known, and are read again later
		for range 60 {
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		}
		b.s.Close(context.Background())
	})
}

// A snapshot that is wrong costs time and nothing else.
func TestBadSnapshotIsLeft(t *testing.T) {
	for _, cut := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			for range 60 {
				b.add(bytes.Repeat([]byte("x"), 600), "a@x.example")
			}
			synctest.Wait()
			b.s.Close(context.Background())
			f, err := b.fs.OpenFile("data/spool/index.snap", os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			st, _ := f.Stat()
			if cut {
				f.Truncate(st.Size() / 2)
			} else {
				f.WriteAt([]byte("damage"), st.Size()/2)
			}
			f.Close()
			b.open()
			if b.s.slab.n != 60 || len(b.alarms) != 1 || !strings.Contains(b.alarms[0], "the whole log is read") {
				t.Errorf("%d messages, alarms %q", b.s.slab.n, b.alarms)
			}
			b.s.Close(context.Background())
		})
	}
}

// What cannot be read any more keeps its segment. A start sets it aside, and no
// snapshot hides it from that.
func TestUnreadableIsSetAsideAtTheNextStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		bad := b.add([]byte("x"), "a@held.example")
		at := b.s.placeOf(bad)
		at.seg.f.WriteAt([]byte("damage"), at.off+headerLen)
		for range 120 {
			b.add(bytes.Repeat([]byte("x"), 600), "a@x.example")
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			synctest.Wait()
		}
		if !strings.Contains(strings.Join(b.alarms, "\n"), "restart") {
			t.Fatalf("alarms %q", b.alarms)
		}
		b.reopen()
		if list, _ := b.fs.ReadDir("data/spool/damaged"); len(list) != 1 {
			t.Errorf("damaged holds %v", list)
		}
		for range 40 {
			b.add(bytes.Repeat([]byte("x"), 600), "a@x.example")
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			synctest.Wait()
		}
		if list, _ := b.fs.ReadDir("data/spool/seg"); len(list) > 6 {
			t.Errorf("%d segments are left", len(list))
		}
		b.s.Close(context.Background())
	})
}

// A segment that was never begun, for the process died as it made it, is no
// reason to read the whole log.
func TestSnapshotKnowsAnEmptySegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@held.example")
		b.s.Close(context.Background())
		f, err := b.fs.OpenFile("data/spool/seg/0000000002.seg", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		b.open()
		for range 60 {
			b.add(bytes.Repeat([]byte("x"), 600), "a@held.example")
			synctest.Wait()
		}
		b.reopen()
		if len(b.alarms) > 0 || b.s.slab.n != 61 {
			t.Errorf("%d messages, alarms %q", b.s.slab.n, b.alarms)
		}
		b.s.Close(context.Background())
	})
}

// A message whose record can no longer be read is for the next start to set aside,
// which reads the whole log for it: no snapshot is left, also after a power cut.
func TestNoSnapshotSparesTheReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for range 12 {
			b.add(make([]byte, 1000), "a@held.example")
			synctest.Wait()
		}
		if _, err := b.fs.Image(vfs.KeepNone).Stat("data/spool/index.snap"); err != nil {
			t.Fatal(err)
		}
		b.rot(places(b.s)[1])
		for n := 0; !strings.Contains(strings.Join(b.alarms, "\n"), "restart"); n++ {
			if n == 80 {
				t.Fatal("nobody is told")
			}
			b.add(make([]byte, 1000), "a@x.example")
			b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			time.Sleep(2 * lazySyncTime)
			synctest.Wait()
		}
		for range 20 {
			b.add(make([]byte, 1000), "a@held.example")
			synctest.Wait()
			if _, err := b.fs.Image(vfs.KeepNone).Stat("data/spool/index.snap"); err == nil {
				t.Fatalf("there is a snapshot after %q", b.alarms)
			}
		}
		b.s.Close(context.Background())
		b.alarms = nil
		b.open()
		if n := len(b.s.names()); n != 31 || !strings.Contains(strings.Join(b.alarms, "\n"), "damaged") {
			t.Errorf("%d messages after the start, the operator heard %q", n, b.alarms)
		}
		b.s.Close(context.Background())
	})
}

// A snapshot may turn out to be wrong when some of it is in the index already. Nothing
// of that stays: each message has what the log says, and its own queues.
func TestSnapshotIsLeftHalfway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "gone@a.example")
		for i := range 20 {
			b.add(bytes.Repeat([]byte("x"), 600), fmt.Sprintf("a@d%d.example", i), fmt.Sprintf("b@e%d.example", i))
			b.add(bytes.Repeat([]byte("x"), 600), fmt.Sprintf("c@f%d.example", i))
			if i == 0 { // so that the log gives other numbers to those that are left
				b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
			}
			synctest.Wait()
		}
		want := b.dump()
		b.s.Close(context.Background())
		f, err := b.fs.OpenFile("data/spool/index.snap", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		st, _ := f.Stat()
		sc := &scanner{f: f, epoch: snapshotEpoch, size: st.Size(), lsn: 1}
		for {
			rec, err := sc.next()
			if err != nil {
				t.Fatal(err)
			}
			if rec.kind == kindSnapEnd { // says that there are more
				f.WriteAt(appendRecord(nil, kindSnapEnd, snapshotEpoch, rec.lsn, []byte{rec.meta[0] + 1}, nil), rec.off)
				break
			}
		}
		f.Close()
		b.open()
		if got := b.dump(); got != want {
			t.Errorf("the index is not what it was:\n%s", different(want, got))
		}
		if len(b.alarms) != 1 || !b.alarmed("the whole log is read") {
			t.Errorf("alarms %q", b.alarms)
		}
		b.s.Close(context.Background())
	})
}

// A segment that was removed before a snapshot was taken may be there again after a
// power cut. It is removed once more, and takes no room for ever.
func TestSegmentOfBeforeTheSnapshotIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const name = "data/spool/seg/0000000001.seg"
		b := newBench(t, vfs.NewMem())
		b.add([]byte("x"), "a@x.example")
		b.settle(b.mustClaim(postrider.Attempt, 0), delivered(0))
		if err := b.fs.Link(name, "data/kept"); err != nil {
			t.Fatal(err)
		}
		b.traffic(time.Minute)
		if _, err := b.fs.Stat(name); err == nil {
			t.Fatal("the first segment was not removed")
		}
		b.s.Close(context.Background())
		if err := b.fs.Rename("data/kept", name); err != nil {
			t.Fatal(err)
		}
		b.open()
		synctest.Wait()
		if _, err := b.fs.Stat(name); err == nil || len(b.alarms) > 0 {
			t.Errorf("the segment is there: %v, alarms %q", err == nil, b.alarms)
		}
		b.s.Close(context.Background())
	})
}

package journal

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

func addr(s string) smtp.Path {
	local, domain, _ := strings.Cut(s, "@")
	return smtp.Path{Local: local, Domain: domain}
}

// A bench is a journal under test, small enough that everything happens often.
type bench struct {
	t      testing.TB
	fs     vfs.FS
	j      *Journal
	mu     sync.Mutex
	alarms []string
}

func (b *bench) open(readOnly bool) *Journal {
	b.t.Helper()
	j, err := Open(context.Background(), Options{FS: b.fs, Dir: "data/journal", PartSize: 2 << 10, ReadOnly: readOnly, Alarm: func(text string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.alarms = append(b.alarms, text)
	}})
	if err != nil {
		b.t.Fatal(err)
	}
	return j
}

func newBench(t testing.TB, fsys vfs.FS) *bench {
	b := &bench{t: t, fs: fsys}
	b.j = b.open(false)
	return b
}

// batches is a feed that ends.
func batches(all ...[]postrider.Event) iter.Seq2[[]postrider.Event, error] {
	return func(yield func([]postrider.Event, error) bool) {
		for _, evs := range all {
			if !yield(evs, nil) {
				return
			}
		}
	}
}

func (b *bench) run(all ...[]postrider.Event) {
	b.t.Helper()
	if err := b.j.Run(context.Background(), batches(all...)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) close() {
	b.t.Helper()
	if err := b.j.Close(); err != nil {
		b.t.Error(err)
	}
}

func where(t testing.TB, j *Journal, query string, limit int) [][]postrider.Event {
	t.Helper()
	var all [][]postrider.Event
	for evs, err := range j.Where(context.Background(), query, limit) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, evs)
	}
	return all
}

// life makes the events of message n: accepted, deferred, and delivered to a and
// failed for b, reported and removed. They take four LSNs from lsn on.
func life(n int, lsn uint64, at time.Time) []postrider.Event {
	id := postrider.ID(fmt.Sprintf("%020d", n))
	from := addr("sender@example.org")
	tos := []smtp.Path{addr(fmt.Sprintf("rcpt%d@x.example", n)), addr("other@y.example")}
	src := postrider.Source{Listener: "mx", Peer: netip.MustParseAddrPort("192.0.2.1:99"), Hello: "client.example", Protocol: "ESMTP", TLS: "TLS 1.3"}
	ev := func(lsn uint64, kind postrider.EventKind, d time.Duration) postrider.Event {
		return postrider.Event{LSN: lsn, Time: at.Add(d), Kind: kind, ID: id, From: from, Arrived: at}
	}
	accepted := ev(lsn, postrider.EventAccepted, 0)
	accepted.Size, accepted.Source, accepted.HeaderID, accepted.Tos = 1234, src, fmt.Sprintf("m%d@example.org", n), tos
	rcpt := func(lsn uint64, i int, st postrider.State, text string) postrider.Event {
		e := ev(lsn, postrider.EventRecipient, time.Duration(lsn)*time.Millisecond)
		e.Rcpt, e.To, e.State, e.Tries, e.Dest, e.Remote = i, tos[i], st, 1, "mx:x.example", "mx.x.example"
		e.Reply = smtp.Reply{Code: 250, Status: smtp.Status{Class: 2}, Text: text}
		return e
	}
	late := rcpt(lsn+1, 0, postrider.Waiting, "later\nplease")
	late.Next = at.Add(time.Minute)
	reported := ev(lsn+3, postrider.EventReported, time.Second)
	reported.Report = postrider.ID(fmt.Sprintf("r%019d", n))
	return []postrider.Event{accepted, late, rcpt(lsn+1, 1, postrider.Failed, "no"), rcpt(lsn+2, 0, postrider.Delivered, "ok"),
		reported, ev(lsn+3, postrider.EventRemoved, time.Second)}
}

// same compares events, times as instants.
func same(t testing.TB, what string, got, want []postrider.Event) {
	t.Helper()
	opts := cmp.Options{cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}
	if d := cmp.Diff(want, got, opts); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func TestWhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var lives [][]postrider.Event
		for n := range 40 {
			lives = append(lives, life(n, uint64(1+10*n), time.Now()))
			b.run(lives[n])
			time.Sleep(time.Hour)
		}
		report := life(100, 1000, time.Now())
		for i := range report {
			report[i].ID, report[i].From, report[i].Report = lives[7][4].Report, smtp.Path{}, ""
		}
		b.run(report)
		check := func(j *Journal) {
			t.Helper()
			for _, q := range []string{string(lives[7][0].ID), "<m7@example.org>", "m7@example.org", "RCPT7@X.Example", `<"rcpt7"@x.example>`,
				" rcpt7@x.example ", string(report[0].ID)} {
				got := where(t, j, q, 0)
				if len(got) != 2 {
					t.Fatalf("%s: %d messages", q, len(got))
				}
				same(t, q, got[0], lives[7])
				same(t, q+", the report", got[1], report)
			}
			if got := where(t, j, "sender@example.org", 0); len(got) != 41 {
				t.Errorf("the sender has %d messages", len(got))
			}
			got := where(t, j, "sender@example.org", 3)
			if len(got) != 3 {
				t.Fatalf("the last three are %d", len(got))
			}
			for i := range got {
				same(t, "of the last three", got[i], lives[37+i])
			}
			for _, q := range []string{"", "<>", "nobody@x.example", "m7@example.or", "0"} {
				if got := where(t, j, q, 0); len(got) != 0 {
					t.Errorf("%q finds %v", q, got)
				}
			}
		}
		check(b.j)
		if len(b.j.files) < 10 || b.j.files[0].day == b.j.files[len(b.j.files)-1].day {
			t.Errorf("files %v", b.j.files)
		}
		ro := b.open(true)
		check(ro)
		ro.Close()
		b.close()
		list, _ := b.fs.ReadDir("data/journal")
		for _, e := range list { // an index that is gone, or damaged, is made anew
			name := "data/journal/" + e.Name()
			if strings.HasSuffix(name, "0001.idx") {
				b.fs.Remove(name)
			} else if strings.HasSuffix(name, ".idx") {
				flip(t, b.fs, name, 4096+8)
			}
		}
		for range 2 {
			b.j = b.open(false)
			check(b.j)
			b.close()
		}
		if len(b.alarms) > 0 {
			t.Errorf("alarms %q", b.alarms)
		}
	})
}

// flip changes one octet of a file.
func flip(t testing.TB, fsys vfs.FS, name string, off int64) {
	t.Helper()
	f, err := fsys.OpenFile(name, 2, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// What the feed tells again is not written again; what another spool tells under
// the same LSNs is.
func TestToldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		one, two := life(1, 1, time.Now()), life(2, 5, time.Now())
		b.run(one, two)
		size := b.j.size
		b.run(two) // what was in hand when Run ended
		b.close()
		b.j = b.open(false)
		b.run(one, two)
		if b.j.size != size {
			t.Errorf("%d octets became %d", size, b.j.size)
		}
		other := life(3, 1, time.Now().Add(time.Hour))
		b.run(other)
		for i, want := range [][]postrider.Event{one, two, other} {
			got := where(t, b.j, string(want[0].ID), 0)
			if len(got) != 1 {
				t.Fatalf("message %d is there %d times", i, len(got))
			}
			same(t, "again", got[0], want)
		}
		b.close()
	})
}

// A batch is acknowledged when it is durable, and not before.
func TestAcknowledgedIsDurable(t *testing.T) {
	for stop := range 8 {
		synctest.Test(t, func(t *testing.T) {
			fsys := vfs.NewMem()
			b := newBench(t, fsys)
			var lives [][]postrider.Event
			feed := func(yield func([]postrider.Event, error) bool) {
				for n := range stop + 1 {
					lives = append(lives, life(n, uint64(1+10*n), time.Now()))
					if !yield(lives[n], nil) {
						t.Error("the feed was left")
					}
				}
				fsys = fsys.Crash(vfs.KeepNone)
			}
			if err := b.j.Run(context.Background(), feed); err != nil {
				t.Error(err)
			}
			after := newBench(t, fsys)
			got := where(t, after.j, "sender@example.org", 0)
			if len(got) != len(lives) {
				t.Fatalf("%d of %d batches are there", len(got), len(lives))
			}
			for n := range got {
				same(t, "after a crash", got[n], lives[n])
			}
			after.close()
		})
	}
}

// An address is found in every spelling of its domain.
func TestWhereSpellings(t *testing.T) {
	fsys := vfs.NewMem()
	j, err := Open(t.Context(), Options{FS: fsys, Dir: "data/journal", Spellings: func(domain string) []string {
		if domain == "nowhere" {
			return nil
		}
		return []string{"xn--bcher-kva.example", "b\u00fccher.example"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	evs := life(1, 1, time.Now())
	evs[0].From = addr("ann@b\u00fccher.example")
	other := life(2, 10, time.Now())
	other[0].From = addr("ann@xn--bcher-kva.example")
	if err := j.Run(t.Context(), batches(evs, other)); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]int{"ann@B\u00fccher.example": 2, "<ann@XN--bcher-kva.example>": 2, "bob@b\u00fccher.example": 0, "ann@nowhere": 0} {
		if got := where(t, j, query, 0); len(got) != want {
			t.Errorf("%s: %d messages, want %d", query, len(got), want)
		}
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

func TestRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		ev := postrider.Event{From: addr("spam@z.example"), Tos: []smtp.Path{addr("bob@x.example")}, Reply: smtp.Reply{Code: 550, Text: "no"}, Time: time.Now()}
		for i := range refusedMax + 5 {
			ev.Reply.Code = 550 + i%2
			b.j.Refuse(ev)
		}
		if n := b.j.Dropped(); n != 5 {
			t.Errorf("dropped %d", n)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		go b.j.Refuse(ev)
		err := b.j.Run(ctx, func(yield func([]postrider.Event, error) bool) {
			yield(life(1, 1, time.Now()), nil)
			<-ctx.Done()
			yield(nil, ctx.Err())
		})
		if err != nil {
			t.Error(err)
		}
		if got := where(t, b.j, "bob@x.example", 2000); len(got) < refusedMax {
			t.Errorf("%d refusals", len(got))
		}
		got := where(t, b.j, "bob@x.example", 10)
		if len(got) != 10 || len(got[0]) != 1 || got[0][0].Kind != postrider.EventRefused || got[0][0].Reply.Text != "no" {
			t.Errorf("got %v", got)
		}
		b.close()
	})
}

// Files go when they are too old, and the oldest while there is too much.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.j.opt.Keep = 10 * 24 * time.Hour
		for n := range 30 {
			b.run(life(n, uint64(1+10*n), time.Now()))
			time.Sleep(24 * time.Hour)
		}
		if n := len(where(t, b.j, "sender@example.org", 0)); n != 11 {
			t.Errorf("%d days are kept", n)
		}
		list, _ := b.fs.ReadDir("data/journal")
		if len(list) != 11+10+1 { // data, indexes, the lock
			t.Errorf("%d files", len(list))
		}
		last := b.j.files[len(b.j.files)-1]
		b.j.opt.MaxSize = 3*last.size + 3*(2*blockLen)
		b.j.expire()
		if n := len(where(t, b.j, "sender@example.org", 0)); n != 3 {
			t.Errorf("%d days are kept", n)
		}
		b.j.opt.MaxSize = 1
		b.j.expire()
		if len(b.j.files) != 1 {
			t.Errorf("%d files", len(b.j.files))
		}
		b.close()
	})
}

// Damage in the middle costs what it hits, and is said.
func TestDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		for n := range 3 {
			b.run(life(n, uint64(1+10*n), time.Now()))
		}
		b.close()
		flip(t, b.fs, b.j.dataName(b.j.files[0]), 40) // accepted 0
		b.j = b.open(false)
		if len(b.alarms) != 1 {
			t.Errorf("alarms %q", b.alarms)
		}
		want := life(0, 1, time.Now())
		got := where(t, b.j, string(want[0].ID), 0)
		if len(got) != 1 || len(got[0]) != 5 {
			t.Errorf("got %v", got)
		}
		if got := where(t, b.j, "sender@example.org", 0); len(got) != 3 {
			t.Errorf("got %d", len(got))
		}
		b.close()
	})
}

// One process writes.
func TestLocked(t *testing.T) {
	b := newBench(t, vfs.NewMem())
	if _, err := Open(context.Background(), Options{FS: b.fs, Dir: "data/journal"}); err == nil {
		t.Error("opened twice")
	}
	b.close()
	b.j = b.open(false)
	b.close()
}

// A read-only journal takes what is not written from the feed, into memory.
func TestReadOnlyBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		one := life(1, 1, time.Now())
		b.run(one[:3])
		ro := b.open(true)
		if err := ro.Run(context.Background(), batches(one)); err != nil {
			t.Fatal(err)
		}
		got := where(t, ro, "m1@example.org", 0)
		if len(got) != 1 {
			t.Fatalf("%d messages", len(got))
		}
		same(t, "with what is behind", got[0], one)
		ro.Close()
		b.close()
		empty := &bench{t: t, fs: vfs.NewMem()}
		ro = empty.open(true)
		if got := where(t, ro, "x@y.example", 0); got != nil {
			t.Errorf("got %v", got)
		}
		ro.Close()
		if _, err := empty.fs.Stat("data"); err == nil {
			t.Error("reading has made a folder")
		}
	})
}

// A disk that fails is tried again, in another file, and nothing is lost or twice.
func TestDiskFails(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpCreate} {
		synctest.Test(t, func(t *testing.T) {
			fsys := vfs.NewMem()
			b := newBench(t, fsys)
			var mu sync.Mutex
			failing := 0
			fsys.SetHook(func(op vfs.Op) error {
				mu.Lock()
				defer mu.Unlock()
				if op.Kind == kind && failing > 0 {
					failing--
					return errDisk
				}
				return nil
			})
			var lives [][]postrider.Event
			for n := range 12 {
				mu.Lock()
				failing = n % 4
				mu.Unlock()
				lives = append(lives, life(n, uint64(1+10*n), time.Now()))
				b.run(lives[n])
			}
			all := where(t, b.j, "sender@example.org", 0)
			if len(all) != len(lives) {
				t.Fatalf("%v: %d messages", kind, len(all))
			}
			for i := range all {
				same(t, kind.String(), all[i], lives[i])
			}
			if len(b.alarms) == 0 || !slices.ContainsFunc(b.alarms, func(s string) bool { return strings.Contains(s, "again") }) {
				t.Errorf("%v: alarms %q", kind, b.alarms)
			}
			b.close()
		})
	}
}

var errDisk = fmt.Errorf("the disk is on fire")

package spool

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// scanned counts what a scan of the disk says, as Stat does.
func (b *bench) scanned() (st Stat) {
	b.t.Helper()
	active := map[postrider.ID]map[int]bool{}
	b.s.mu.Lock()
	for _, l := range b.s.leases {
		for _, i := range l.rcpts {
			if active[l.id] == nil {
				active[l.id] = map[int]bool{}
			}
			active[l.id][int(i)] = true
		}
	}
	b.s.mu.Unlock()
	for m, err := range b.s.Scan(context.Background()) {
		if err != nil {
			b.t.Fatal(err)
		}
		st.Messages++
		if st.Oldest.IsZero() || m.Arrived.Before(st.Oldest) {
			st.Oldest = m.Arrived
		}
		for i := range m.Recipients {
			r := &m.Recipients[i]
			if r.State != postrider.Waiting {
				continue
			}
			st.Recipients++
			dest := destOf(r.To)
			if r.Passed {
				dest = dest.Past(r.To)
			}
			switch {
			case active[m.ID][i]:
				st.Active++
			case r.Held || dest == postrider.DestHold:
				st.Held++
			case r.Tries > 0:
				st.Deferred++
			}
		}
	}
	return st
}

// What is counted along the way is what a look at each message finds, after whatever
// was done, and after a start from the log or a snapshot.
func TestStatIsTheScan(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, vfs.NewMem())
			rng := rand.New(rand.NewPCG(seed, 9))
			same := func(when string) {
				t.Helper()
				want := b.scanned()
				got := b.s.Stat()
				got.LiveBytes, got.LogBytes, got.Drafts, got.Leases = 0, 0, 0, 0
				if !got.Oldest.Equal(want.Oldest) {
					t.Errorf("seed %d %s: oldest %v, want %v", seed, when, got.Oldest, want.Oldest)
				}
				got.Oldest, want.Oldest = time.Time{}, time.Time{}
				if got != want {
					t.Errorf("seed %d %s: %+v, want %+v", seed, when, got, want)
				}
			}
			for i := range 120 {
				b.mix(rng)
				if i%10 == 0 {
					b.claim() // and is left out for a while
				}
				if i%7 == 0 {
					same("on the way")
				}
			}
			b.reopen()
			same("after a start")
			b.s.Close(context.Background())
		})
	}
}

// A domain is found in whatever case it was written, and only what is in it is read.
func TestScanDomains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		var want []postrider.ID
		for i := range 60 {
			id := b.add([]byte("x"), fmt.Sprintf("a@d%d.example", i%10), "b@held.example")
			if i%10 == 3 {
				want = append(want, id)
			}
		}
		want = append(want, b.add([]byte("x"), "b@held.example", "a@D3.Example"))
		synctest.Wait() // nobody else reads
		read := 0
		b.fs.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpRead {
				read++
			}
			return nil
		})
		scan := func() (got []postrider.ID) {
			for m, err := range b.s.ScanDomains(context.Background(), func(d string) bool { return d == "d3.example" }) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, m.ID)
			}
			return got
		}
		if got := scan(); !slices.Equal(got, want) || read > len(want) {
			t.Errorf("%v after %d reads, want %v", got, read, want)
		}
		b.fs.SetHook(nil)
		b.reopen()
		if got := scan(); !slices.Equal(got, want) {
			t.Errorf("after a start %v, want %v", got, want)
		}
		for range b.s.ScanDomains(context.Background(), func(string) bool { return true }) {
			break
		}
		b.s.Close(context.Background())
	})
}

// What waits for its release is counted by account, until it is released, settled or
// dropped, and after a start from a snapshot too.
func TestFutures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		hold := func(account string, d time.Duration, to ...string) postrider.ID {
			a, err := addition(b.s, "", make([]byte, 1500), time.Now().Add(d), to...)
			if err != nil {
				t.Fatal(err)
			}
			a.Message.Source.Account, a.Message.Release = account, time.Now().Add(d)
			if err := b.s.Commit(context.Background(), postrider.Batch{Add: []postrider.Addition{a}}); err != nil {
				t.Fatal(err)
			}
			return a.Message.ID
		}
		want := func(when string, want map[string]int) {
			t.Helper()
			if got := b.s.Futures(time.Now()); !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		want("at first", map[string]int{})
		gone := hold("ann", time.Hour, "a@x.example", "b@x.example")
		hold("ann", 2*time.Hour, "a@x.example")
		hold("bob", 2*time.Hour, "a@x.example")
		b.add([]byte("x"), "a@held.example")
		want("three held back", map[string]int{"ann": 2, "bob": 1})
		b.amend(postrider.Amendment{ID: gone, Do: postrider.AmendDrop})
		want("one dropped", map[string]int{"ann": 1, "bob": 1})
		for range 8 { // so that there is a snapshot
			b.add(make([]byte, 1500), "a@held.example")
			synctest.Wait()
		}
		b.reopen()
		want("after a start", map[string]int{"ann": 1, "bob": 1})
		time.Sleep(3 * time.Hour)
		want("later", map[string]int{})
		b.s.Close(context.Background())
	})
}

// A message that cannot be read ends no listing: it is told by its ID with the error, and
// those after it follow.
func TestScanGoesPastWhatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		want := []postrider.ID{b.add([]byte("x"), "a@held.example"), b.add([]byte("y"), "b@held.example"), b.add([]byte("z"), "c@held.example")}
		b.spoil(want[1], 100)
		var all []postrider.ID
		for m, err := range b.s.Scan(context.Background()) {
			if m == nil || (err != nil) != (m.ID == want[1]) {
				t.Fatalf("%+v, %v", m, err)
			}
			all = append(all, m.ID)
		}
		if !slices.Equal(all, want) {
			t.Errorf("%v are listed of %v", all, want)
		}
		b.s.Close(context.Background())
	})
}

package spool

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// ranked is a spool of memory alone, of which the index is used.
func ranked(now *time.Time) *Spool {
	s := &Spool{
		now:   func() time.Time { return *now },
		keyOf: func(to smtp.Path) postrider.Dest { return postrider.Dest(to.Domain) },
	}
	s.initIndex()
	return s
}

func (s *Spool) put(id string, due time.Time, priority int8, domain string) *entry {
	k, _ := packID(postrider.ID(id))
	e := s.newEntry(k, 1)
	e.priority, e.one[0].due = priority, due.UnixNano()
	s.count(e, &e.one[0], 1)
	s.key(e, []smtp.Path{{Local: "x", Domain: domain}})
	return e
}

func (s *Spool) order(t *testing.T, now time.Time) (ids []string) {
	t.Helper()
	for {
		l, ok := s.take(now.UnixNano(), 10)
		if !ok {
			return ids
		}
		ids = append(ids, string(l.ID))
	}
}

// RFC 6710 5.1: "an SMTP client that has more than one email to send at a given time
// sends those with a higher priority before those with a lower one", of one
// destination and of several.
func TestPriorityOrdersWhatIsDue(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, domains := range [][]string{{"x", "x", "x", "x", "x"}, {"a", "b", "c", "a", "b"}} {
		s := ranked(&now)
		s.put("normal", ago(time.Minute), 0, domains[0])
		s.put("low", ago(time.Minute), -9, domains[1])
		s.put("urgent", ago(time.Second), 9, domains[2])
		s.put("later", now.Add(time.Second), 9, domains[3])
		s.put("some", ago(time.Second), 1, domains[4])
		if got, want := s.order(t, now), []string{"urgent", "some", "normal", "low"}; !slices.Equal(got, want) {
			t.Errorf("order %v, want %v", got, want)
		}
		now = now.Add(2 * time.Second)
		if got := s.order(t, now); !slices.Equal(got, []string{"later"}) {
			t.Errorf("then %v, want later alone", got)
		}
		now = now.Add(-2 * time.Second)
	}
}

// Mail of the lowest priority goes before all that became due three hours after it,
// however much of that there is.
func TestPriorityStarvesNobody(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	start := now
	s := ranked(&now)
	s.put("low", now, -9, "x")
	for i := range 1000 {
		s.put(fmt.Sprintf("urgent%06d", i), now, 9, "x")
		s.put(fmt.Sprintf("another%06d", i), now, 9, "x")
		e := s.ripeTop(now)
		if e.id.name() == "low" {
			return
		}
		if due := e.one[0].due; due > start.Add(18*rankStep).UnixNano() {
			t.Fatalf("%s, due after %v, goes first", e.id.name(), time.Duration(due-start.UnixNano()))
		}
		s.take(now.UnixNano(), 10)
		now = now.Add(time.Minute)
	}
	t.Fatal("it starves")
}

func (s *Spool) ripeTop(now time.Time) *entry {
	s.mature(now.UnixNano())
	return s.slab.get(s.ripe.items[0].ripe.items[0].e)
}

// Whatever is put, paused, moved and taken in whatever order, a claim gives the best
// of what is due and not paused: the heaps against a plain search.
func TestRankAgainstSearch(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	s := ranked(&now)
	live := map[postrider.ID]*entry{}
	for step := range 20_000 {
		switch rnd.IntN(6) {
		case 0, 1:
			id := fmt.Sprintf("%08d", step)
			live[postrider.ID(id)] = s.put(id, now.Add(time.Duration(rnd.IntN(7200)-3600)*time.Second), int8(rnd.IntN(19)-9), fmt.Sprint(rnd.IntN(6)))
		case 2:
			until := time.Time{}
			if rnd.IntN(2) == 0 {
				until = now.Add(time.Duration(rnd.IntN(3600)-600) * time.Second)
			}
			s.Pause(postrider.Dest(fmt.Sprint(rnd.IntN(6))), until)
		case 3:
			now = now.Add(time.Duration(rnd.IntN(300)) * time.Second)
		default:
			want := s.search(now.UnixNano(), live)
			l, ok := s.take(now.UnixNano(), 10)
			if ok != (want != nil) || ok && l.ID != want.id.name() {
				t.Fatalf("step %d: took %q (%v), want %v", step, l.ID, ok, want)
			}
			delete(live, l.ID)
		}
	}
	if len(live) > 15_000 {
		t.Fatal("next to nothing was taken")
	}
}

func (s *Spool) search(now int64, live map[postrider.ID]*entry) (best *entry) {
	parcelOf := func(e *entry) parcel { return parcel{e.self, 0} }
	rank := func(e *entry) (int64, postrider.Dest) {
		best, d := e, s.queues[e.one[0].dest]
		for _, other := range live { // the destination ranks by its best
			if r := &other.one[0]; r.dest == d.num && r.due <= now && s.rankLess(parcelOf(other), parcelOf(best)) {
				best = other
			}
		}
		return max(best.one[0].due, d.paused) - best.lead(), d.key
	}
	for _, e := range live {
		if r := &e.one[0]; r.due > now || s.queues[r.dest].paused > now {
			continue
		}
		if best == nil {
			best = e
			continue
		}
		er, ek := rank(e)
		br, bk := rank(best)
		if er < br || er == br && ek < bk || ek == bk && s.rankLess(parcelOf(e), parcelOf(best)) {
			best = e
		}
	}
	return best
}

// The priority of a message outlives the process, by the log and by a snapshot.
func TestPriorityIsStored(t *testing.T) {
	for p := int8(-9); p <= 9; p++ {
		if got := unzigzag(zigzag(p)); got != p {
			t.Errorf("%d comes back as %d", p, got)
		}
		m := &postrider.Message{ID: "x", Priority: p, HoldFor: time.Hour, Recipients: []postrider.Recipient{{Expanded: true, State: postrider.Delivered}, {Uncertain: "mx"}}}
		a, err := decodeAccepted((&accepted{msg: m}).encode())
		if err != nil {
			t.Fatal(err)
		}
		if p != 0 && (a.msg.Priority != p || a.msg.HoldFor != time.Hour) || !a.msg.Recipients[0].Expanded || a.msg.Recipients[1].Uncertain != "mx" {
			t.Errorf("%+v comes back as %+v", m, a.msg)
		}
		now := time.Now()
		s, g := ranked(&now), &segment{n: 3}
		s.enlist(g)
		k, _ := packID("x")
		var e messageEncoder
		e.message(&standing{entry: entry{id: k, priority: p, big: p > 0, wake: never}, loc: location{seg: g}, rcpts: make([]rcptState, 2),
			last: make([]location, 2), whys: []string{"why", "why"}}, a, mark{seg: g})
		d := &messageDecoder{s: s, segments: map[uint64]*segment{3: g}}
		d.b = e.b
		if err := d.message(); err != nil || len(d.b) > 0 || s.entryOf("x").priority != p || s.entryOf("x").big != (p > 0) {
			t.Errorf("a snapshot says %v, %v of priority %d", s.entryOf("x"), err, p)
		}
	}
}

// The time of RRVS= outlives the process, whatever year a sender writes.
func TestSinceIsStored(t *testing.T) {
	for _, stamp := range []string{"2014-04-03T23:01:00Z", "1970-01-01T00:00:00Z", "0001-01-02T00:00:00Z", "1600-01-01T00:00:00Z", "9999-12-31T23:59:59Z"} {
		since, err := time.Parse(time.RFC3339, stamp)
		if err != nil {
			t.Fatal(err)
		}
		m := &postrider.Message{ID: "x", Recipients: []postrider.Recipient{{RRVS: smtp.RRVS{Since: since, Continue: true}}, {}}}
		a, err := decodeAccepted((&accepted{msg: m}).encode())
		if err != nil {
			t.Fatal(err)
		}
		if got := a.msg.Recipients[0].RRVS; !got.Since.Equal(since) || !got.Continue || a.msg.Recipients[1].RRVS != (smtp.RRVS{}) {
			t.Errorf("%s comes back as %v, and none as %v", stamp, got, a.msg.Recipients[1].RRVS)
		}
	}
}

// What is more important goes first as it was accepted, and also when a start has read it
// from the log, or from a snapshot.
func TestPriorityOfWhatIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.add([]byte("first"), "a@x.example")
		a, err := addition(b.s, "", []byte("important"), time.Now(), "b@x.example")
		if err != nil {
			t.Fatal(err)
		}
		a.Message.Priority = 5
		if err := b.s.Commit(t.Context(), postrider.Batch{Add: []postrider.Addition{a}}); err != nil {
			t.Fatal(err)
		}
		for _, when := range []string{"as it was accepted", "after a start", "after one that read the log"} {
			if l := b.mustClaim(postrider.Attempt, 0); l.ID != a.Message.ID {
				t.Errorf("%s another goes first", when)
			}
			for range 20 {
				b.add(make([]byte, 600), "c@held.example")
				synctest.Wait()
			}
			if b.s.Close(t.Context()); when != "as it was accepted" {
				b.fs.Remove("data/spool/index.snap")
			}
			b.open()
		}
		b.s.Close(t.Context())
	})
}

package account

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A client that goes away while it waits for its turn, or while it is put off, gives its place
// back: however many have gone, the next from that address is looked at, and of an address
// that has guessed nothing wrong nothing is kept.
func TestWhoGoesAwayGivesItsPlaceBack(t *testing.T) {
	peer := netip.MustParseAddr("192.0.2.1")
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(nil)
		first, r := g.enter(t.Context(), peer, time.Now)
		if !r.IsZero() {
			t.Fatal(r)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for range 3 * turnWaiters {
			if _, r := g.enter(gone, peer, time.Now); r != busy {
				t.Fatalf("who waits behind another and goes away hears %v", r)
			}
		}
		first.leave(false, time.Now())
		if len(g.byKey) > 0 || g.order.Len() > 0 {
			t.Errorf("%d addresses are kept, in a list of %d", len(g.byKey), g.order.Len())
		}
		// From here on each attempt is put off first.
		for range freeFailures {
			p, r := g.enter(t.Context(), peer, time.Now)
			if !r.IsZero() {
				t.Fatal(r)
			}
			p.leave(true, time.Now())
		}
		for range 3 * turnWaiters {
			soon, cancel := context.WithTimeout(t.Context(), firstDelay/2)
			if _, r := g.enter(soon, peer, time.Now); r != busy {
				t.Fatalf("who is put off and goes away hears %v", r)
			}
			cancel()
		}
		last, r := g.enter(t.Context(), peer, time.Now)
		if r != (smtp.Reply{}) {
			t.Fatalf("when all have gone: %v", r)
		}
		last.leave(false, time.Now())
		time.Sleep(forgetAfter)
		if last, _ = g.enter(t.Context(), peer, time.Now); last.s == nil || last.s.failures > 0 {
			t.Error("the failures are not forgotten")
		}
		last.leave(false, time.Now())
		if len(g.byKey) > 0 {
			t.Error("the address is kept")
		}
	})
}

// Who has guessed wrong too often is turned away for all of that time, has one guess after
// it, put off as long as any, and is turned away again.
func TestGuardTurnsAway(t *testing.T) {
	peer := netip.MustParseAddr("192.0.2.1")
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(nil)
		guess := func(want smtp.Reply) {
			t.Helper()
			p, r := g.enter(t.Context(), peer, time.Now)
			if r != want {
				t.Errorf("after %v: %v, want %v", time.Since(g.order.Front().Value.(*suspect).last), r, want)
			}
			if r.IsZero() {
				p.leave(true, time.Now())
			}
		}
		for range refuseAfter {
			guess(smtp.Reply{})
		}
		for range 3 {
			time.Sleep(refuseFor - time.Second)
			guess(tooMany)
			time.Sleep(time.Second)
			began := time.Now()
			if guess(smtp.Reply{}); time.Since(began) != delayMax {
				t.Errorf("the one guess waited %v", time.Since(began))
			}
			guess(tooMany)
		}
	})
}

// Wrong guesses count until none has come for a while, however long ago the first was.
func TestGuardCountsFromTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(nil)
		for i := range freeFailures + 2 {
			began := time.Now()
			p, r := g.enter(t.Context(), netip.MustParseAddr("192.0.2.1"), time.Now)
			if !r.IsZero() {
				t.Fatal(r)
			}
			p.leave(true, time.Now())
			if waited := time.Since(began) > 0; waited != (i >= freeFailures) {
				t.Errorf("guess %d waited %v", i, time.Since(began))
			}
			time.Sleep(forgetAfter - time.Minute)
		}
	})
}

// A clock that is set back far locks nobody out for as long as it went: who guessed wrong by
// the other clock is listened to. One that goes back a little forgets nothing.
func TestGuardWhenTheClockGoesBack(t *testing.T) {
	peer := netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		by      time.Duration
		refused bool
	}{{-time.Second, true}, {-forgetAfter, true}, {-forgetAfter - time.Second, false}, {-240 * time.Hour, false}, {refuseFor, false}} {
		synctest.Test(t, func(t *testing.T) {
			g, now := newGuard(nil), time.Now()
			for range refuseAfter {
				p, r := g.enter(t.Context(), peer, func() time.Time { return now })
				if !r.IsZero() {
					t.Fatal(r)
				}
				p.leave(true, now)
			}
			if _, r := g.enter(t.Context(), peer, func() time.Time { return now }); r != tooMany {
				t.Fatalf("after %d wrong guesses: %v", refuseAfter, r)
			}
			now = now.Add(c.by)
			p, r := g.enter(t.Context(), peer, func() time.Time { return now })
			if c.refused != (r == tooMany) {
				t.Errorf("the clock went by %v: %v", c.by, r)
			}
			p.leave(false, now)
		})
	}
}

// Where all places of the guard are of addresses that are being looked at, another is put
// off, and takes the place of none: that one comes to its end as it began.
func TestGuardForgetsNobodyInUse(t *testing.T) {
	g, now := newGuard(nil), time.Now()
	address := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	var all []*suspect
	for i := range guardMax {
		s, r := g.admit(address(i), now)
		if s == nil {
			t.Fatal(r)
		}
		all = append(all, s)
	}
	if s, r := g.admit(address(guardMax), now); s != nil || r != busy {
		t.Errorf("one more is let in: %v", r)
	}
	g.drop(all[0])
	if s, r := g.admit(address(guardMax), now); s == nil {
		t.Errorf("there is a place, and it hears %v", r)
	}
	for i, s := range all[1:] {
		if g.byKey[s.key] == nil || g.byKey[s.key].Value != s {
			t.Fatalf("address %d is forgotten", i+1)
		}
		g.drop(s)
	}
}

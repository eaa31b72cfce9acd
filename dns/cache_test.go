package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestCacheKeepsAnswers(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	z := NewZone().A("a.test", "192.0.2.1").Fail("bad.test", ErrServFail)
	c := NewCache(z, CacheOptions{Now: func() time.Time { return now }})
	ask := func(name string, want int) Answer {
		t.Helper()
		a, _ := c.Lookup(t.Context(), name, TypeA)
		if got := z.Asked(canonical(name)); got != want {
			t.Fatalf("%s was asked for %d times, want %d", name, got, want)
		}
		return a
	}
	ask("a.test", 1)
	now = now.Add(zoneTTL - time.Second)
	if a := ask("A.Test.", 1); len(a.Addrs) != 1 || a.TTL != time.Second {
		t.Fatalf("kept answer %+v", a)
	} else {
		a.Addrs[0] = a.Addrs[0].Next() // the caller's own copy
	}
	if a := ask("a.test", 1); a.Addrs[0].String() != "192.0.2.1" {
		t.Fatalf("a caller changed the cache: %+v", a)
	}
	now = now.Add(time.Second)
	ask("a.test", 2)
	ask("gone.test", 1)
	if a := ask("gone.test", 1); !a.NXDomain {
		t.Fatalf("negative answer %+v", a)
	}
	ask("bad.test", 1)
	ask("bad.test", 2) // errors are not kept
}

// The cache is bounded in octets: long answers drive others out, and one that is longer
// than all of it is not kept. Ten thousand domains with a host each and its addresses
// find room.
func TestCacheIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1000)
	z := NewZone()
	for i := range 30 {
		z.TXT(fmt.Sprintf("t%d.test", i), long)
	}
	for range 30 {
		z.TXT("huge.test", long)
	}
	c := NewCache(z, CacheOptions{Size: 20_000})
	for i := range 30 {
		c.Lookup(t.Context(), fmt.Sprintf("t%d.test", i), TypeTXT)
		c.Lookup(t.Context(), "huge.test", TypeTXT)
	}
	if n := z.Asked("huge.test"); n != 30 {
		t.Errorf("an answer that is too long was asked for %d times", n)
	}
	if c.octets > c.size {
		t.Errorf("%d octets in %d answers", c.octets, len(c.entries))
	}
	for range 2 {
		c.Lookup(t.Context(), "t29.test", TypeTXT)
	}
	if n := z.Asked("t29.test"); n > 2 {
		t.Errorf("the last answer was asked for %d times", n)
	}

	z = NewZone()
	c = NewCache(z, CacheOptions{})
	for range 2 {
		for i := range 10_000 {
			c.Lookup(t.Context(), fmt.Sprintf("d%d.test", i), TypeMX)
			c.Lookup(t.Context(), fmt.Sprintf("mx.d%d.test", i), TypeA)
			c.Lookup(t.Context(), fmt.Sprintf("mx.d%d.test", i), TypeAAAA)
		}
	}
	if n := z.Asked("d0.test") + z.Asked("mx.d0.test") + z.Asked("d9999.test") + z.Asked("mx.d9999.test"); n != 6 {
		t.Errorf("of 10,000 domains two were asked for %d times, want 6", n)
	}
	for el := range c.entries {
		c.drop(c.entries[el])
	}
	if c.octets != 0 {
		t.Errorf("%d octets in no answers", c.octets)
	}
}

// What an answer takes is what its records take: each name and text of it, and each address.
func TestCacheCountsRecords(t *testing.T) {
	q, long := question{"a.test", TypeMX}, strings.Repeat("x", 1000)
	least := sizeOf(q, Answer{})
	for name, a := range map[string]Answer{
		"texts": {Text: []string{long, long}}, "exchangers": {MX: []MX{{1, long}, {2, long}}}, "addresses": {Addrs: make([]netip.Addr, 2000/24+1)}, "a name": {Name: long + long},
	} {
		if n := sizeOf(q, a) - least; n < 2000 || n > 2100 {
			t.Errorf("%s: %d octets", name, n)
		}
	}
}

func TestCacheDropsTheLeastUsed(t *testing.T) {
	z := NewZone()
	c := NewCache(z, CacheOptions{Limit: 3})
	for _, name := range []string{"a", "b", "c", "a", "d", "a", "b"} { // d drops b, b drops c
		if _, err := c.Lookup(t.Context(), name, TypeA); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]int{"a": 1, "b": 2, "c": 1, "d": 1} {
		if got := z.Asked(name); got != want {
			t.Errorf("%s was asked for %d times, want %d", name, got, want)
		}
	}
	for i := range 1000 {
		c.Lookup(t.Context(), fmt.Sprint(i), TypeA)
	}
	if len(c.entries) != 3 || c.recent.Len() != 3 || len(c.flights) != 0 {
		t.Fatalf("%d entries, %d in the list, %d flights", len(c.entries), c.recent.Len(), len(c.flights))
	}
}

func TestCacheAsksOnceForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := NewZone().A("a.test", "192.0.2.1").Delay("a.test", time.Second)
		c := NewCache(z, CacheOptions{})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if a, err := c.Lookup(t.Context(), "a.test", TypeA); err != nil || len(a.Addrs) != 1 {
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		wg.Wait()
		if z.Asked("a.test") != 1 {
			t.Fatalf("asked %d times", z.Asked("a.test"))
		}
	})
}

// The one who asks gives up: the others do not fail with it, one of them asks
// again. Those who wait can give up too.
func TestCacheLeaderGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := NewZone().A("a.test", "192.0.2.1").Delay("a.test", 10*time.Second)
		c := NewCache(z, CacheOptions{})
		var wg sync.WaitGroup
		lookup := func(wait time.Duration, want error) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				defer cancel()
				if _, err := c.Lookup(ctx, "a.test", TypeA); !errors.Is(err, want) {
					t.Errorf("after %v: %v, want %v", wait, err, want)
				}
			})
			synctest.Wait()
		}
		lookup(3*time.Second, context.DeadlineExceeded) // asks
		lookup(time.Second, context.DeadlineExceeded)   // waits, not long enough
		lookup(time.Minute, nil)
		lookup(time.Minute, nil)
		wg.Wait()
		if z.Asked("a.test") != 2 {
			t.Fatalf("asked %d times", z.Asked("a.test"))
		}
	})
}

// A panic of the resolver reaches its caller and leaves nobody waiting.
func TestCacheResolverPanics(t *testing.T) {
	c := NewCache(panicResolver{}, CacheOptions{})
	for range 2 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			c.Lookup(t.Context(), "a.test", TypeA)
		}()
	}
}

type panicResolver struct{}

func (panicResolver) Lookup(context.Context, string, Type) (Answer, error) { panic("boom") }

// What has expired takes no room: the octets that are counted are those of the answers
// that are kept, however often they expire and whatever comes of asking again.
func TestCacheForgetsWhatHasExpired(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	z := NewZone().A("a.test", "192.0.2.1").TXT("t.test", strings.Repeat("x", 500)).MX("m.test", 1, "a.test")
	const size = 4000
	c := NewCache(z, CacheOptions{Now: func() time.Time { return now }, Size: size})
	check := func(round, entries int) {
		t.Helper()
		var octets int64
		for _, el := range c.entries {
			octets += el.Value.(*entry).size
		}
		if c.octets != octets || len(c.entries) != entries || c.recent.Len() != entries {
			t.Fatalf("round %d: %d octets are counted of %d, in %d entries and a list of %d; want %d", round, c.octets, octets, len(c.entries), c.recent.Len(), entries)
		}
	}
	for round := range 100 {
		z.Fail("a.test", nil)
		for range 2 {
			c.Lookup(t.Context(), "a.test", TypeA)
			c.Lookup(t.Context(), "t.test", TypeTXT)
			c.Lookup(t.Context(), "m.test", TypeMX)
			check(round, 3)
		}
		if n := z.Asked("a.test"); n != 2*round+1 {
			t.Fatalf("round %d: asked %d times: the answer was not kept", round, n)
		}
		now = now.Add(2 * zoneTTL)
		z.Fail("a.test", ErrServFail) // nothing comes in its place
		if _, err := c.Lookup(t.Context(), "a.test", TypeA); !errors.Is(err, ErrServFail) {
			t.Fatalf("round %d: %v", round, err)
		}
		check(round, 2)
	}
}

// Name servers that fail are asked once for all who want the same answer at that time:
// nobody waits for one lookup behind another. Who comes later has it asked again.
func TestCacheFailsOnceForMany(t *testing.T) {
	for _, reason := range []error{ErrServFail, ErrTimeout} {
		synctest.Test(t, func(t *testing.T) {
			const slow = 20 * time.Second
			z := NewZone().Fail("a.test", reason).Delay("a.test", slow)
			c := NewCache(z, CacheOptions{})
			for round := range 2 {
				begin := time.Now()
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						if a, err := c.Lookup(t.Context(), "a.test", TypeA); !errors.Is(err, reason) {
							t.Errorf("%+v, %v, want %v", a, err, reason)
						}
					})
				}
				wg.Wait()
				if waited := time.Since(begin); waited != slow || z.Asked("a.test") != round+1 {
					t.Errorf("%v, round %d: the last one waited for %v, and it was asked %d times", reason, round, waited, z.Asked("a.test"))
				}
			}
		})
	}
}

package dns

import (
	"context"
	"errors"
	"fmt"
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

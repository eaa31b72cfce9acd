package dns

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever waits for an answer that another asks for has a copy of its own: what one does
// to it changes nothing for the others.
func TestCacheSharesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := NewZone().A("a.test", "192.0.2.1", "192.0.2.2").Delay("a.test", time.Second)
		c := NewCache(z, CacheOptions{})
		var wg sync.WaitGroup
		got := make([]Answer, 4)
		for i := range got {
			wg.Go(func() { got[i], _ = c.Lookup(t.Context(), "a.test", TypeA) })
		}
		wg.Wait()
		if z.Asked("a.test") != 1 {
			t.Fatalf("asked for %d times", z.Asked("a.test"))
		}
		want := slices.Clone(got[0].Addrs)
		for i := range got {
			if !slices.Equal(got[i].Addrs, want) {
				t.Errorf("answer %d: %v, want %v", i, got[i].Addrs, want)
			}
			clear(got[i].Addrs)
		}
	})
}

// TestCacheSharesNoRecords: the same of each kind of record, and of what is kept.
func TestCacheSharesNoRecords(t *testing.T) {
	z := NewZone().A("a.test", "192.0.2.1").MX("a.test", 5, "b.test").TXT("a.test", "words").PTR("a.test", "c.test")
	c := NewCache(z, CacheOptions{})
	for _, typ := range []Type{TypeA, TypeMX, TypeTXT, TypePTR} {
		want, err := z.Lookup(t.Context(), "a.test", typ)
		if err != nil {
			t.Fatal(err)
		}
		want = want.clone()
		for range 3 { // one that was asked for, and two that were kept
			a, err := c.Lookup(t.Context(), "a.test", typ)
			if err != nil || !slices.Equal(a.Addrs, want.Addrs) || !slices.Equal(a.MX, want.MX) || !slices.Equal(a.Text, want.Text) {
				t.Errorf("%v: %+v, %v", typ, a, err)
			}
			clear(a.Addrs)
			clear(a.MX)
			clear(a.Text)
		}
	}
}

// years is a resolver whose answers say that they hold for years.
type years struct{ asked int }

func (r *years) Lookup(_ context.Context, name string, _ Type) (Answer, error) {
	r.asked++
	return Answer{Name: name, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, TTL: 10 * 365 * 24 * time.Hour}, nil
}

// No answer is kept for more than a day, whatever it says: a host moves, and its mail is
// not to go to the old place for years.
func TestCacheAsksAgainAfterADay(t *testing.T) {
	now := time.Unix(1_000_000_000, 0)
	r := new(years)
	c := NewCache(r, CacheOptions{Now: func() time.Time { return now }})
	for _, step := range []struct {
		after time.Duration
		asked int
	}{{0, 1}, {ttlMax - time.Second, 1}, {time.Second, 2}} {
		now = now.Add(step.after)
		if _, err := c.Lookup(t.Context(), "a.test", TypeA); err != nil || r.asked != step.asked {
			t.Errorf("%v later: asked %d times, want %d (%v)", step.after, r.asked, step.asked, err)
		}
	}
}

package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// shrink takes strikes and letters out of a plan that fails, as long as it fails by
// the same checker.
func shrink(t *testing.T, p *Plan, r run) (*Plan, run) {
	checker, _, _ := strings.Cut(r.err.Error(), ":")
	runs := 0
	fails := func(q *Plan) bool {
		if runs++; runs > *shrinkFlag {
			return false
		}
		got := play(t, q)
		if got.err == nil || !strings.HasPrefix(got.err.Error(), checker+":") {
			return false
		}
		p, r = q, got
		return true
	}
	if calm := *p; true {
		calm.Weather = Weather{}
		fails(&calm)
	}
	cut(len(p.Strikes), func(from, to int) bool {
		q := *p
		q.Strikes = slices.Delete(slices.Clone(p.Strikes), from, to)
		return fails(&q)
	})
	cut(len(p.Letters), func(from, to int) bool {
		q := *p
		q.Letters = slices.Delete(slices.Clone(p.Letters), from, to)
		return fails(&q)
	})
	return p, r
}

// cut tries to take parts out of n things: halves, then quarters, and so on. Out
// reports whether it could do without.
func cut(n int, out func(from, to int) bool) {
	for size := (n + 1) / 2; size > 0 && n > 0; size /= 2 {
		for from := 0; from < n; {
			to := min(n, from+size)
			if out(from, to) {
				n -= to - from
			} else {
				from = to
			}
		}
	}
}

// String tells a plan that was made short.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d letters, %d strikes, weather %+v", p.Seed, len(p.Letters), len(p.Strikes), p.Weather)
	for _, s := range p.Strikes {
		fmt.Fprintf(&b, "\n  %v", s)
	}
	for i := range p.Letters {
		if l := &p.Letters[i]; len(p.Letters) <= 20 {
			fmt.Fprintf(&b, "\n  %v %s from %s at %s to %v, %d octets", l.At, l.Token(p.Seed), l.By, l.Server, l.To, l.Size)
		}
	}
	return b.String()
}

// What shrink leaves is the one thing that matters.
func TestCut(t *testing.T) {
	things := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
	cut(len(things), func(from, to int) bool {
		rest := slices.Delete(slices.Clone(things), from, to)
		if !slices.Contains(rest, 3) || !slices.Contains(rest, 10) {
			return false
		}
		things = rest
		return true
	})
	if !slices.Equal(things, []int{3, 10}) {
		t.Errorf("left: %v", things)
	}
}

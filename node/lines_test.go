package node

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// A counted writer counts its calls.
type counted struct {
	bytes.Buffer
	calls int
}

func (c *counted) Write(p []byte) (int, error) {
	c.calls++
	return c.Buffer.Write(p)
}

// Lines come out whole, in order and once, and at once where nobody holds them.
func TestLines(t *testing.T) {
	var out counted
	l := NewLines(&out)
	fmt.Fprintln(l, "one")
	if out.String() != "one\n" {
		t.Fatalf("%q", out.String())
	}
	l.Hold()
	l.Hold()
	fmt.Fprintln(l, "two")
	fmt.Fprintln(l, "three")
	l.Release()
	if out.String() != "one\ntwo\nthree\n" || out.calls != 2 {
		t.Fatalf("%q in %d calls", out.String(), out.calls)
	}
	fmt.Fprintln(l, "four")
	if out.calls != 2 {
		t.Fatal("what is held by another is written")
	}
	fmt.Fprintln(l, strings.Repeat("x", linesMax))
	if out.calls != 3 {
		t.Fatal("it gathers without a bound")
	}
	l.Release()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 200 {
				if k%10 == 0 {
					l.Hold()
					defer l.Release()
				}
				fmt.Fprintf(l, "%d %d\n", i, k)
			}
		})
	}
	wg.Wait()
	next := [8]int{}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n")[5:] {
		var i, k int
		if _, err := fmt.Sscanf(line, "%d %d", &i, &k); err != nil || k != next[i] {
			t.Fatalf("line %q, want %d of %d: %v", line, next[i], i, err)
		}
		next[i]++
	}
	for i, n := range next {
		if n != 200 {
			t.Errorf("%d: %d lines", i, n)
		}
	}
	(*Lines)(nil).Hold() // a log that is none of ours
	(*Lines)(nil).Release()
}

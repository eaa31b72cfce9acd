package pace

import "testing"

// What went well before a peer wanted less counts for nothing after it: from the new
// limit on it takes as many successes as go at a time until there is one more.
func TestPaceCountsAnew(t *testing.T) {
	p := Start(20, 20)
	p.Slower(20, "421", t0)
	for range 9 {
		p.Faster(20)
	}
	p.Slower(p.Limit, "421", t0)
	if p.Limit != 5 {
		t.Fatalf("halved twice: %d", p.Limit)
	}
	for i, want := range []int{5, 5, 5, 5, 6} {
		if p.Faster(20); p.Limit != want {
			t.Errorf("success %d: %d at a time, want %d", i+1, p.Limit, want)
		}
	}
}

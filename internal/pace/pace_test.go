package pace

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A pace is halved, comes back by one each time to half of what was too much, and by
// one a round from there; at the top the reason is over.
func TestPace(t *testing.T) {
	p := Start(5, 20)
	for i := range 15 {
		if p.Faster(20); p.Limit != 5+i+1 {
			t.Errorf("after success %d: %d", i+1, p.Limit)
		}
	}
	for _, step := range []struct{ running, want int }{{20, 10}, {10, 5}, {2, 1}, {1, 1}, {0, 1}} {
		if p.Slower(step.running, "421", t0); p.Limit != step.want {
			t.Errorf("of %d: %d, want %d", step.running, p.Limit, step.want)
		}
	}
	p.goal = 4
	for i, want := range []int{2, 3, 4, 4, 4, 4, 5} {
		if p.Faster(20); p.Limit != want || p.Reason != "421" {
			t.Errorf("success %d: %d %q, want %d", i+1, p.Limit, p.Reason, want)
		}
	}
	for range 200 {
		p.Faster(20)
	}
	if p != (Pace{Limit: 20, goal: 4}) {
		t.Errorf("at the top: %+v", p)
	}
}

// Whatever happens: a limit is from 1 to the most, falls by no success and rises by
// one at a time, is at most half of what was too much, and comes to the most again
// when all goes well, where the reason is forgotten.
func TestPaceAlways(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		most := 1 + r.IntN(40)
		p := Start(r.IntN(50), most)
		for i := range 300 {
			was, what := p, ""
			switch r.IntN(8) {
			case 0:
				running := r.IntN(2 * most)
				what = fmt.Sprint("slower ", running)
				p.Slower(running, "less", t0)
				if p.Limit > max(1, was.Limit/2) || p.Limit > max(1, running/2) {
					t.Fatalf("seed %d, step %d, %s: %+v to %+v", seed, i, what, was, p)
				}
			case 1:
				most = 1 + r.IntN(40)
				what = fmt.Sprint("at most ", most)
				p.Change(most)
				if p.Limit != min(was.Limit, most) {
					t.Fatalf("seed %d, step %d, %s: %+v to %+v", seed, i, what, was, p)
				}
			default:
				what = "faster"
				p.Faster(most)
				if p.Limit < was.Limit || p.Limit > was.Limit+1 {
					t.Fatalf("seed %d, step %d, %s: %+v to %+v", seed, i, what, was, p)
				}
			}
			if p.Limit < 1 || p.Limit > most {
				t.Fatalf("seed %d, step %d, %s: %+v of %d", seed, i, what, p, most)
			}
		}
		for range most * most {
			p.Faster(most)
		}
		if p.Limit != most || p.Reason != "" {
			t.Errorf("seed %d: in the end %+v of %d", seed, p, most)
		}
	}
}

// Who is as fast as he may be has exactly the rate for hours, however late he is at
// times; in no time does he have more than Bucket says.
func TestBucketHoldsItsRate(t *testing.T) {
	for _, every := range []time.Duration{36 * time.Second, 600 * time.Millisecond, 10 * time.Millisecond} {
		for _, late := range []time.Duration{0, slack} {
			r := rand.New(rand.NewPCG(uint64(every), uint64(late)))
			b, now := NewBucket(every, t0), t0
			var went []time.Time
			for now.Sub(t0) < 3*time.Hour {
				if next := b.Next(every, now); next.After(now) {
					now = next.Add(time.Duration(r.Int64N(int64(late) + 1)))
				}
				if !b.Take(every, now) {
					t.Fatalf("%v: told to come at %v, and did not go", every, now)
				}
				went = append(went, now)
			}
			if want := int(3 * time.Hour / every); len(went) < want-1-int(slack/every) || len(went) > want {
				t.Errorf("%v: %d in 3 hours, want %d", every, len(went), want)
			}
			if first := went[0].Sub(t0); first < every {
				t.Errorf("%v: the first after %v", every, first)
			}
			for from, to := 0, 0; to < len(went); to++ {
				for went[to].Sub(went[from]) >= time.Minute {
					from++
				}
				if n, most := to-from+1, int((time.Minute+slack)/every)+1; n > most {
					t.Fatalf("%v: %d in a minute, at most %d", every, n, most)
				}
			}
		}
	}
}

// Nothing is saved up: after an hour of which nobody made use there go one, and what
// slack makes up.
func TestBucketSavesNothing(t *testing.T) {
	for every, want := range map[time.Duration]int{time.Minute: 1, 600 * time.Millisecond: 1, 10 * time.Millisecond: 11} {
		b, n := NewBucket(every, t0), 0
		for b.Take(every, t0.Add(time.Hour)) {
			n++
		}
		if n != want {
			t.Errorf("%v: %d at once, want %d", every, n, want)
		}
		b.Back(every)
		if !b.Take(every, t0.Add(time.Hour)) || b.Take(every, t0.Add(time.Hour)) {
			t.Errorf("%v: what was taken back is not one", every)
		}
	}
}

// Who comes at any time goes at once, or within the time apart, whatever was before.
func TestBucketAlways(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		every := time.Duration(r.Int64N(int64(time.Hour)))
		var b Bucket
		now := t0
		for i := range 300 {
			switch r.IntN(6) {
			case 0:
				now = now.Add(time.Duration(r.Int64N(int64(48*time.Hour))) - 24*time.Hour) // the clock is set
			case 1:
				every = time.Duration(r.Int64N(int64(time.Hour))) // a reload
			case 2:
				if b.Take(every, now) {
					b.Back(every)
				}
			default:
				now = now.Add(time.Duration(r.Int64N(int64(time.Hour))))
			}
			next := b.Next(every, now)
			if next.Sub(now) > every {
				t.Fatalf("seed %d, step %d: the next in %v of %v", seed, i, next.Sub(now), every)
			}
			if next.After(now) {
				if b.Take(every, now) {
					t.Fatalf("seed %d, step %d: may go at %v, and went at %v", seed, i, next, now)
				}
				now = next
			}
			if !b.Take(every, now) {
				t.Fatalf("seed %d, step %d: may go at %v, and did not", seed, i, next)
			}
		}
	}
}

// Each of those who wait has a turn of his own, and finds that he may go; beyond the
// longest line turns are given twice, and none is further away.
func TestBucketBooks(t *testing.T) {
	const every = time.Second
	b := NewBucket(every, t0)
	for i := range 3 * int(lineMax/every) {
		at := b.Book(every, t0)
		if want := every + time.Duration(i)*every; want <= lineMax && !at.Equal(t0.Add(want)) {
			t.Errorf("turn %d at %v", i, at.Sub(t0))
		}
		if at.Sub(t0) > lineMax || at.Sub(t0) < every {
			t.Errorf("turn %d at %v", i, at.Sub(t0))
		}
		if i < 100 && !b.Take(every, at) {
			t.Errorf("turn %d: not let go", i)
		}
	}
	b = NewBucket(every, t0)
	for range 100 {
		b.Book(every, t0)
	}
	b.Forget()
	if at := b.Book(every, t0); !at.Equal(t0.Add(every)) {
		t.Errorf("after the line was sent away: %v", at.Sub(t0))
	}
}

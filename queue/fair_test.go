package queue

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A crowdSpool holds many messages of one recipient each, of which it keeps only
// when they are due: enough to schedule, and cheap at any number. What is due first
// comes first. What is deferred does not come back.
type crowdSpool struct {
	postrider.Spool

	mu      sync.Mutex
	changed chan struct{}
	dests   []*crowdDest
	byDest  map[postrider.Dest]*crowdDest
	leases  map[uint64]*crowdDest
	token   uint64
	backs   int // leases that came back as they were
	limits  map[postrider.Dest]postrider.Limits
}

// A crowdDest has messages that are due one after another.
type crowdDest struct {
	dest   postrider.Dest
	next   time.Time     // when the first that is left is due
	every  time.Duration // between two; 0: all at once
	left   int
	paused time.Time
	told   int // outcomes
}

func newCrowd(dests ...*crowdDest) *crowdSpool {
	s := &crowdSpool{changed: make(chan struct{}), dests: dests, byDest: map[postrider.Dest]*crowdDest{}, leases: map[uint64]*crowdDest{}}
	for _, d := range dests {
		s.byDest[d.dest] = d
	}
	return s
}

func (s *crowdSpool) Rekey(func(smtp.Path) postrider.Dest) {}

func (s *crowdSpool) kick() { close(s.changed); s.changed = make(chan struct{}) }

func (s *crowdSpool) Pause(d postrider.Dest, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byDest[d].paused = until
	s.kick()
}

func (s *crowdSpool) Claim(ctx context.Context, _ int) (postrider.Lease, error) {
	for {
		s.mu.Lock()
		now := time.Now()
		var best *crowdDest
		soon := now.Add(time.Hour)
		for _, d := range s.dests {
			at := d.next
			if d.paused.After(at) {
				at = d.paused
			}
			switch {
			case d.left == 0:
			case at.After(now):
				if at.Before(soon) {
					soon = at
				}
			case best == nil || d.next.Before(best.next):
				best = d
			}
		}
		changed := s.changed
		if best != nil {
			best.left--
			best.next = best.next.Add(best.every)
			s.token++
			s.leases[s.token] = best
			l := postrider.Lease{ID: postrider.ID(best.dest), Token: s.token, Dest: best.dest, Rcpts: []int{0}}
			s.mu.Unlock()
			return l, nil
		}
		s.mu.Unlock()
		t := time.NewTimer(soon.Sub(now))
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return postrider.Lease{}, ctx.Err()
		}
		t.Stop()
	}
}

func (s *crowdSpool) Commit(_ context.Context, b postrider.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, set := range b.Settle {
		d := s.leases[set.Lease.Token]
		delete(s.leases, set.Lease.Token)
		if len(set.Changes) == 0 {
			d.left++
			d.next = d.next.Add(-d.every)
			s.backs++
			continue
		}
		d.told++
	}
	s.kick()
	return nil
}

func (s *crowdSpool) Open(_ context.Context, id postrider.ID) (postrider.Content, error) {
	return &crowdContent{m: postrider.Message{ID: id, Recipients: []postrider.Recipient{{To: smtp.Path{Local: "u", Domain: string(id)}}}}}, nil
}

type crowdContent struct{ m postrider.Message }

func (c *crowdContent) Message() *postrider.Message {
	c.m.Arrived = time.Now()
	return &c.m
}
func (c *crowdContent) Head() []byte      { return nil }
func (c *crowdContent) Reader() io.Reader { return nil }
func (c *crowdContent) Close() error      { return nil }

// straight routes everybody to the destination of his domain.
type straight struct{ postrider.Router }

func (straight) Route(to smtp.Path) postrider.Route {
	return postrider.Route{Dest: postrider.Dest(to.Domain), Via: postrider.ViaMX}
}

// crowd runs a queue on a crowd for a while, and returns how many attempts at the
// destinations with a prefix had an outcome.
func crowd(t *testing.T, s *crowdSpool, span time.Duration, prefix string, answer func(d *postrider.Delivery) (postrider.Outcome, time.Duration)) int {
	q := New(Options{
		Spool: s, Router: func() postrider.Router { return straight{} }, LimitsOf: func(d postrider.Dest) postrider.Limits { return s.limits[d] },
		Transports: map[postrider.Via]postrider.Transport{
			postrider.ViaMX: transport(func(ctx context.Context, d *postrider.Delivery) []postrider.Outcome {
				o, took := answer(d)
				if !sleep(ctx, took) {
					return nil
				}
				return []postrider.Outcome{o}
			}),
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	time.Sleep(span)
	synctest.Wait()
	s.mu.Lock()
	n := 0
	for _, d := range s.dests {
		if len(d.dest) >= len(prefix) && string(d.dest[:len(prefix)]) == prefix {
			n += d.told
		}
	}
	s.mu.Unlock()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return n
}

// healthy are destinations that get a message each ten times a second.
func healthy(n int) []*crowdDest {
	var all []*crowdDest
	for i := range n {
		every := 100 * time.Millisecond
		all = append(all, &crowdDest{dest: postrider.Dest(fmt.Sprintf("good%d", i)), next: time.Now().Add(time.Duration(i) * time.Millisecond), every: every, left: 1 << 30})
	}
	return all
}

// What waits for one destination, what is slow, and what does not answer at all
// leaves to the rest 95 % of what it has alone, counted in simulated time.
func TestRestKeepsItsRate(t *testing.T) {
	minute, holes := time.Minute, 2000
	if testing.Short() {
		minute, holes = 20*time.Second, 300
	}
	answer := func(d *postrider.Delivery) (postrider.Outcome, time.Duration) {
		switch d.Route.Dest[0] {
		case 's': // slow
			return ok, 10 * time.Second
		case 'h': // a black hole
			return nobody, 30 * time.Second
		}
		return ok, 50 * time.Millisecond
	}
	for _, tc := range []struct {
		name string
		more func() []*crowdDest
		runs time.Duration
	}{
		{"500,000 at one, 10 s at another", func() []*crowdDest {
			return []*crowdDest{
				{dest: "full", next: time.Now().Add(-time.Hour), left: 500_000},
				{dest: "slow", next: time.Now().Add(-time.Hour), left: 1000},
			}
		}, minute},
		{"thirty that take 10 s, with much that is older", func() (all []*crowdDest) {
			for i := range 30 {
				all = append(all, &crowdDest{dest: postrider.Dest(fmt.Sprint("slow", i)), next: time.Now().Add(-time.Hour), left: 10_000})
			}
			return all
		}, minute},
		{"100,000 at one with a rate", func() []*crowdDest {
			return []*crowdDest{{dest: "rated", next: time.Now().Add(-time.Hour), left: 100_000}}
		}, minute},
		{"thousands of black holes", func() (all []*crowdDest) {
			for i := range holes {
				all = append(all, &crowdDest{dest: postrider.Dest(fmt.Sprintf("hole%d", i)), next: time.Now().Add(5 * time.Second), left: 50})
			}
			return all
		}, minute},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var alone, beside int
			synctest.Test(t, func(t *testing.T) { alone = crowd(t, newCrowd(healthy(30)...), tc.runs, "good", answer) })
			synctest.Test(t, func(t *testing.T) {
				s := newCrowd(append(tc.more(), healthy(30)...)...)
				s.limits = map[postrider.Dest]postrider.Limits{"rated": {Rate: postrider.Rate{Messages: 100, Per: time.Minute}}}
				beside = crowd(t, s, tc.runs, "good", answer)
				slow := 0
				for _, d := range s.dests { // each that ends may have another asked for in vain
					if strings.HasPrefix(string(d.dest), "slow") {
						slow += d.told
					}
				}
				if s.backs > 2*len(s.dests)+200+slow {
					t.Errorf("%d leases came back, of %d destinations with %d attempts", s.backs, len(s.dests), slow)
				}
			})
			if alone < 5_500 || beside*100 < alone*95 {
				t.Errorf("%d alone, %d beside others", alone, beside)
			}
		})
	}
}

// Where thousands that nobody has tried do not answer, those that do are found out
// among them.
func TestFoundAmongBlackHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := healthy(30)
		for _, d := range all {
			d.next = d.next.Add(10 * time.Second)
		}
		holes := 2000
		if testing.Short() {
			holes = 300
		}
		for i := range holes {
			all = append(all, &crowdDest{dest: postrider.Dest(fmt.Sprintf("hole%d", i)), next: time.Now(), left: 50})
		}
		s := newCrowd(all...)
		crowd(t, s, 2*time.Minute, "good", func(d *postrider.Delivery) (postrider.Outcome, time.Duration) {
			if d.Route.Dest[0] == 'h' {
				return nobody, 30 * time.Second
			}
			return ok, 50 * time.Millisecond
		})
		for _, d := range all[:30] {
			if d.told < 500 {
				t.Errorf("%s: %d in 110 s", d.dest, d.told)
			}
		}
	})
}

// Nobody waits in a lane for ever: each black hole has its turn.
func TestEveryBlackHoleIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []*crowdDest
		for i := range 1000 {
			all = append(all, &crowdDest{dest: postrider.Dest(fmt.Sprintf("hole%d", i)), next: time.Now(), left: 1})
		}
		got := crowd(t, newCrowd(all...), 10*time.Minute, "hole", func(*postrider.Delivery) (postrider.Outcome, time.Duration) {
			return nobody, 30 * time.Second
		})
		if got != len(all) {
			t.Errorf("%d of %d were tried", got, len(all))
		}
	})
}

// BenchmarkSchedule is what the queue does for a message beside the delivery: a
// million are due at 10,000 destinations.
func BenchmarkSchedule(b *testing.B) {
	s := newRing(10_000, 100)
	q := New(Options{
		Spool: s, Router: func() postrider.Router { return straight{} },
		Transports: map[postrider.Via]postrider.Transport{postrider.ViaMX: transport(func(context.Context, *postrider.Delivery) []postrider.Outcome {
			return []postrider.Outcome{ok}
		})},
	})
	ctx, stop := context.WithCancel(b.Context())
	s.most, s.full = b.N, stop
	b.ReportAllocs()
	b.ResetTimer()
	if err := q.Run(ctx); err != nil {
		b.Error(err)
	}
}

// A ringSpool gives leases of its destinations in turn, until so many are settled.
type ringSpool struct {
	*crowdSpool
	at, given, most, done int
	full                  func()
}

func newRing(dests, each int) *ringSpool {
	var all []*crowdDest
	for i := range dests {
		all = append(all, &crowdDest{dest: postrider.Dest(fmt.Sprintf("d%d", i)), left: each})
	}
	return &ringSpool{crowdSpool: newCrowd(all...)}
}

func (s *ringSpool) Claim(ctx context.Context, _ int) (postrider.Lease, error) {
	for ctx.Err() == nil {
		s.mu.Lock()
		s.at++
		d := s.dests[s.at%len(s.dests)]
		if d.paused.IsZero() && s.given < s.most {
			s.given++
			s.token++
			s.leases[s.token] = d
			l := postrider.Lease{ID: postrider.ID(d.dest), Token: s.token, Dest: d.dest, Rcpts: []int{0}}
			s.mu.Unlock()
			return l, nil
		}
		wait := s.given == s.most
		s.mu.Unlock()
		if wait {
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		}
	}
	return postrider.Lease{}, ctx.Err()
}

func (s *ringSpool) Commit(_ context.Context, b postrider.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.leases[b.Settle[0].Lease.Token]
	delete(s.leases, b.Settle[0].Lease.Token)
	if len(b.Settle[0].Changes) == 0 { // it came back as it was
		d.left++
		s.given--
		return nil
	}
	if s.done++; s.done >= s.most {
		s.full()
	}
	return nil
}

func (s *ringSpool) Pause(d postrider.Dest, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byDest[d].paused = until
}

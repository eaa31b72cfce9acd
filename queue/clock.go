package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/postrider/postrider"
)

// The wall clock may be set, by a person or by a machine that has woken up. What
// waits here has its time by the wall clock, because it outlives the process; so
// a queue watches that clock against the monotonic one.
const (
	// jumpMin is the least jump that is one. What is less moves attempts by as much.
	jumpMin = 10 * time.Minute
	// doubtTime is how long a clock that has jumped forward is not believed as to the
	// age of mail: nobody is given up or told of a delay for it. If it was set back
	// meanwhile, nothing has happened.
	doubtTime = time.Hour
	// clockLook is how often the clock is looked at when nothing else happens.
	clockLook = time.Minute
)

// A clock watches the wall clock.
type clock struct {
	now func() time.Time

	mu    sync.Mutex
	wall  time.Time // at the last look
	mono  time.Time
	ahead time.Duration // what is doubted
	until time.Time     // the end of the doubt, monotonic
}

func newClock(now func() time.Time) *clock {
	return &clock{now: now, wall: now().Round(0), mono: time.Now()}
}

// look returns the wall clock, how much of its age is in doubt, and how far it has
// jumped since the last look.
func (c *clock) look() (now time.Time, doubt, jump time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, mono := c.now().Round(0), time.Now() // without its own monotonic reading
	jump = now.Sub(c.wall) - mono.Sub(c.mono)
	c.wall, c.mono = now, mono
	if mono.After(c.until) {
		c.ahead = 0
	}
	switch {
	case jump >= jumpMin:
		c.ahead, c.until = c.ahead+jump, mono.Add(doubtTime)
	case jump <= -jumpMin:
		c.ahead = max(0, c.ahead+jump)
	default:
		jump = 0
	}
	return now, c.ahead, jump
}

// look returns the wall clock, and the plan by which mail is judged now. A jump is
// told; after one backward, what waits is called back.
func (q *Queue) look() (time.Time, Plan) {
	now, doubt, jump := q.clock.look()
	if jump != 0 {
		q.opt.Alarm("the wall clock has jumped", fmt.Errorf("queue: by %v, to %v", jump.Round(time.Second), now.UTC().Format(time.DateTime)))
	}
	if jump < 0 {
		select {
		case q.jumped <- struct{}{}:
		default:
		}
	}
	return now, q.plan().older(doubt)
}

// older returns a plan for mail that looks older than it may be.
func (p Plan) older(by time.Duration) Plan {
	if p.Expire, p.ExpireBounce = p.Expire+by, p.ExpireBounce+by; p.DelayNotice > 0 {
		p.DelayNotice += by
	}
	p.doubt = by
	return p
}

// watch looks at the clock until it is told to stop, and calls back what waits
// for a clock that was ahead. Destinations that do not answer are tried anew.
func (q *Queue) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		t := time.NewTicker(clockLook)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				q.look()
			case <-q.jumped:
				if q.Probe(ctx) == nil {
					q.recall(ctx)
				}
			}
		}
	}()
	return func() {
		cancel()
		<-over
	}
}

// recall gives waiting recipients a time within the longest wait that the plan
// knows. Later ones were written when the clock was ahead.
func (q *Queue) recall(ctx context.Context) {
	for m, err := range q.opt.Spool.Scan(ctx) {
		if err != nil {
			if ctx.Err() == nil {
				q.opt.Alarm("call back what waits for a clock that was ahead", err)
			}
			if m == nil {
				return
			}
			continue // that one cannot be read
		}
		now, _ := q.look()
		most := max(damageWait, q.plan().longest())
		b := postrider.Batch{Lazy: true}
		for i := range m.Recipients {
			if r := &m.Recipients[i]; r.State == postrider.Waiting && !r.Held && r.Due.After(now.Add(most)) && r.Due.After(m.Release) {
				due := now.Add(max(0, q.plan().Wait(r.Tries, q.jitter(string(m.ID), r.Due))))
				b.Amend = append(b.Amend, postrider.Amendment{ID: m.ID, Rcpts: []int{i}, Do: postrider.AmendDue, Due: due})
			}
		}
		if len(b.Amend) > 0 {
			q.commit(ctx, "call back "+string(m.ID), b, commitTries)
		}
	}
}

// longest is the longest wait between two attempts.
func (p Plan) longest() time.Duration {
	most := time.Duration(0)
	for i := range p.Retry {
		most = max(most, p.Wait(i+1, 1))
	}
	return most
}

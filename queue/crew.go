package queue

import (
	"context"
	"sync"
	"time"

	"github.com/postrider/postrider"
)

// laneLook is how often those who wait for a lane are called anew: who was called
// may have nothing left to send.
const laneLook = time.Second

// A crew are the workers of a Run. Only its goroutine calls the methods; what a
// worker has done comes through done. A worker is kept for the next job, as its
// stack has grown to what an attempt needs.
type crew struct {
	q         *Queue
	work, ctx context.Context // what attempts have, and what ends when no more begin
	done      chan finished
	running   int
	idle      []chan job
	wg        sync.WaitGroup
}

// give hands a job to a worker.
func (c *crew) give(j job) {
	c.running++
	if n := len(c.idle); n > 0 {
		w := c.idle[n-1]
		c.idle = c.idle[:n-1]
		w <- j
		return
	}
	w := make(chan job, 1)
	w <- j
	c.wg.Go(func() { c.serve(w) })
}

// back takes a worker that has done its job.
func (c *crew) back(w chan job) {
	c.running--
	if len(c.idle) >= workersIdle {
		close(w)
		return
	}
	c.idle = append(c.idle, w)
}

// end lets the workers go, none of whom works any more.
func (c *crew) end() {
	for _, w := range c.idle {
		close(w)
	}
	c.idle = nil
	c.wg.Wait()
}

// serve does the jobs of a worker.
func (c *crew) serve(w chan job) {
	for j := range w {
		f := finished{job: j, worker: w}
		if c.q.do(c, j, &f) {
			f.slot = false
		}
		c.done <- f
	}
}

// do does a job, and reports whether the slot of the destination was given back
// before its end.
func (q *Queue) do(c *crew, j job, f *finished) (early bool) {
	l := j.lease
	attempt := l.Why == postrider.Attempt && !j.back
	f.slot = attempt
	switch {
	case j.back, c.ctx.Err() != nil: // it came too soon, or too late: given back as it was
		q.commit(c.work, "give back", postrider.Batch{Settle: []postrider.Settlement{q.untouched(l)}, Lazy: true}, 0)
	case attempt:
		q.guard(c.work, l, func() {
			q.attempt(c.work, l, func(found finding) {
				f.finding = found
				// The next message may go over the connection while this one is written
				// down; not where that has trouble, so that what cannot be written down
				// is not attempted either.
				if early = q.stuck.Load() == 0 || found.crowded; early {
					f := finished{job: j, slot: true, finding: found}
					if found.crowded {
						f.told = make(chan struct{})
					}
					if c.done <- f; f.told != nil {
						<-f.told // the pause comes before what was not tried is due again
					}
				}
			})
		})
	default:
		q.guard(c.work, l, func() { q.lookAt(c.work, l) })
	}
	if attempt {
		q.end(l)
	}
	return early
}

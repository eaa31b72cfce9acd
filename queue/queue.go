// Package queue is the scheduler: it claims from the spool what is due, gives
// each parcel to its transport within the limits, and writes down what came of
// it. When to try again is decided in retry.go, what an outcome means in
// outcome.go, which destination is dead in dest.go, and what the sender is told
// in notify.go: pure functions of their arguments and of now.
package queue

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Limits bound what a Queue does at a time. A zero field takes its default.
type Limits struct {
	Workers  int // attempts and reports in all; 200
	PerDest  int // attempts at one destination; 20
	Local    int // attempts at one destination of this machine ("local:"); 128
	MaxRcpts int // recipients of one attempt; 100, which RFC 5321 4.5.3.1.8 lets every server take
}

// Options make a Queue.
type Options struct {
	Spool      postrider.Spool
	Router     func() postrider.Router // asked at each attempt, so that a changed configuration works at once
	Transports map[postrider.Via]postrider.Transport
	Plan       Plan
	Limits     Limits
	LimitsOf   func(postrider.Dest) postrider.Limits // what a destination gets at most, by the configuration; nil: as Limits says
	Hostname   string                                // who reports
	Postmaster smtp.Path                             // From of reports; the null path: postmaster at Hostname
	ALabels    func(smtp.Path) smtp.Path             // an address with its domain in A-labels; nil: as it is
	Now        func() time.Time                      // the wall clock; nil: time.Now
	Rand       *rand.Rand                            // the seed of the jitter; nil: there is none
	Drain      time.Duration                         // how long attempts may go on after the end of Run's ctx; 0: they are cut short
	Alarm      func(string, error)                   // what people must look at; nil: nobody is told
}

// A Queue delivers what lies in a spool. Create it with New.
type Queue struct {
	opt   Options
	dests *dests
	seed  uint64 // of the jitter

	terms atomic.Pointer[terms]
	hurry chan []postrider.Dest
	gone  chan struct{} // closed at the end of Run

	stuck  atomic.Int32 // commits that have failed and are tried again
	mu     sync.Mutex
	active map[uint64]Active // attempts under way, by the token of their lease

	panics tally
	clock  *clock
	began  time.Time       // by the clock that nobody sets
	jumped chan struct{}   // the wall clock was set back
	short  context.Context // ended by Cut
	cut    context.CancelFunc
	setup  context.Context // Delivery.Setup: ended by hangUp, and by Cut
	hangUp context.CancelFunc
}

// terms are the options that Change changes.
type terms struct {
	plan       Plan
	postmaster smtp.Path
}

// Change gives the queue another plan and postmaster, for what it does from now
// on. The times that waiting mail has stay as they are, and its looks at expiry
// and delay come when they were asked for; what they decide is by the new plan.
func (q *Queue) Change(plan Plan, postmaster smtp.Path) {
	plan = plan.withDefaults()
	q.terms.Store(&terms{plan, postmaster})
	q.dests.change(plan)
}

func (q *Queue) plan() Plan { return q.terms.Load().plan }

// An Active is an attempt under way.
type Active struct {
	ID    postrider.ID
	Dest  postrider.Dest
	Rcpts []int
	Since time.Time
}

// New returns a Queue that does nothing before Run. Transports for ViaError and
// ViaDiscard are built in.
func New(opt Options) *Queue {
	opt.Plan = opt.Plan.withDefaults()
	l := &opt.Limits
	for _, d := range []struct {
		field *int
		value int
	}{{&l.Workers, 200}, {&l.PerDest, 20}, {&l.Local, 128}, {&l.MaxRcpts, 100}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if opt.ALabels == nil {
		opt.ALabels = func(p smtp.Path) smtp.Path { return p }
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Alarm == nil {
		opt.Alarm = func(string, error) {}
	}
	all := map[postrider.Via]postrider.Transport{
		postrider.ViaError: errorTransport{}, postrider.ViaDiscard: discardTransport{},
	}
	for via, t := range opt.Transports {
		all[via] = t
	}
	opt.Transports = all
	q := &Queue{
		opt: opt, dests: newDests(l.PerDest, l.Workers, opt.Plan), hurry: make(chan []postrider.Dest), gone: make(chan struct{}),
		active: make(map[uint64]Active),
		clock:  newClock(opt.Now), jumped: make(chan struct{}, 1), began: time.Now(),
	}
	q.dests.local, q.dests.limits, q.dests.born = min(l.Local, l.Workers), opt.LimitsOf, opt.Now()
	if opt.Rand != nil {
		q.seed = opt.Rand.Uint64()
	}
	q.terms.Store(&terms{opt.Plan, opt.Postmaster})
	q.short, q.cut = context.WithCancel(context.Background())
	q.setup, q.hangUp = context.WithCancel(q.short)
	return q
}

// Rekey tells the spool the destinations of the configuration as it is now, and lets
// all have their limits by it. Run does so first; call it again when the configuration
// has changed, and then Probe, so that who waits for a limit that is no more does not.
func (q *Queue) Rekey() {
	q.dests.reload()
	r := q.opt.Router()
	q.opt.Spool.Rekey(func(to smtp.Path) postrider.Dest { return r.Route(to).Dest })
}

// Probed returns when a destination that does not answer is tried again; zero:
// it answers, as far as we know. What waits for it does not go before.
func (q *Queue) Probed(d postrider.Dest) time.Time { return q.dests.next(d) }

// Active returns the attempts under way, in no order.
func (q *Queue) Active() []Active {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Active, 0, len(q.active))
	for _, a := range q.active {
		all = append(all, a)
	}
	return all
}

// Cut ends the time that attempts have after the end of Run's ctx. Before that it
// ends those under way.
func (q *Queue) Cut() { q.cut() }

// Probe tries the named destinations now, all if none is named, where they are
// paused because nobody answered: one parcel each, if one is due. It is for an
// operator who knows better, and for a changed configuration.
func (q *Queue) Probe(ctx context.Context, names ...postrider.Dest) error {
	select {
	case q.hurry <- names:
		return nil
	case <-q.gone:
		return postrider.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// FirstWake returns the Wake of a new message under the plan of this queue: it
// is what an Addition needs.
func (q *Queue) FirstWake(m *postrider.Message) time.Time { return q.plan().FirstWake(m) }

// claimed is what Claim returned.
type claimed struct {
	lease postrider.Lease
	err   error
}

// A job is the work for a lease.
type job struct {
	lease postrider.Lease
	probe bool
	back  bool      // not now: there is no room in the lane of its destination
	began time.Time // by the wall clock
}

// finished is what a worker has come to the end of: with an attempt the slot of the
// destination, with its jobs itself.
type finished struct {
	job
	slot    bool
	finding finding
	told    chan struct{} // closed when the spool knows the pause; nil: nobody waits for that
	worker  chan job      // nil: it still writes down what the attempt came to
}

// workersIdle is how many workers without work are kept for the next.
const workersIdle = 32

// Run delivers until ctx ends or the spool is closed, and returns when nothing
// is under way any more. When ctx ends, nothing more is claimed, what has no
// connection yet is given back, and what has one has Options.Drain to come to its
// end; then it is cut short, and what was cut is as if it had not begun. The error
// says why Run ended, and is nil when that was ctx. Run is called once.
func (q *Queue) Run(ctx context.Context) error {
	defer close(q.gone)
	q.Rekey()
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(q.short, cut)()
	var (
		next   = make(chan struct{}, 1) // one lease is wanted
		leases = make(chan claimed)
		ended  = ctx.Done()
		drain  <-chan time.Time
		crew   = &crew{q: q, work: work, ctx: ctx, done: make(chan finished)}

		claiming bool // a lease is on its way to us
		stopped  bool
		failure  error
	)
	over := make(chan struct{})
	go func() {
		defer close(over)
		q.claim(ctx, next, leases)
	}()
	defer func() {
		close(next)
		<-over
		crew.end()
	}()
	defer q.watch(ctx)()
	var lanes <-chan time.Time // while some wait for theirs
	for {
		if !stopped && !claiming && crew.running < q.opt.Limits.Workers {
			claiming = true
			next <- struct{}{}
		}
		if stopped && !claiming && crew.running == 0 {
			return failure
		}
		if lanes == nil && !stopped && q.dests.waiting() {
			lanes = time.After(laneLook)
		}
		select {
		case c := <-leases:
			claiming = false
			if c.err != nil {
				stopped = true
				if ctx.Err() == nil {
					failure = fmt.Errorf("queue: claim: %w", c.err)
				}
				break
			}
			q.start(crew, c.lease)
		case f := <-crew.done:
			q.finish(crew, f)
		case names := <-q.hurry:
			q.pause(q.dests.hurry(names, q.opt.Now()))
		case <-lanes:
			lanes = nil
			q.pause(q.dests.recall(q.opt.Now()))
		case <-ended:
			ended, stopped = nil, true
			q.hangUp()
			t := time.NewTimer(q.opt.Drain)
			defer t.Stop()
			drain = t.C
		case <-drain:
			cut()
		}
	}
}

// claim fetches one lease for each token of next. An error that is not the end
// of the spool or of ctx is told, and tried again.
func (q *Queue) claim(ctx context.Context, next <-chan struct{}, out chan<- claimed) {
	for range next {
		var c claimed
		for pause := commitWaitMin; ; pause = min(2*pause, commitWaitMax) {
			if c.err = ctx.Err(); c.err != nil {
				break // a spool that has something looks at no ctx
			}
			c.lease, c.err = q.opt.Spool.Claim(ctx, q.opt.Limits.MaxRcpts)
			if c.err == nil || ctx.Err() != nil || errors.Is(c.err, postrider.ErrClosed) {
				break
			}
			q.opt.Alarm("claim from the spool", c.err)
			if !sleep(ctx, pause) {
				break
			}
		}
		out <- c
	}
}

// start begins the work for a lease. The pause of a full destination comes
// before the next Claim, as the token for that comes after this.
func (q *Queue) start(c *crew, l postrider.Lease) {
	j := job{lease: l, began: q.opt.Now()}
	if l.Why == postrider.Attempt {
		var ps []pause
		var ok bool
		j.probe, ok, ps = q.dests.take(l.Dest, l.Again, j.began)
		q.pause(ps)
		if j.back = !ok; ok {
			q.begin(l)
		}
	}
	c.give(j)
}

// finish takes back what a worker has come to the end of.
func (q *Queue) finish(c *crew, f finished) {
	if f.slot {
		now, jitter := q.opt.Now(), 0.0
		if f.probe || f.finding.crowded || f.finding.verdict == verdictDead {
			jitter = q.jitter(string(f.lease.Dest), now)
		}
		f.finding.took = now.Sub(f.began)
		q.pause(q.dests.release(f.lease.Dest, f.probe, f.finding, now, jitter))
		if f.told != nil {
			close(f.told)
		}
	}
	if f.worker != nil {
		c.back(f.worker)
	}
}

// untouched ends a lease and changes nothing. A Wake that was not served is
// wanted again soon.
func (q *Queue) untouched(l postrider.Lease) postrider.Settlement {
	s := postrider.Settlement{Lease: l}
	if l.Why == postrider.Wake {
		s.Wake = q.opt.Now()
	}
	return s
}

func (q *Queue) pause(ps []pause) {
	for _, p := range ps {
		q.opt.Spool.Pause(p.dest, p.until)
	}
}

// jitter is from -1 to 1. It comes from what waits and from when, so that the
// same things happen again in whatever order attempts come back.
func (q *Queue) jitter(name string, now time.Time) float64 {
	if q.opt.Rand == nil {
		return 0
	}
	h := fnv.New64a()
	io.WriteString(h, name)
	return 2*rand.New(rand.NewPCG(q.seed^h.Sum64(), uint64(now.UnixNano()))).Float64() - 1
}

func (q *Queue) begin(l postrider.Lease) {
	a := Active{ID: l.ID, Dest: l.Dest, Rcpts: l.Rcpts, Since: q.opt.Now()}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.active[l.Token] = a
}

func (q *Queue) end(l postrider.Lease) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.active, l.Token)
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/postrider/postrider"
)

// Waits between the tries to write something down, and after how many of them,
// about an hour, people are told again. While they last the slot is taken, so
// that what cannot be written down is not attempted either.
const (
	commitWaitMin = 100 * time.Millisecond
	commitWaitMax = time.Minute
	commitTries   = 64
)

// damageWait is how long mail waits that the spool cannot read.
const damageWait = 15 * time.Minute

// attempt makes one attempt at a parcel and settles it. It calls found before it
// writes down what the attempt came to.
func (q *Queue) attempt(ctx context.Context, l postrider.Lease, found func(finding)) {
	content, err := q.opt.Spool.Open(ctx, l.ID)
	if err != nil && ctx.Err() != nil {
		q.settle(ctx, l, nil, time.Time{}, nil)
		return
	}
	if err != nil {
		if !errors.Is(err, postrider.ErrNotFound) && !errors.Is(err, postrider.ErrClosed) {
			q.opt.Alarm("open message "+string(l.ID), err)
		}
		q.putOff(ctx, l, false)
		return
	}
	defer content.Close()
	m := content.Message()
	if now, plan := q.look(); tooLate(plan, m, now) || now.Before(m.Release) {
		changes := untimely(plan, m, l.Rcpts, now)
		q.settle(ctx, l, changes, wakeAfter(changes, now), nil)
		return
	}
	rcpts, outcomes, broken := q.deliver(ctx, l, m, content)
	switch {
	case q.setup.Err() != nil: // what we end ourselves says nothing of a destination
	case len(rcpts) == 0 && slices.ContainsFunc(l.Rcpts, func(i int) bool { return i < len(m.Recipients) && m.Recipients[i].State == postrider.Waiting }):
		found(finding{crowded: true}) // on hold since a reload that the spool has not heard of yet: not again at once
	default:
		found(speaksOf(outcomes))
	}
	now, plan := q.look()
	jitter := 0.0 // each parcel of a message has its own
	if slices.ContainsFunc(outcomes, func(o postrider.Outcome) bool { return o.Result == postrider.ResultDeferred }) {
		jitter = q.jitter(fmt.Sprint(l.ID, " ", l.Rcpts), now)
	}
	changes := make([]postrider.Change, 0, len(rcpts))
	for k, i := range rcpts {
		o := outcomes[k]
		if o.Result == postrider.ResultDeferred && (o.Untried || ctx.Err() != nil && o.Uncertain == "") {
			continue // that was no attempt, or one that we cut short ourselves before a peer could have the message
		}
		changes = append(changes, change(plan, m, i, o, now, jitter))
	}
	q.settle(ctx, l, changes, wakeAfter(changes, now), broken)
}

// untimely are the changes of recipients whose attempt is not made: the time of the
// message is over (tooLate), or has not come. RFC 4865 4.2: a server "MUST NOT release
// the message until" then, though an operator had hurried it.
func untimely(p Plan, m *postrider.Message, rcpts []int, now time.Time) []postrider.Change {
	var changes []postrider.Change
	for _, i := range rcpts {
		if i >= len(m.Recipients) || m.Recipients[i].State != postrider.Waiting {
			continue
		}
		r := m.Recipients[i]
		if r.Due = m.Release; tooLate(p, m, now) {
			r.State, r.Settled, r.Reply, r.Due, r.Uncertain = postrider.Failed, now, expired(r.Reply), time.Time{}, ""
		}
		c := changeOf(i, &r)
		c.Reported = c.State != postrider.Waiting && !owes(m, r.Notify, &c, false)
		changes = append(changes, c)
	}
	return changes
}

// deliver hands the recipients of a lease to their transports. Recipients of
// one destination may still differ in their route, as in the folder of a
// mailbox: each route is one delivery. Who is on hold by now is left out. The
// outcomes belong to the recipients that are returned; broken are those to be set
// aside.
func (q *Queue) deliver(ctx context.Context, l postrider.Lease, m *postrider.Message, c postrider.Content) (
	rcpts []int, outcomes []postrider.Outcome, broken []int) {
	for _, g := range q.grouped(l, m) {
		d := &postrider.Delivery{Message: m, Rcpts: g.rcpts, Route: g.route, Content: c, Again: l.Again, Setup: q.setup}
		got := make([]postrider.Outcome, len(d.Rcpts)) // what is missing is the zero Outcome
		answers, panicking := q.call(ctx, d)
		copy(got, answers)
		if panicking {
			reply := panicked
			if q.panics.third(l.ID) {
				reply, broken = setAside, append(broken, d.Rcpts...)
			}
			for k := range got {
				got[k].Reply = reply
			}
		}
		if rcpts == nil {
			rcpts, outcomes = g.rcpts, got // mostly, that is all
			continue
		}
		rcpts = append(rcpts, g.rcpts...)
		outcomes = append(outcomes, got...)
	}
	return rcpts, outcomes, broken
}

// A group are recipients that go the same way.
type group struct {
	route postrider.Route
	rcpts []int
}

// grouped are the recipients of a lease that wait, by their routes. They are at most
// those of one attempt, so that to look through the groups is quick.
func (q *Queue) grouped(l postrider.Lease, m *postrider.Message) []group {
	router := q.opt.Router()
	var all []group
	for _, i := range l.Rcpts {
		if i >= len(m.Recipients) || m.Recipients[i].State != postrider.Waiting {
			continue
		}
		r := routeOf(router, &m.Recipients[i])
		if r.Via == postrider.ViaHold {
			continue
		}
		k := slices.IndexFunc(all, func(g group) bool { return g.route == r })
		if k < 0 {
			k = len(all)
			all = append(all, group{route: r, rcpts: make([]int, 0, len(l.Rcpts))})
		}
		all[k].rcpts = append(all[k].rcpts, i)
	}
	return all
}

// routeOf is how mail to a recipient goes now.
func routeOf(router postrider.Router, r *postrider.Recipient) postrider.Route {
	to := router.Route(r.To)
	if r.Passed {
		to = to.Past(r.To)
	}
	return to
}

// call runs a transport. A panic in it defers the parcel.
func (q *Queue) call(ctx context.Context, d *postrider.Delivery) (outcomes []postrider.Outcome, panicking bool) {
	t := q.opt.Transports[d.Route.Via]
	if t == nil {
		q.opt.Alarm("deliver "+string(d.Message.ID), fmt.Errorf("queue: no transport for via %q", d.Route.Via))
		return nil, false
	}
	defer func() {
		if p := recover(); p != nil {
			outcomes, panicking = nil, true
			q.opt.Alarm("deliver "+string(d.Message.ID), fmt.Errorf("queue: panic in transport %q: %v\n%s", d.Route.Via, p, debug.Stack()))
		}
	}()
	// The transport has its own copy of the indices, so that what it does to it
	// cannot move an outcome to another recipient.
	own := *d
	own.Rcpts = append([]int(nil), d.Rcpts...)
	return t.Deliver(ctx, &own), false
}

// settle ends a lease lazily: what a power cut takes of it is an attempt that is
// made again. The broken recipients are set aside.
func (q *Queue) settle(ctx context.Context, l postrider.Lease, changes []postrider.Change, wake time.Time, broken []int) {
	b := postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Changes: changes, Wake: wake}}, Lazy: true}
	if len(broken) > 0 {
		q.aside(&b, l.ID, broken)
	}
	q.commit(ctx, "settle "+string(l.ID), b, 0)
}

// commit writes a batch of settlements down, and tries again while that fails:
// to forget what an attempt came to would be to repeat it. It gives up when ctx
// has ended, or after so many tries, 0: never; the lease, and what it holds, then
// waits until the spool is opened anew.
func (q *Queue) commit(ctx context.Context, what string, b postrider.Batch, tries int) {
	pause := commitWaitMin
	for try := 1; ; try++ {
		err := q.opt.Spool.Commit(context.WithoutCancel(ctx), b)
		if err == nil || errors.Is(err, postrider.ErrLeaseLost) || errors.Is(err, postrider.ErrNotFound) {
			return // lost: another has settled the recipients, and our word counts no more
		}
		if errors.Is(err, postrider.ErrClosed) || try == tries {
			q.opt.Alarm(what+": given up", err)
			return
		}
		if try%commitTries == 1 {
			q.opt.Alarm(what+": will try again", err)
		}
		if try == 1 {
			q.stuck.Add(1)
			defer q.stuck.Add(-1)
		}
		if !sleep(ctx, pause) {
			q.opt.Alarm(what+": given up", err)
			return
		}
		pause = min(2*pause, commitWaitMax)
	}
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

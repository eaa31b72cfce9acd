package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// closeTime is how much of the time that Stop has is for closing, at most; a
// third of it, where that is less. When it begins, attempts are cut short.
const closeTime = 3 * time.Second

// Stop takes nothing new in, lets sessions and attempts come to their end, and
// closes the spool. Shortly before the deadline of ctx sessions and attempts are cut
// short; without a deadline sessions are when ctx ends, and attempts when their
// time is over.
//
// A disk that hangs can hold up whoever waits for it for ever. At the deadline Stop
// returns all the same, and says what it leaves. No mail is lost with that: a
// lease that is not settled ends with the process, and its recipients are due
// again.
func (n *Node) Stop(ctx context.Context) error {
	n.ready.Store(false)
	close(n.ending)
	n.stop() // a reload can do without the queue
	early, late, cancel := deadlines(ctx)
	defer cancel()
	soon, over := half(late) // the rest is for all else
	defer over()
	if !during(soon, func() { n.loading <- struct{}{} }) { // for good
		n.left.Store(true)
		n.env.Log.Error("a reload does not end, and is left")
	}
	var cut sync.WaitGroup
	for _, s := range n.servers() {
		cut.Go(func() {
			s.over.Store(true)
			s.socket.Close()
			if err := s.Shutdown(early); err != nil {
				n.env.Log.Warn("sessions were cut off", "listener", s.terms.listener, "error", err)
			}
		})
	}
	cut.Wait()
	err := n.endWork(early, late)
	return errors.Join(err, n.close(late))
}

// deadlines returns when to cut short what is under way, and when to leave it:
// never, where ctx has no deadline.
func deadlines(ctx context.Context) (early, late context.Context, cancel func()) {
	at, ok := ctx.Deadline()
	if !ok {
		return ctx, context.WithoutCancel(ctx), func() {}
	}
	early, end := context.WithDeadline(ctx, at.Add(-min(closeTime, time.Until(at)/3)))
	late, over := context.WithDeadline(context.WithoutCancel(ctx), at)
	return early, late, func() { end(); over() }
}

// endWork waits for sessions and attempts. An error says what does not end.
func (n *Node) endWork(early, late context.Context) error {
	if _, ok := late.Deadline(); !ok {
		n.work.Wait()
		return nil
	}
	ended := make(chan struct{})
	go func() {
		n.work.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-early.Done():
	}
	n.queue.Cut()
	middle, cancel := half(late)
	defer cancel()
	select {
	case <-ended:
		return nil
	case <-middle.Done():
	}
	left := n.queue.Active()
	for _, a := range left[:min(len(left), leftTold)] {
		n.env.Log.Error("an attempt does not end, and is left: what it had in hand is due again at the next start",
			"id", string(a.ID), "dest", string(a.Dest), "rcpts", len(a.Rcpts), "since", a.Since)
	}
	if len(left) > 0 {
		return fmt.Errorf("node: attempts that do not end were left: %d", len(left))
	}
	return errors.New("node: sessions that do not end were left")
}

// leftTold is how many attempts that are left are told one by one.
const leftTold = 20

// during runs f, and reports false when ctx ends first: f is then left to itself.
func during(ctx context.Context, f func()) bool {
	if ctx.Done() == nil {
		f()
		return true
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// half ends when half of the time that ctx has is over.
func half(ctx context.Context) (context.Context, context.CancelFunc) {
	at, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(at)/2)
}

// errLeft is what was not closed, for the disk does not answer.
func errLeft(what string) error {
	return fmt.Errorf("node: close %s: the disk does not answer, and it was left", what)
}

// close takes down what there is, until ctx ends. What settles mail has ended
// before, or is left.
func (n *Node) close(ctx context.Context) error {
	if g := n.gen.Load(); g != nil {
		closeDoors(g.doors) // after a Stop they are closed already
	}
	first, cancel := half(ctx) // the rest is for the spool
	defer cancel()
	var peers sync.WaitGroup // they need not wait for who asks for the queue just now
	if n.relay != nil {
		peers.Go(func() {
			if err := n.relay.Close(first); err != nil {
				n.env.Log.Warn("connections to peers were cut off", "error", err)
			}
		})
	}
	for _, s := range n.http {
		s.end(first)
	}
	var all []error
	if !during(first, n.admins.Wait) {
		all = append(all, errLeft("the control socket"))
	}
	peers.Wait()
	if n.store != nil {
		all = append(all, n.closeSpool(ctx))
	}
	if n.untold != nil {
		n.untold() // a journal whose disk takes nothing waits no longer
	}
	if !during(ctx, n.feed.Wait) {
		return errors.Join(append(all, errLeft("the journal"))...)
	}
	if n.journal != nil {
		if err := n.journal.Close(); err != nil {
			all = append(all, fmt.Errorf("node: close the journal: %w", err))
		}
	}
	return errors.Join(all...)
}

// closeSpool closes the spool, so that the next start finds it in order.
func (n *Node) closeSpool(ctx context.Context) error {
	var err error
	if !during(ctx, func() {
		if cerr := n.store.Close(ctx); cerr != nil {
			err = fmt.Errorf("node: close the spool: %w", cerr)
		}
	}) {
		return errLeft("the spool")
	}
	return err
}

package queue

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

const (
	// panicsMax is how often the work for a message may panic before it is set
	// aside: a mistake of ours that one message brings out must not take the time of
	// all others, and must not be kept from those who can mend it.
	panicsMax = 3
	// panickedMax bounds how many messages are remembered.
	panickedMax = 4096
)

// Replies of recipients whose attempt panicked. The sender may come to see them,
// so the log alone says why.
var (
	panicked = smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 3}, Text: "Something went wrong here with this message"}
	setAside = smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 3}, Text: fmt.Sprintf(
		"Something went wrong here with this message %d times, and it is held: the log says what", panicsMax)}
)

// A tally counts the panics of each message. It forgets them with the process.
type tally struct {
	mu sync.Mutex
	n  map[postrider.ID]int
}

// third counts a panic, and reports whether the message is to be set aside. Then
// the count begins again, for when it is released.
func (t *tally) third(id postrider.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n == nil || len(t.n) >= panickedMax && t.n[id] == 0 {
		t.n = make(map[postrider.ID]int)
	}
	if t.n[id]++; t.n[id] < panicsMax {
		return false
	}
	delete(t.n, id)
	return true
}

// aside holds recipients of a message, in a batch that also ends a lease.
func (q *Queue) aside(b *postrider.Batch, id postrider.ID, rcpts []int) {
	b.Amend = append(b.Amend, postrider.Amendment{ID: id, Rcpts: rcpts, Do: postrider.AmendHold})
	q.opt.Alarm("message "+string(id)+" is set aside", fmt.Errorf(
		"queue: it has panicked %d times; mend what the log says and release it", panicsMax))
}

// guard runs the work of a lease. A panic in it ends the lease and changes
// nothing: the work is put off, and the recipients of an attempt are held the
// third time. What was committed before the panic stays.
func (q *Queue) guard(ctx context.Context, l postrider.Lease, work func()) {
	defer func() {
		if p := recover(); p != nil {
			q.opt.Alarm("work on "+string(l.ID), fmt.Errorf("queue: panic: %v\n%s", p, debug.Stack()))
			q.putOff(ctx, l, q.panics.third(l.ID))
		}
	}()
	work()
}

// putOff ends a lease of whose message nothing is known but the lease. So its
// recipients stay as they are, with what their sender was told; only their time
// is another one, or they are held.
func (q *Queue) putOff(ctx context.Context, l postrider.Lease, hold bool) {
	b := postrider.Batch{Settle: []postrider.Settlement{{Lease: l}}, Lazy: true}
	later := q.opt.Now().Add(damageWait)
	switch {
	case l.Why == postrider.Wake && hold:
		b.Settle[0].Wake = q.opt.Now().Add(heldLook)
	case l.Why == postrider.Wake:
		b.Settle[0].Wake = later
	case hold:
		q.aside(&b, l.ID, l.Rcpts)
	default:
		b.Amend = []postrider.Amendment{{ID: l.ID, Rcpts: l.Rcpts, Do: postrider.AmendDue, Due: later}}
	}
	q.commit(ctx, "put off "+string(l.ID), b, 0)
}

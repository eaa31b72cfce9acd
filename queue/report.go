package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dsn"
	"github.com/postrider/postrider/smtp"
)

// ordinalsMax is how many IDs are tried for a report whose own is taken.
const ordinalsMax = 8

// lookAt serves a Wake lease: it expires, tells and reports what lookAt of
// notify.go decides, the report and the marks of it in one commit.
func (q *Queue) lookAt(ctx context.Context, l postrider.Lease) {
	pause := commitWaitMin
	for try := 1; ; try++ {
		err := q.lookOnce(ctx, l)
		if err == nil || errors.Is(err, postrider.ErrLeaseLost) || errors.Is(err, postrider.ErrNotFound) {
			return
		}
		if ctx.Err() != nil || errors.Is(err, postrider.ErrClosed) {
			return // owed still, and found again when the spool is opened
		}
		var unread *unreadError
		if try == commitTries || errors.As(err, &unread) {
			q.opt.Alarm("look at message "+string(l.ID)+": put off", err)
			q.putOff(ctx, l, false)
			return
		}
		if try == 1 {
			q.opt.Alarm("look at message "+string(l.ID)+": will try again", err)
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, commitWaitMax)
	}
}

// An unreadError is that the spool cannot read a message. It may last for ever,
// and must not hold a slot that other mail needs.
type unreadError struct{ err error }

func (e *unreadError) Error() string { return "queue: open: " + e.err.Error() }
func (e *unreadError) Unwrap() error { return e.err }

func (q *Queue) lookOnce(ctx context.Context, l postrider.Lease) error {
	content, err := q.opt.Spool.Open(ctx, l.ID)
	if err != nil {
		return &unreadError{err}
	}
	defer content.Close()
	m := content.Message()
	router := q.opt.Router()
	now, plan := q.look()
	todo := lookAt(plan, m, l.Rcpts, now, func(i int) wait {
		r := routeOf(router, &m.Recipients[i])
		switch {
		case m.Recipients[i].Held || r.Via == postrider.ViaHold || r.Dest == postrider.DestHold:
			return waitHeld
		case q.dests.dead(r.Dest):
			return waitDead
		case time.Since(q.began) >= turnMax:
			return waitLong
		case time.Since(q.began) < owedTime:
			return waitNew
		}
		return waitTurn
	})
	if soon := now.Add(doubtTime); plan.Expire > q.plan().Expire && todo.wake.After(soon) {
		todo.wake = soon
	}
	s := postrider.Settlement{Lease: l, Changes: todo.changes, Wake: todo.wake}
	b := postrider.Batch{Settle: []postrider.Settlement{s}}
	if len(todo.report) == 0 {
		b.Lazy = true
		return q.opt.Spool.Commit(context.WithoutCancel(ctx), b)
	}
	return q.report(ctx, content, m, todo.report, now, b)
}

// report adds the report to b and commits it. An ID that is taken is not ours:
// a report that was added has also ended its lease. The next one is tried.
func (q *Queue) report(ctx context.Context, c postrider.Content, m *postrider.Message, rcpts []dsn.Recipient, now time.Time,
	b postrider.Batch) error {
	n := ordinal(m)
	for k := range ordinalsMax {
		id := reportID(m.ID, n+k*len(m.Recipients)*2+k)
		err := q.addReport(ctx, id, c, m, rcpts, now, b)
		if !errors.Is(err, postrider.ErrExists) {
			return err
		}
		q.opt.Alarm("report "+string(id)+" about "+string(m.ID), err)
	}
	return fmt.Errorf("queue: no free ID for a report about %s", m.ID)
}

func (q *Queue) addReport(ctx context.Context, id postrider.ID, c postrider.Content, m *postrider.Message,
	rcpts []dsn.Recipient, now time.Time, b postrider.Batch) error {
	// RFC 6533 4.5: a report is in ASCII where the way back may not take more, as by an
	// address that is ASCII but for its domain.
	about := dsn.Report{
		ID: string(id), Now: now, ReportingMTA: q.opt.Hostname, EnvID: m.EnvID,
		From: q.opt.ALabels(q.terms.Load().postmaster), To: q.opt.ALabels(m.From),
		Arrived: m.Arrived, Recipients: rcpts, Return: m.Ret, Original: c.Reader(), UTF8: m.UTF8,
	}
	if by, ok := deadline(m); ok {
		about.DeliverBy = by
	}
	if about.Hold.For = m.HoldFor; m.HoldFor == 0 {
		about.Hold.Until = m.Release
	}
	out, err := dsn.Compose(about)
	if err != nil {
		return err
	}
	draft, err := q.opt.Spool.Create(ctx, id)
	if err != nil {
		return fmt.Errorf("queue: create report: %w", err)
	}
	defer draft.Discard()
	if _, err := draft.Write(out.Content); err != nil {
		return fmt.Errorf("queue: write report: %w", err)
	}
	// RFC 3461 6.1: the null reverse-path, to the reverse-path of the message,
	// no RET, and NOTIFY "MUST be NEVER". RFC 6710 4.6: who writes a report "SHOULD use
	// the priority value of the message as the priority of the generated delivery
	// report".
	r := &postrider.Message{
		ID: draft.ID(), Priority: m.Priority, UTF8: out.UTF8, EightBit: out.EightBit, Arrived: now, Size: draft.Size(),
		Recipients: []postrider.Recipient{{To: m.From, Notify: smtp.NotifyNever, Due: now}},
	}
	b.Add = []postrider.Addition{{Draft: draft, Message: r, Wake: q.plan().FirstWake(r)}}
	if err := q.opt.Spool.Commit(context.WithoutCancel(ctx), b); err != nil {
		return fmt.Errorf("queue: commit report: %w", err)
	}
	return nil
}

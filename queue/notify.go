package queue

import (
	"crypto/sha256"
	"math/big"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dsn"
	"github.com/postrider/postrider/smtp"
)

// Times of the second look at a message.
const (
	// gatherMax is how long a failure waits for the other recipients, so that
	// they come in one report.
	gatherMax = 60 * time.Second
	// lastChance is how long mail that has come to its end still waits for an
	// attempt that is due: its last one.
	lastChance = 10 * time.Minute
	// owedTime is the same of mail whose attempt could not be made before its end: from
	// the start of the queue, as the machine was off, and from when it became due, as it
	// was held. All that waited with it wants its turn in that time.
	owedTime = time.Hour
	// heldLook is how often held mail is looked at. It does not expire; and who releases
	// it has it looked at. Only a crash may forget that a reload has released it.
	heldLook = 4 * time.Hour
	// turnMax is how long mail may wait for its turn beyond its end, in a queue that
	// has run for so long: the others of its destination leave it none.
	turnMax = 24 * time.Hour
)

// A wait is why a recipient waits.
type wait uint8

const (
	waitTurn wait = iota // for its due time, or a slot
	waitNew              // the same, in a queue that has not run for owedTime yet
	waitLong             // the same, in one that has run for turnMax
	waitDead             // for a destination where nobody answers
	waitHeld             // for the operator
)

// A look is what is to be done about a message that wants to be looked at.
type look struct {
	changes []postrider.Change
	report  []dsn.Recipient // what the sender is told now; empty: nothing
	wake    time.Time       // when to look again; zero: not again
}

// lookAt decides about a message under a Wake lease of the recipients rcpts:
// which of them have waited too long, whose delay is told, and what is reported
// now. Waits says why a recipient waits.
//
// A recipient expires when its time is over and its last attempt is behind it,
// or none can be made. What could not be tried though its destination may well be
// alive (released from hold, or the machine was off for a week) is tried first, unless
// its turn does not come for owedTime, or, where it was never tried before, for turnMax
// more, and for as long since it was due.
func lookAt(p Plan, m *postrider.Message, rcpts []int, now time.Time, waits func(i int) wait) look {
	p = p.For(m)
	end := endOf(p, m)
	var l look
	mine := make(map[int]bool, len(rcpts))
	for _, i := range rcpts {
		mine[i] = true
	}
	for i := range m.Recipients {
		r := m.Recipients[i] // a copy, that changes as we decide
		if r.State != postrider.Waiting {
			if mine[i] && !r.Reported {
				l.settled(p, m, i, &r, now)
			}
			continue
		}
		why := waits(i)
		if why == waitHeld {
			l.again(now.Add(heldLook))
			continue
		}
		if mine[i] && (isOver(&r, why, end, now) || tooLate(p, m, now)) {
			r.State, r.Settled, r.Reply = postrider.Failed, now, expired(r.Reply)
			l.settled(p, m, i, &r, now)
			continue
		}
		at, late := lateAt(p, m, &r)
		late = late && !now.Before(at)
		if mine[i] && late && now.Before(end) && (r.Tries > 0 || why == waitDead || why == waitLong || m.By.Mode == smtp.ByNotify) {
			r.Delayed = true
			l.changes = append(l.changes, changeOf(i, &r))
			l.report = append(l.report, reported(m, &r, end))
		}
		l.again(nextLook(p, m, &r, now))
	}
	return l
}

// isOver reports whether a waiting recipient is given up whose time ends at end.
func isOver(r *postrider.Recipient, why wait, end, now time.Time) bool {
	past := func(t time.Time, by time.Duration) bool { return !now.Before(t.Add(by)) }
	chance := past(end, lastChance) && (!r.Due.After(end) || past(r.Due, owedTime)) && why != waitNew
	dead := past(end, 0) && (!r.Due.After(end) || past(r.Due, lastChance)) // who releases it may know that somebody is there again
	return r.Tries > 0 && chance || why == waitDead && dead || why == waitLong && past(end, turnMax) && past(r.Due, turnMax)
}

// settled marks recipient i reported, and reports it if that is owed. Of one that was
// delivered too late its delay is told, and then, in a report of its own, what else is
// owed.
func (l *look) settled(p Plan, m *postrider.Message, i int, r *postrider.Recipient, now time.Time) {
	if c := changeOf(i, r); lateTold(p, m, r.Notify, &c) {
		c.Delayed, c.Reported = true, !owes(m, r.Notify, &c, false)
		l.changes = append(l.changes, c)
		late := *r
		late.State, late.Reply, late.Remote = postrider.Waiting, smtp.Reply{}, ""
		told := reported(m, &late, time.Time{})
		told.Late = true
		l.report = append(l.report, told)
		if !c.Reported {
			l.again(now)
		}
		return
	}
	r.Reported = true
	l.changes = append(l.changes, changeOf(i, r))
	// A success that is not reported is owed: what was not was marked at once, by the
	// attempt that knew the peer.
	c := changeOf(i, r)
	if owes(m, r.Notify, &c, false) || r.State == postrider.Delivered && !m.Null() && r.Notify&smtp.NotifyNever == 0 {
		l.report = append(l.report, reported(m, r, time.Time{}))
	}
}

// again asks for another look at t, if none is wanted before.
func (l *look) again(t time.Time) {
	if l.wake.IsZero() || t.Before(l.wake) {
		l.wake = t
	}
}

// nextLook is when a waiting recipient is to be looked at next.
func nextLook(p Plan, m *postrider.Message, r *postrider.Recipient, now time.Time) time.Time {
	end := endOf(p, m)
	if late, ok := lateAt(p, m, r); ok && late.Before(end) {
		return laterOf(late, now)
	}
	return laterOf(end, now)
}

// laterOf is t, or, when that has come, a while from now. The while ends what
// waits for a last attempt with the first look after lastChance.
func laterOf(t, now time.Time) time.Time {
	if t.After(now) {
		return t
	}
	return now.Add(lastChance)
}

// wakeAfter is the Wake of the settlement of an attempt: gatherMax from now if
// it owes the sender a report, else zero. An earlier one stays, so that the time
// counts from the first failure; and the spool looks by itself when there is no
// first attempt left to wait for.
func wakeAfter(changes []postrider.Change, now time.Time) time.Time {
	for i := range changes {
		if c := &changes[i]; c.State != postrider.Waiting && !c.Reported {
			return now.Add(gatherMax)
		}
	}
	return time.Time{}
}

// changeOf writes a recipient down as it is.
func changeOf(i int, r *postrider.Recipient) postrider.Change {
	return postrider.Change{
		Rcpt: i, State: r.State, Reported: r.Reported, Delayed: r.Delayed, Due: r.Due, Tries: r.Tries,
		Settled: r.Settled, Reply: r.Reply, Remote: r.Remote, Final: r.Final, RelayedTo: r.RelayedTo, Uncertain: r.Uncertain,
	}
}

// reported is what a report says of a recipient. End is when a late one is
// given up.
//
// RFC 3461 5.2.2: who relayed a message to a server without DSN tells "relayed";
// into a mailbox it is "delivered".
func reported(m *postrider.Message, r *postrider.Recipient, end time.Time) dsn.Recipient {
	status, answer := lastAnswer(r.Reply)
	d := dsn.Recipient{
		Final: r.To, ORcpt: r.ORcpt, Status: status, RemoteMTA: r.Remote, Diagnostic: answer, LastAttempt: r.Settled,
	}
	switch r.State {
	case postrider.Waiting:
		d.Action, d.WillRetryUntil = dsn.Delayed, end
		if m.By.Mode == smtp.ByNotify {
			d.Status = statusLate
		}
	case postrider.Failed:
		d.Action = dsn.Failed
		if status == statusExpired {
			d.LastAttempt = time.Time{} // it was before we gave up, and is not kept
		}
	case postrider.Delivered:
		d.Action = dsn.Delivered
		switch {
		case r.Expanded:
			d.Action = dsn.Expanded
		case !r.Final:
			d.Action = dsn.Relayed
		}
	}
	return d
}

// ordinal counts what the sender of m was told so far. Every report raises it.
func ordinal(m *postrider.Message) int {
	n := 0
	for i := range m.Recipients {
		if m.Recipients[i].Reported {
			n++
		}
		if m.Recipients[i].Delayed {
			n++
		}
	}
	return n
}

// idTime is how many characters of an ID tell its time, and idSize all of them.
const (
	idTime = 9
	idSize = 20
)

// reportID derives the ID of report number n about a message: the time of the
// message, then what only these two make. A report that is made again after a
// crash has the same ID, so that no replay doubles it.
func reportID(id postrider.ID, n int) postrider.ID {
	sum := sha256.New()
	sum.Write([]byte("report\n" + string(id) + "\n"))
	sum.Write(big.NewInt(int64(n)).Bytes())
	s := new(big.Int).SetBytes(sum.Sum(nil)).Text(36)
	s = strings.Repeat("0", idSize) + s
	head := (string(id) + strings.Repeat("0", idTime))[:idTime]
	return postrider.ID(head + s[len(s)-(idSize-idTime):])
}

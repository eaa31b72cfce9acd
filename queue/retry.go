package queue

import (
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A Plan says when mail is tried again, and for how long. The zero Plan takes
// the values of DefaultPlan, one by one.
type Plan struct {
	Retry        []time.Duration // wait after the first attempt, the second, …; then the last, again and again
	Expire       time.Duration   // from the arrival of a message to our giving up
	ExpireBounce time.Duration   // the same for mail with the null reverse-path
	DelayNotice  time.Duration   // from the arrival to the word that it is late; negative: never

	doubt time.Duration // how much of the age of mail is not believed (clock.go)
}

// DefaultPlan is the plan of a server that says nothing about it. RFC 5321
// 4.5.4.1: "the give-up time generally needs to be at least 4-5 days. It MAY be
// appropriate to set a shorter maximum number of retries for non-delivery
// notifications".
func DefaultPlan() Plan {
	return Plan{
		Retry: []time.Duration{
			time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour,
		},
		Expire:       5 * 24 * time.Hour,
		ExpireBounce: 24 * time.Hour,
		DelayNotice:  4 * time.Hour,
	}
}

// jitterShare is how far a wait is moved at most, as a share of itself.
const jitterShare = 0.1

// withDefaults fills in what is not set.
func (p Plan) withDefaults() Plan {
	d := DefaultPlan()
	if len(p.Retry) == 0 {
		p.Retry = d.Retry
	}
	if p.Expire <= 0 {
		p.Expire = d.Expire
	}
	if p.ExpireBounce <= 0 {
		p.ExpireBounce = min(d.ExpireBounce, p.Expire)
	}
	if p.DelayNotice == 0 {
		p.DelayNotice = d.DelayNotice
	}
	return p
}

// Wait returns how long to wait after attempt number tries, counted from 1.
// Jitter, from -1 to 1, moves it by up to a tenth.
func (p Plan) Wait(tries int, jitter float64) time.Duration {
	w := p.Retry[min(max(tries, 1), len(p.Retry))-1]
	return w + time.Duration(float64(w)*jitterShare*min(max(jitter, -1), 1))
}

// Next returns when to try again after attempt number tries, or false when the
// message has lived long enough, to its end. The last attempt is made at the end of its
// life, never later.
//
// RFC 5321 4.5.4.1: "The sender MUST delay retrying a particular destination
// after one attempt has failed." The wait grows, so that a dead host costs
// log(age) attempts; jitter keeps a thousand messages that one outage deferred
// from coming back in one second.
func (p Plan) Next(end, now time.Time, tries int, jitter float64) (time.Time, bool) {
	if !now.Before(end) {
		return time.Time{}, false
	}
	next := now.Add(p.Wait(tries, jitter))
	if next.After(end) {
		next = end
	}
	return next, true
}

// For returns the plan of a message: mail with the null reverse-path lives
// shorter, and nobody is told that it is late.
func (p Plan) For(m *postrider.Message) Plan {
	if m.Null() {
		p.Expire, p.DelayNotice = p.ExpireBounce, -1
	}
	return p
}

// FirstWake returns the Wake of a new message: when it is to be looked at,
// whatever its attempts come to.
func (p Plan) FirstWake(m *postrider.Message) time.Time {
	p = p.withDefaults().For(m)
	wake := endOf(p, m)
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if at, ok := lateAt(p, m, r); ok && at.Before(wake) {
			wake = at
		}
		// An alias that was expanded is reported with what comes soon.
		if at := m.Arrived.Add(gatherMax); r.State != postrider.Waiting && !r.Reported && at.Before(wake) {
			wake = at
		}
	}
	return wake
}

// wantsDelay reports whether the sender is to hear that mail to r is late, and
// has not heard yet: who asked for it, and who has submitted the message here, if
// a person has written it. RFC 3461 5.2.5 allows the notice to all others where
// NOTIFY was not given; but a stranger may be a forged one.
func wantsDelay(p Plan, m *postrider.Message, r *postrider.Recipient) bool {
	asked := r.Notify&smtp.NotifyDelay != 0
	ours := r.Notify == 0 && m.Source.Account != "" && !m.Automatic
	return p.DelayNotice > 0 && !m.Null() && r.State == postrider.Waiting && !r.Delayed && (asked || ours)
}

package queue

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// statusExpired is X.4.7, delivery time expired (RFC 3463 3.5).
var statusExpired = smtp.Status{Class: 5, Subject: 4, Detail: 7}

// statusLate is the same of mail that is late and still tried (RFC 2852 4.1.3).
var statusLate = smtp.Status{Class: 4, Subject: 4, Detail: 7}

// unknown is the reply of a recipient whose attempt came to nothing that anybody
// knows, and neverTried that of one which expired before its first attempt.
var (
	unknown    = smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 3}, Text: "The attempt ended without an answer"}
	neverTried = smtp.Reply{Code: 554, Status: statusExpired, Text: "The destination could not be tried in all the time"}
)

// change turns what an attempt came to for recipient i into its new state.
// Jitter, from -1 to 1, moves the next attempt; all recipients of one attempt
// have the same, so that they stay one parcel.
func change(p Plan, m *postrider.Message, i int, o postrider.Outcome, now time.Time, jitter float64) postrider.Change {
	r := &m.Recipients[i]
	c := postrider.Change{Rcpt: i, Delayed: r.Delayed, Tries: r.Tries + 1, Reply: o.Reply, Remote: o.Remote}
	switch o.Result {
	case postrider.ResultDelivered:
		if o.Reply.IsZero() {
			c.Reply = smtp.OK
		}
		c.State, c.Settled, c.Final, c.RelayedTo = postrider.Delivered, now, o.Final, o.PeerHasDSN
	case postrider.ResultFailed:
		if o.Reply.IsZero() {
			c.Reply = smtp.Reply{Code: 554, Status: smtp.Status{Class: 5}, Text: "The attempt failed without a reason"}
		}
		c.State, c.Settled = postrider.Failed, now
	default:
		if c.Reply.Code == 0 {
			c.Reply = unknown // Code 0 would say that there was no attempt
		}
		c.Uncertain = cmp.Or(o.Uncertain, r.Uncertain)
		plan := p.For(m)
		next, ok := plan.Next(endOf(plan, m), now, c.Tries, jitter)
		if !ok {
			c.State, c.Settled, c.Reply, c.Uncertain = postrider.Failed, now, expired(c.Reply), ""
			break
		}
		c.Due = next
	}
	c.Reported = c.State != postrider.Waiting && !owes(m, r.Notify, &c, o.PeerHasBy) && !lateTold(p, m, r.Notify, &c)
	return c
}

// expiredWords begin the reply of a recipient that is given up for its age.
const expiredWords = "Delivery time expired; the last answer was"

// expired is the reply of a recipient that is given up for its age: our own
// 5.4.7, then the last answer in its own words. lastAnswer takes it apart.
func expired(last smtp.Reply) smtp.Reply {
	if last.Code == 0 {
		return neverTried
	}
	words := strconv.Itoa(last.Code) + " "
	if !last.Status.IsZero() {
		words += last.Status.String() + " "
	}
	return smtp.Reply{Code: 554, Status: statusExpired, Text: expiredWords + "\n" + words + last.Text}
}

// lastAnswer returns the status that a report gives for a reply, and the reply
// as the peer said it.
func lastAnswer(r smtp.Reply) (smtp.Status, smtp.Reply) {
	words, ok := strings.CutPrefix(r.Text, expiredWords+"\n")
	code, words, _ := strings.Cut(words, " ")
	n, err := strconv.Atoi(code)
	if !ok || err != nil || r.Status != statusExpired {
		return r.Status, r
	}
	last := smtp.Reply{Code: n, Text: words}
	var s smtp.Status
	word, text, _ := strings.Cut(words, " ")
	fmt.Sscanf(word, "%d.%d.%d", &s.Class, &s.Subject, &s.Detail)
	if s.String() == word {
		last.Status, last.Text = s, text
	}
	return statusExpired, last
}

// owes reports whether the sender is to hear that a recipient settled so.
//
// RFC 5321 4.5.5: nobody answers the null reverse-path. RFC 3461 4.1: without
// NOTIFY a failure is told and a success is not. RFC 3461 5.2.2: who relayed to
// a server that took NOTIFY leaves the success to it. What BY asks for is in byTold,
// and in lateTold.
func owes(m *postrider.Message, n smtp.Notify, c *postrider.Change, peerHasBy bool) bool {
	if m.Null() || n&smtp.NotifyNever != 0 {
		return false
	}
	switch c.State {
	case postrider.Failed:
		return n == 0 || n&smtp.NotifyFailure != 0
	case postrider.Delivered:
		return n&smtp.NotifySuccess != 0 && !c.RelayedTo || byTold(m, c, peerHasBy)
	}
	return false
}

// silent is the status of a connection that was lost (RFC 3463 3.5).
var silent = smtp.Status{Class: 4, Subject: 4, Detail: 2}

// speaksOf returns what the outcomes of an attempt say about its destination.
// One host that talked to us outweighs all that did not. It may have said that it
// wants less of us: RFC 5321 3.8 has 421 for a server that closes, and many say so to
// those who come too often; others just fall silent.
func speaksOf(outcomes []postrider.Outcome) finding {
	var f finding
	for i := range outcomes {
		o := &outcomes[i]
		f.crowded, f.rest = f.crowded || o.Untried, max(f.rest, o.Rest)
		if o.Result == postrider.ResultDeferred && !f.less {
			f.less = o.Reply.Code == 421 || o.Remote == "" && o.Reply.Status == silent
			f.reason = o.Reply.Text
		}
		switch {
		case o.Result == postrider.ResultDeferred && o.Scope == postrider.ScopeDest:
			f.verdict = verdictDead
		case o.Result != postrider.ResultDeferred || o.Remote != "":
			f.verdict = verdictAlive
			return f
		}
	}
	return f
}

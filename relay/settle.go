package relay

import (
	"context"
	"errors"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// settle turns the result of a transaction into outcomes, and says how to go on.
// What the peer said of one recipient is final for this attempt; what it said of
// the message speaks for everybody who is left.
func (a *attempt) settle(ctx context.Context, l *link, t target, batch []int, res *smtpc.Result) next {
	if l.kept && unheard(res) && ctx.Err() == nil {
		return nextFresh
	}
	if refused := res.Mail; refused.Permanent() {
		a.rest(said(t, refused, postrider.ScopeMessage))
		return nextNothing
	}
	if res.Mail.Positive() {
		a.recipients(l, t, batch, res)
	}
	if res.Err != nil {
		return a.ended(t, batch, res)
	}
	if res.Mail.Temporary() {
		// Another host may have room or patience for the message.
		a.blocked(rankPeer, said(t, res.Mail, postrider.ScopeMessage))
		return nextHost
	}
	if len(a.left) > 0 && (res.Accepted() > 0 && !res.Final.Positive()) {
		reply, _ := res.Decides(firstAccepted(res))
		a.rest(said(t, reply, postrider.ScopeMessage))
	}
	if len(a.left) == 0 {
		return nextNothing
	}
	return nextBatch
}

// unheard reports whether the connection ended before the peer said anything
// about this transaction.
func unheard(res *smtpc.Result) bool {
	e, ok := errors.AsType[*smtpc.Error](res.Err)
	return ok && res.Mail.Code == 0 && (e.Stage == smtpc.StageReset || e.Stage == smtpc.StageMail)
}

// recipients settles those of a batch for whom the peer spoke alone: refused at
// RCPT, or delivered.
func (a *attempt) recipients(l *link, t target, batch []int, res *smtpc.Result) {
	_, dsn := l.conn.Ext("DSN")
	delivered := res.Accepted() > 0 && res.Final.Positive()
	for k, i := range batch {
		reply := res.Rcpts[k]
		switch {
		case reply.Code == 0:
		case reply.Positive() && delivered:
			o := said(t, res.Final, postrider.ScopeRecipient)
			o.PeerHasDSN = dsn && a.rcpt(i).Notify != 0
			a.put(i, o)
		case reply.Positive():
		case delivered && tooMany(reply):
			// RFC 5321 4.5.3.1.10: "Each retransmission attempt that is able to deliver
			// anything will be able to dispose of at least 100 of these recipients."
			// The next transaction takes them.
		default:
			a.put(i, said(t, reply, postrider.ScopeRecipient))
		}
	}
}

// tooMany reports whether a recipient was refused for those before it.
func tooMany(r smtp.Reply) bool {
	return r.Code == 452 && (r.Status.IsZero() || r.Status.Subject == 5 && r.Status.Detail == 3)
}

// firstAccepted is a recipient that was not refused at RCPT.
func firstAccepted(res *smtpc.Result) int {
	for i, r := range res.Rcpts {
		if r.Positive() {
			return i
		}
	}
	return 0
}

// ended handles a transaction that broke off.
func (a *attempt) ended(t target, batch []int, res *smtpc.Result) next {
	e, ok := errors.AsType[*smtpc.Error](res.Err)
	switch {
	case !ok:
		// The content could not be read, or has no form that can be sent: our own
		// trouble, whoever the peer is.
		o := deferred(3, 0, "the message cannot be sent: %v", res.Err)
		o.Scope = postrider.ScopeMessage
		a.rest(o)
		return nextNothing
	case res.Uncertain:
		// RFC 1047: the peer may have the message. To try the next host now would
		// make the duplicate likely.
		o := lost(t, e)
		o.Uncertain = true
		for k, i := range batch {
			if res.Rcpts[k].Positive() {
				a.put(i, o)
			}
		}
		o.Uncertain = false
		a.rest(o)
		return nextNothing
	case res.Final.Permanent():
		// Refused while the content was on its way.
		a.rest(said(t, res.Final, postrider.ScopeMessage))
		return nextNothing
	}
	a.broken(t, e)
	switch {
	case len(a.left) == 0:
		return nextNothing
	case e.Stage == smtpc.StageContent:
		return nextHost
	}
	return nextAddress
}

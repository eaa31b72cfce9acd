package relay

import (
	"context"
	"errors"
	"slices"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// settle turns the result of a transaction into outcomes, and says how to go on.
// What the peer said of one recipient is for that one, and what it said of the message
// for everybody who is left. Where it said 4yz the next host is asked.
func (a *attempt) settle(ctx context.Context, l *link, t target, batch []int, res *smtpc.Result) next {
	again := (l.kept || l.mailed) && !a.over(ctx) // the session may have had enough: a new one says
	if again && unheard(res) {
		return nextFresh
	}
	if refused := res.Mail; refused.Permanent() {
		if refused.Code == 530 && (a.fixed() || l.stripped) {
			a.blocked(rankOurs, unwelcome(t, refused))
			return nextHost
		}
		if again {
			return nextFresh
		}
		a.rest(said(t, refused, postrider.ScopeMessage))
		return nextNothing
	}
	if res.Mail.Positive() {
		l.mailed = true
		a.recipients(l, t, batch, res)
	}
	if res.Err != nil {
		return a.ended(t, batch, res)
	}
	if res.Mail.Temporary() {
		if again {
			return nextFresh
		}
		// Another host may have room or patience for the message, or think otherwise of
		// the address that we call another of its own from.
		a.blocked(rankPeer, said(t, res.Mail, postrider.ScopeMessage))
		return nextAddress
	}
	if reply, at := res.Decides(firstAccepted(res)); len(a.left) > 0 && res.Accepted() > 0 && !reply.Positive() &&
		!(a.lmtp() && at == smtpc.StageFinal) {
		if o := said(t, reply, postrider.ScopeMessage); reply.Temporary() {
			a.putOff(o, slices.Clone(a.left)...)
		} else {
			a.rest(o)
		}
	}
	if len(a.left) == 0 {
		return a.through()
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
// RCPT, delivered, or over LMTP refused after the final dot.
func (a *attempt) recipients(l *link, t target, batch []int, res *smtpc.Result) {
	_, dsn := l.conn.Ext("DSN")
	by := a.m.By.Mode != 0 && a.takesBy(l.conn, a.isPlain(t))
	if a.took > 0 && res.Accepted() > 0 {
		a.r.pool.learn(l.key.site, a.took)
	}
	full := 0
	defer func() { a.took = full }()
	moved := false // some of the batch are dealt with at its end, so that others may follow
	for k := range batch {
		moved = moved || a.settles(res, k)
	}
	for k, i := range batch {
		reply := res.Rcpts[k]
		switch {
		case reply.Code == 0:
		case a.settles(res, k):
			final, _ := res.Decides(k)
			o := said(t, final, postrider.ScopeRecipient)
			o.Final = final.Positive() && a.lmtp()
			o.PeerHasDSN = final.Positive() && dsn && a.rcpt(i).Notify != 0
			o.PeerHasBy = final.Positive() && by
			a.put(i, o)
		case reply.Positive():
		case moved && tooMany(reply) && !slices.ContainsFunc(res.Rcpts[k+1:], smtp.Reply.Positive):
			// Who takes one of those behind has room. RFC 5321 4.5.3.1.10: "Each
			// retransmission attempt that is able to deliver anything will be able to dispose
			// of at least 100 of these recipients." The next transaction has them; where one
			// is taken then, it was not for its own sake, and later ones have no more from
			// the start.
			full = res.Accepted()
		case reply.Temporary():
			a.putOff(said(t, reply, postrider.ScopeRecipient), i)
		default:
			a.put(i, said(t, reply, postrider.ScopeRecipient))
		}
	}
}

// settles reports whether the reply to the final dot speaks for recipient k of a
// batch alone: a success, and over LMTP anything.
func (a *attempt) settles(res *smtpc.Result, k int) bool {
	reply, at := res.Decides(k)
	return at == smtpc.StageFinal && (reply.Positive() || a.lmtp())
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
		certain := o
		o.Uncertain = t.String()
		o.Reply.Text += "; it may have the message, and is tried first from now on"
		for k, i := range batch {
			if _, at := res.Decides(k); at == 0 && res.Rcpts[k].Positive() {
				a.put(i, o)
			}
		}
		a.rest(certain)
		return nextNothing
	case res.Final.Permanent():
		// Refused while the content was on its way.
		a.rest(said(t, res.Final, postrider.ScopeMessage))
		return nextNothing
	}
	a.broken(t, e)
	switch {
	case len(a.left) == 0:
		return a.through()
	case e.Stage == smtpc.StageContent:
		return nextHost
	}
	return nextAddress
}

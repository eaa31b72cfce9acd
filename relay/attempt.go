package relay

import (
	"context"
	"slices"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// An attempt is one Delivery under way. One goroutine owns it.
type attempt struct {
	r    *Relay
	d    *postrider.Delivery
	m    *postrider.Message
	port uint16

	out   []postrider.Outcome
	left  []int // places in out that have no outcome yet
	tries int   // connections tried
	block note  // what stood in the way, the most telling so far
	more  bool  // there are more hosts than are tried
}

func newAttempt(r *Relay, d *postrider.Delivery) *attempt {
	a := &attempt{r: r, d: d, m: d.Message, port: port(d.Route)}
	a.out = make([]postrider.Outcome, len(d.Rcpts))
	a.left = make([]int, len(d.Rcpts))
	for i := range a.left {
		a.left[i] = i
	}
	return a
}

// A next says how an attempt goes on.
type next uint8

const (
	nextAddress next = iota // with the next address
	nextHost                // with the next host: other addresses of this one would say the same
	nextBatch               // with the next recipients on this connection
	nextFresh               // with a new connection to the same address
	nextNothing             // every recipient has its outcome
)

// timed is walk, within the time that an attempt may take. A destination that
// does not keep to it is as good as dead: it gets one connection at a time until
// it does.
func (a *attempt) timed(outer context.Context) {
	limit := timeMax + time.Duration(len(a.left))*timePerRcpt + time.Duration(a.m.Size/rateMin)*time.Second
	ctx, cancel := context.WithTimeout(outer, limit)
	defer cancel()
	a.walk(ctx)
	if ctx.Err() != nil && outer.Err() == nil {
		a.block = note{rankOurs, deferred(4, 2, "the delivery took longer than %v", limit)}
	}
	a.finish(outer)
}

// walk tries the addresses of the destination until every recipient has an
// outcome.
//
// RFC 5321 5.1: "the SMTP client MUST be able to try (and retry) each of the
// relevant addresses in this list in order, until a delivery attempt succeeds."
func (a *attempt) walk(ctx context.Context) {
	if socket := a.d.Route.Socket; socket != "" && a.lmtp() {
		a.host(ctx, []target{{host: "localhost", socket: socket}})
		return
	}
	for _, group := range a.exchangers(ctx) {
		hosts, ours := a.resolve(ctx, group)
		if ours {
			return
		}
		for _, targets := range hosts {
			if a.host(ctx, targets) == nextNothing {
				return
			}
		}
	}
}

// host tries the addresses of one host.
func (a *attempt) host(ctx context.Context, targets []target) next {
	for _, t := range targets {
		if a.tries++; a.tries > triesMax {
			a.more = true
			return nextNothing
		}
		if ctx.Err() != nil {
			return nextNothing
		}
		switch n := a.address(ctx, t); n {
		case nextHost, nextNothing:
			return n
		}
	}
	return nextHost
}

// address makes one try at one address, over a kept connection if there is one.
// A kept connection that has died meanwhile says nothing about the peer.
func (a *attempt) address(ctx context.Context, t target) next {
	leave, err := a.r.pool.enter(ctx, t.site())
	if err != nil {
		return nextNothing
	}
	defer leave()
	for l := a.r.pool.take(a.key(t)); ; l = nil {
		if l == nil {
			var n next
			if l, n = a.connect(ctx, t); l == nil {
				return n
			}
		}
		n := a.transact(ctx, l, t)
		a.r.pool.give(l)
		if n != nextFresh {
			return n
		}
	}
}

// transact sends the message to the recipients that are left, in as many
// transactions as they need.
func (a *attempt) transact(ctx context.Context, l *link, t target) next {
	if o, lacks := a.lacks(l.conn, t); lacks {
		a.blocked(rankLacks, o)
		return nextHost
	}
	for len(a.left) > 0 {
		batch := slices.Clone(a.left[:min(len(a.left), rcptsMax)])
		res := l.conn.Send(ctx, a.transaction(batch))
		l.uses++
		if n := a.settle(ctx, l, t, batch, &res); n != nextBatch {
			return n
		}
	}
	return nextNothing
}

// transaction is what smtpc is told of the message. The parameters of DSN go on
// as they came, and none is made up (RFC 3461 5.2.1).
func (a *attempt) transaction(batch []int) smtpc.Transaction {
	t := smtpc.Transaction{
		From:    a.m.From,
		Params:  smtp.MailParams{Size: a.m.Size, UTF8: a.m.UTF8, Ret: a.m.Ret, EnvID: a.m.EnvID},
		Content: a.d.Content.Reader(),
	}
	if a.m.EightBit {
		t.Params.Body = smtp.Body8BitMIME
	}
	for _, i := range batch {
		r := a.rcpt(i)
		t.Rcpts = append(t.Rcpts, smtpc.Rcpt{To: r.To, Params: smtp.RcptParams{Notify: r.Notify, ORcpt: r.ORcpt}})
	}
	return t
}

// rcpt is the recipient at a place in out.
func (a *attempt) rcpt(i int) *postrider.Recipient { return &a.m.Recipients[a.d.Rcpts[i]] }

// lacks reports whether the peer cannot take the message at all, and how that
// ends if no other host can.
func (a *attempt) lacks(c *smtpc.Conn, t target) (postrider.Outcome, bool) {
	utf8 := a.m.UTF8 || !a.m.From.IsASCII()
	for _, i := range a.left {
		utf8 = utf8 || !a.rcpt(i).To.IsASCII()
	}
	if _, ok := c.Ext("SMTPUTF8"); utf8 && !ok {
		// RFC 6531 3.5: a client "MUST NOT send an internationalized message to an
		// SMTP server that does not support SMTPUTF8".
		return failed(553, 5, 6, 7, "the message needs SMTPUTF8, which %s does not offer", t.host), true
	}
	if _, ok := c.Ext("8BITMIME"); a.m.EightBit && !ok {
		// RFC 6152 3: "it may treat the barrier to 8-bit as a permanent error".
		return failed(554, 5, 6, 3, "the message holds 8-bit octets, and %s does not offer 8BITMIME", t.host), true
	}
	return postrider.Outcome{}, false
}

// blocked notes what stood in the way.
func (a *attempt) blocked(k rank, o postrider.Outcome) {
	if k >= a.block.rank {
		a.block = note{k, o}
	}
}

// finish gives those that are left what stood in the way.
func (a *attempt) finish(ctx context.Context) {
	switch {
	case ctx.Err() != nil:
		a.block.outcome = interrupted()
	case a.more && a.block.rank < rankOurs && a.block.rank != rankLoop && len(a.left) > 0:
		// A host that nobody has asked may take the mail.
		a.block.outcome = deferred(4, 4, "%s has more mail hosts than are tried at a time, and the first take no mail", a.rcpt(a.left[0]).To.Domain)
	}
	a.rest(a.block.outcome)
}

// rest gives everybody who is left one outcome.
func (a *attempt) rest(o postrider.Outcome) {
	for _, i := range a.left {
		a.out[i] = o
	}
	a.left = nil
}

// put gives one recipient its outcome.
func (a *attempt) put(i int, o postrider.Outcome) {
	a.out[i] = o
	a.left = slices.DeleteFunc(a.left, func(j int) bool { return j == i })
}

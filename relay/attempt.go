package relay

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/message"
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
	left  []int                     // places in out that have no outcome yet
	aside []int                     // that the present host has put off: the next one is asked for them
	later map[int]postrider.Outcome // what a host said that put them off, and has asked for another
	asked int                       // hosts before the present one that have put off somebody
	tries int                       // connections tried
	took  int                       // recipients that the site took when it put off those behind them; 0: it did not
	heard bool                      // some peer has answered a call of ours
	end   time.Time                 // when it must be over
	slow  context.Context           // that ends then, once a wait was found that has no other bound
	done  context.CancelFunc        // of slow
	block note                      // what stood in the way, the most telling so far
	more  bool                      // there are more hosts than are tried
	mime  *message.Structure        // nil: not looked at yet
	maybe []string                  // peers that may have the message already, by Recipient.Uncertain
	plain string                    // the peer that MAIL is said to without what only informs; empty: none
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
	nextHost                // with the next host: nobody asks other addresses of this one
	nextBatch               // with the next recipients on this connection
	nextFresh               // with a new connection to the same address
	nextNothing             // every recipient has its outcome
)

// timed is walk, within the time that an attempt may take. A destination that
// does not keep to it is as good as dead: it gets one connection at a time until
// it does.
func (a *attempt) timed(outer context.Context) {
	limit := timeMax + time.Duration(len(a.left))*timePerRcpt + time.Duration(a.m.Size/rateMin)*time.Second
	a.end = time.Now().Add(limit)
	defer func() {
		if a.done != nil {
			a.done()
		}
	}()
	a.walk(outer)
	if a.over(outer) && !a.cut(outer) {
		a.block = note{rankOurs, deferred(4, 2, "the delivery took longer than %v", limit)}
	}
	a.finish(outer)
}

// over reports whether no more is to be begun, for the time of the attempt or by cut.
func (a *attempt) over(ctx context.Context) bool {
	return a.cut(ctx) || !time.Now().Before(a.end)
}

// cut reports whether we end ourselves what has no connection, or all of it.
func (a *attempt) cut(ctx context.Context) bool {
	return ctx.Err() != nil || a.d.Setup != nil && a.d.Setup.Err() != nil
}

// bounded is what Delivery.Setup is, and ends with the time of the attempt. It is made
// where something is waited for beside the dialogue of a kept connection, which most
// attempts have not.
func (a *attempt) bounded(ctx context.Context) context.Context {
	if a.slow == nil {
		if a.d.Setup != nil {
			ctx = a.d.Setup
		}
		a.slow, a.done = context.WithDeadline(ctx, a.end)
	}
	return a.slow
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
	if a.walkUncertain(ctx) {
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

// walkUncertain does the walk where some peer may have the message: it comes before
// all others, whatever its preference, for where another takes the message there are
// two of it (RFC 1047).
func (a *attempt) walkUncertain(ctx context.Context) bool {
	for i := range a.left {
		if p := a.rcpt(i).Uncertain; p != "" && !slices.Contains(a.maybe, p) {
			a.maybe = append(a.maybe, p)
		}
	}
	if len(a.maybe) == 0 {
		return false
	}
	var hosts [][]target
	for _, group := range a.exchangers(ctx) {
		more, ours := a.resolve(ctx, group)
		if ours {
			break
		}
		hosts = append(hosts, more...)
	}
	var first [][]target
	for i, targets := range hosts {
		var maybe []target
		hosts[i] = slices.DeleteFunc(targets, func(t target) bool {
			if a.mayHave(t) {
				maybe = append(maybe, t)
				return true
			}
			return false
		})
		first = append(first, maybe)
	}
	for _, targets := range append(first, hosts...) {
		if len(targets) > 0 && a.host(ctx, targets) == nextNothing {
			break
		}
	}
	return true
}

// host tries the addresses of one host.
func (a *attempt) host(ctx context.Context, targets []target) next {
	if len(a.aside) > 0 {
		a.asked++
	}
	a.left, a.aside = append(a.left, a.aside...), nil
	slices.Sort(a.left)
	for _, t := range targets {
		if a.tries++; a.tries > triesMax {
			a.more = true
			return nextNothing
		}
		if a.over(ctx) {
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
	k := a.key(t)
	l, err := a.r.pool.enter(func() context.Context { return a.bounded(ctx) }, k, a.d.Route.Limits)
	switch {
	case errors.Is(err, errCrowded):
		a.crowded(t, err)
		return nextNothing
	case err != nil:
		return nextNothing
	}
	defer a.r.pool.leave(k.site)
	a.took = 0 // of another site
	a.heard = a.heard || l != nil
	for ; ; l = nil {
		if l == nil {
			var n next
			if l, n = a.connect(ctx, t); l == nil {
				return n
			}
		}
		n := a.try(ctx, l, t)
		if n != nextFresh {
			a.r.pool.give(l)
			return n
		}
		if l.conn.Usable() { // it ends before the next is made, which has its place
			l.conn.Quit(a.bounded(ctx))
		}
	}
}

// try is transact; a panic in it ends the connection, of which nothing is known then.
func (a *attempt) try(ctx context.Context, l *link, t target) next {
	sound := false
	defer func() {
		if !sound {
			l.conn.Close()
		}
	}()
	n := a.transact(ctx, l, t)
	sound = true
	return n
}

// crowded is the outcome where too many wait for a host already, or its rate is used
// up. Unless another host has answered before, nothing was tried: an address that
// cannot be reached from here, as one of IPv6 often, is no attempt at the message.
func (a *attempt) crowded(t target, err error) {
	o := deferred(3, 2, "as many deliveries to %s wait as may", t)
	if c, ok := errors.AsType[crowd](err); ok {
		o = deferred(3, 2, "%s gets no more in a time than it is to have", t)
		o.Rest = c.rest
	}
	o.Scope, o.Untried = postrider.ScopeMessage, !a.heard
	a.rest(o)
}

// transact sends the message to the recipients that are left, in as many
// transactions as they need.
func (a *attempt) transact(ctx context.Context, l *link, t target) next {
	f, n := a.fit(l.conn, t)
	if f == nil {
		return n
	}
	f.plain = a.isPlain(t)
	for len(a.left) > 0 {
		if !a.anyTaken(f) {
			a.blocked(rankLacks, f.lacks)
			return nextHost
		}
		if a.r.pool.worn(l) {
			return nextFresh
		}
		batch := a.batch(l, f)
		if len(batch) == 0 {
			return nextFresh
		}
		res := l.conn.Send(ctx, a.transaction(l.conn, f, batch))
		l.uses++
		a.r.pool.heard(l, &res)
		if !f.plain && a.stumbles(l.conn, f, &res) {
			f.plain, a.plain = true, t.String()
			continue
		}
		if n := a.settle(ctx, l, t, batch, &res); n != nextBatch {
			return n
		}
	}
	return a.through()
}

// isPlain reports whether MAIL is said to a target without what only informs.
func (a *attempt) isPlain(t target) bool { return a.plain != "" && a.plain == t.String() }

// through is how it goes on where nobody is left for a host.
func (a *attempt) through() next {
	if len(a.aside) > 0 {
		return nextHost
	}
	return nextNothing
}

// batch is who goes in the next transaction; nobody: the peer takes none of those
// that are left in this session.
//
// RFC 9422 3.5: the limits that a server announces may be below the minimums of
// RFC 5321, and then "it is especially important for clients to be aware".
func (a *attempt) batch(l *link, f *form) []int {
	limits := l.conn.Limits()
	most := rcptsMax
	for _, n := range []int{limits.RcptMax, a.r.pool.learned(l.key.site)} {
		if n > 0 {
			most = min(most, n)
		}
	}
	var batch []int
	for _, i := range a.left {
		domain := strings.ToLower(a.rcpt(i).To.Domain)
		switch {
		case len(batch) == most:
			return batch
		case !f.takes(a.rcpt(i).To):
			continue
		case limits.RcptDomainMax == 0, slices.Contains(l.domains, domain):
		case len(l.domains) == limits.RcptDomainMax:
			continue
		default:
			l.domains = append(l.domains, domain)
		}
		batch = append(batch, i)
	}
	return batch
}

// transaction is what smtpc is told of the message. The parameters of DSN go on
// as they came, and none is made up (RFC 3461 5.2.1), but for what byNotify says.
func (a *attempt) transaction(c *smtpc.Conn, f *form, batch []int) smtpc.Transaction {
	t := smtpc.Transaction{
		From: f.path(a.m.From),
		Params: smtp.MailParams{
			Size: f.size, Body: f.body, UTF8: f.utf8, Ret: a.m.Ret, EnvID: a.m.EnvID, Auth: a.m.Auth,
			By: a.by(a.r.o.Now()), Priority: a.m.Priority, Solicit: a.m.Solicit,
		},
		Content: f.content(),
		End:     a.end,
		Rcpts:   make([]smtpc.Rcpt, 0, len(batch)),
	}
	if f.plain {
		t.Params = a.needed(t.Params)
	}
	for _, i := range batch {
		r := a.rcpt(i)
		t.Rcpts = append(t.Rcpts, smtpc.Rcpt{To: f.path(r.To), Params: smtp.RcptParams{
			Notify: a.byNotify(c, f, r.Notify), ORcpt: r.ORcpt, RRVS: r.RRVS,
		}})
	}
	return t
}

// rcpt is the recipient at a place in out.
func (a *attempt) rcpt(i int) *postrider.Recipient { return &a.m.Recipients[a.d.Rcpts[i]] }

// blocked notes what stood in the way.
func (a *attempt) blocked(k rank, o postrider.Outcome) {
	if k >= a.block.rank {
		a.block = note{k, o}
	}
}

// finish gives those that are left what stood in the way.
func (a *attempt) finish(ctx context.Context) {
	switch {
	case a.cut(ctx):
		a.block.outcome = interrupted()
	case a.more && a.block.rank < rankOurs && a.block.rank != rankLoop && len(a.left) > 0:
		// A host that nobody has asked may take the mail.
		a.block.outcome = deferred(4, 4, "%s has more mail hosts than are tried at a time, and the first take no mail", a.rcpt(a.left[0]).To.Domain)
	}
	a.rest(a.block.outcome)
}

// rest gives everybody who is left one outcome, but for who has been put off by a host
// before, which counts for more than why another does not take the mail.
func (a *attempt) rest(o postrider.Outcome) {
	for _, i := range a.left {
		a.out[i] = o
		if said, ok := a.later[i]; ok {
			a.out[i] = said
		}
	}
	a.left = nil
}

// putOff gives recipients their outcome, unless another host takes them. Where that
// refuses them it stays: mail fails only where no host says that it may pass.
func (a *attempt) putOff(o postrider.Outcome, rcpts ...int) {
	for _, i := range rcpts {
		a.put(i, o)
		if !a.another() {
			continue
		}
		a.aside = append(a.aside, i)
		if a.later == nil {
			a.later = map[int]postrider.Outcome{}
		}
		a.later[i] = o
	}
}

// another reports whether another host is to be asked for what the present one puts off.
// It is not where a peer may have the message: where another takes it there are two.
func (a *attempt) another() bool { return a.asked+1 < askedMax && len(a.maybe) == 0 }

// put gives one recipient its outcome.
func (a *attempt) put(i int, o postrider.Outcome) {
	if said, ok := a.later[i]; ok && o.Result == postrider.ResultFailed {
		o = said
	}
	a.out[i] = o
	a.left = slices.DeleteFunc(a.left, func(j int) bool { return j == i })
}

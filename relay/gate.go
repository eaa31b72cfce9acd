package relay

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/internal/pace"
	"github.com/postrider/postrider/smtpc"
)

// Bounds of what is known of sites.
const (
	// waitersMax is how many attempts wait for a connection to one site. More do not
	// wait: thousands of domains may have one site, and what waits there holds what
	// other mail needs.
	waitersMax = 20
	// gatesMax is from how many sites on those are forgotten to whom nobody talks.
	gatesMax = 4096
	// downMin and downMax bound how long a site is left alone that did not answer a
	// call. Then one attempt finds out, and the others still do not try.
	downMin = 5 * time.Second
	downMax = time.Minute
)

// errCrowded: as many wait for the site as may, or its rate lets nobody go now.
var errCrowded = errors.New("relay: too many wait for the same host")

// A gate counts who talks to a site, and knows by its pace how many it bears. By
// asking for a connection each says how many there may be at most.
type gate struct {
	used    int
	quits   int // of used: connections that say QUIT
	most    int // of who wanted most: what pace may come to
	pace    pace.Pace
	waiters []*waiter // in order

	fails int       // connections in a row that timed out before they were open
	down  time.Time // until when nobody tries; zero: it is not down
	probe bool      // somebody finds out
	cause error     // of the last of them
}

// A waiter is an attempt whose turn has not come: it is closed then.
type waiter struct {
	turn chan struct{}
	key  key
	most int
	link *link // the kept connection that came with its turn; nil: none
}

// idle reports whether nothing of the gate is worth knowing.
func (g *gate) idle() bool {
	return g.used == 0 && len(g.waiters) == 0
}

// gate returns the gate of a site. The lock is held.
func (p *pool) gate(s site) *gate {
	g := p.gates[s]
	if g == nil {
		if len(p.gates) >= p.sweep {
			now := time.Now()
			for s, g := range p.gates {
				if g.idle() && now.Sub(g.down) > downMax {
					delete(p.gates, s)
				}
			}
			p.sweep = max(gatesMax, 2*len(p.gates))
		}
		g = &gate{}
		p.gates[s] = g
	}
	return g
}

// want lets the gate come to so many.
func (g *gate) want(most int) {
	switch {
	case g.most == 0:
		g.most, g.pace = most, pace.Start(most, most)
	case most > g.most:
		g.most = most
		g.pace.Change(most)
	}
}

// enter waits until another connection to the site of k is allowed by the limits of who
// asks, and returns a kept one where there is one then, which those who wait get in
// their order. Who has entered leaves. Nobody waits for a rate: that is errCrowded.
func (p *pool) enter(ctx func() context.Context, k key, l postrider.Limits) (*link, error) {
	p.mu.Lock()
	g := p.gate(k.site)
	most := cmp.Or(l.Connections, p.o.ConnMax)
	g.want(most)
	if len(g.waiters) >= waitersMax {
		p.mu.Unlock()
		return nil, errCrowded
	}
	if rest := p.meter(k.site, l.Rate); rest > 0 {
		p.mu.Unlock()
		return nil, crowd{rest}
	}
	if len(g.waiters) == 0 {
		if kept, ok := p.admit(g, k, most); ok {
			p.mu.Unlock()
			return kept, nil
		}
	}
	w := &waiter{turn: make(chan struct{}), key: k, most: most}
	g.waiters = append(g.waiters, w)
	p.mu.Unlock()
	c := ctx()
	select {
	case <-w.turn:
		return w.link, nil
	case <-c.Done():
	}
	p.mu.Lock()
	i := slices.Index(g.waiters, w)
	if i >= 0 {
		g.waiters = slices.Delete(g.waiters, i, i+1)
		p.next(g) // those behind may have room that there was not for this one
	}
	p.mu.Unlock()
	if i < 0 { // its turn came at that moment
		if w.link != nil {
			p.give(w.link)
		}
		p.leave(k.site)
	}
	return nil, c.Err()
}

// admit takes a place among most at the site of k, with a kept connection where there
// is one. Those of another kind that lie there have places as well, and as many go first
// as have the last, but for those that go already: who waits gets it when they have
// gone. The lock is held.
func (p *pool) admit(g *gate, k key, most int) (kept *link, ok bool) {
	limit := min(g.pace.Limit, most)
	if g.used >= limit {
		return nil, false
	}
	if kept = p.take(k); kept == nil && len(p.idle) > 0 {
		if all := g.used + p.idleAt(k.site); all >= limit {
			for range all - g.quits - limit + 1 {
				p.evict(k.site)
			}
			return nil, false
		}
	}
	g.used++
	return kept, true
}

// next lets those who wait enter. The lock is held.
func (p *pool) next(g *gate) {
	for len(g.waiters) > 0 {
		w := g.waiters[0]
		kept, ok := p.admit(g, w.key, w.most)
		if !ok {
			return
		}
		g.waiters = g.waiters[1:]
		w.link = kept
		close(w.turn)
	}
}

// leave gives the right to a connection back.
func (p *pool) leave(s site) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left(s)
}

// left is leave. The lock is held.
func (p *pool) left(s site) {
	g := p.gates[s]
	g.used--
	p.next(g)
	if g.idle() && g.pace.Reason == "" && g.fails == 0 {
		delete(p.gates, s)
	}
}

// slower is for a site that wants less of us. Alone it cannot have less.
func (p *pool) slower(s site, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gate(s)
	g.pace.Slower(g.used, reason, p.o.Now())
}

// heard weighs what a transaction has told of a site.
func (p *pool) heard(l *link, res *smtpc.Result) {
	e, broke := errors.AsType[*smtpc.Error](res.Err)
	switch {
	case broke && (l.kept || l.mailed) && unheard(res): // a session that lasted for too long
	case broke && wantsLess(e):
		p.slower(l.key.site, why(e))
	case res.Err == nil && res.Mail.Positive() && res.Accepted() > 0:
		p.faster(l.key.site)
	}
}

// wantsLess reports whether a connection ended as it does where a host has too much to
// do: RFC 5321 3.8 has 421 for a server that closes, and others fall silent.
func wantsLess(e *smtpc.Error) bool {
	if e.Err == nil {
		return e.Reply.Code == 421
	}
	t, ok := errors.AsType[net.Error](e.Err)
	return ok && t.Timeout()
}

func why(e *smtpc.Error) string {
	if e.Err == nil {
		return e.Reply.String()
	}
	return e.Stage.String() + ": " + cause(e.Err)
}

// faster is for a site that has taken a message.
func (p *pool) faster(s site) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gate(s)
	if g.fails > 0 {
		return // it answers no new connection, and what kept ones take says nothing of that
	}
	g.pace.Faster(g.most)
	p.next(g)
}

// knock asks whether to dial a site; if not, cause is why it was found dead. Who
// dials tells what came of it with reached, silent or unknown, and whether he was to
// find out (probe). RFC 5321 4.5.4.1: "A client SHOULD keep a list of hosts it cannot
// reach and corresponding connection timeouts, rather than just retrying queued mail
// items."
func (p *pool) knock(s site) (probe, ok bool, cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gate(s)
	switch {
	case g.fails == 0:
		return false, true, nil
	case g.probe, time.Now().Before(g.down):
		return false, false, g.cause
	}
	g.probe = true
	return true, true, nil
}

// reached takes down that a site could be connected to.
func (p *pool) reached(s site) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gate(s)
	g.fails, g.probe, g.down, g.cause = 0, false, time.Time{}, nil
}

// silent takes down that a site let us wait for a connection until we gave up.
func (p *pool) silent(s site, probe bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gate(s)
	if g.fails > 0 && !probe {
		return // it began before that was known
	}
	g.probe = false
	now := time.Now()
	g.fails++
	g.down = now.Add(min(downMin<<min(g.fails-1, 8), downMax))
	g.cause = err
	g.pace.Reason, g.pace.Since = "no connection: "+cause(err), p.o.Now()
}

// unknown ends a knock of which nothing came, as we have cut it short, or were refused.
func (p *pool) unknown(s site, probe bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if probe {
		p.gate(s).probe = false
	}
}

package relay

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"time"

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

// errCrowded: as many wait for the site as may.
var errCrowded = errors.New("relay: too many wait for the same host")

// A gate counts who talks to a site, and knows how many it bears: half as many as
// there were when it said 421 or fell silent, and with every message one more until
// half of that is made good again, from there on one more for as many messages as
// there are connections.
type gate struct {
	used    int
	limit   int
	goal    int // up to which each message counts
	wins    int
	reason  string // why the limit is lower than it may be
	since   time.Time
	waiters []chan struct{} // in order; closed when its turn has come

	fails int       // connections in a row that timed out before they were open
	down  time.Time // until when nobody tries; zero: it is not down
	probe bool      // somebody finds out
	cause error     // of the last of them
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
		g = &gate{limit: p.o.ConnMax, goal: p.o.ConnMax}
		p.gates[s] = g
	}
	return g
}

// enter waits until another connection to s is allowed. Who has entered leaves.
func (p *pool) enter(ctx func() context.Context, s site) error {
	p.mu.Lock()
	g := p.gate(s)
	if g.used < g.limit && len(g.waiters) == 0 {
		g.used++
		p.mu.Unlock()
		return nil
	}
	if len(g.waiters) >= waitersMax {
		p.mu.Unlock()
		return errCrowded
	}
	turn := make(chan struct{})
	g.waiters = append(g.waiters, turn)
	p.mu.Unlock()
	c := ctx()
	select {
	case <-turn:
		return nil
	case <-c.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(g.waiters, turn); i >= 0 {
		g.waiters = slices.Delete(g.waiters, i, i+1)
	} else { // its turn came at that moment
		g.used--
		g.next()
	}
	return c.Err()
}

// next lets those who wait enter.
func (g *gate) next() {
	for len(g.waiters) > 0 && g.used < g.limit {
		g.used++
		close(g.waiters[0])
		g.waiters = g.waiters[1:]
	}
}

// leave gives the right to a connection back.
func (p *pool) leave(s site) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gates[s]
	g.used--
	g.next()
	if g.idle() && g.reason == "" && g.fails == 0 {
		delete(p.gates, s)
	}
}

// slower is for a site that wants less of us. Alone it cannot have less.
func (p *pool) slower(s site, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gate(s)
	g.limit = max(1, min(g.limit, g.used)/2)
	g.goal, g.wins = g.limit, 0
	g.reason, g.since = reason, p.o.Now()
}

// heard weighs what a transaction has told of a site.
func (p *pool) heard(l *link, res *smtpc.Result) {
	e, broke := errors.AsType[*smtpc.Error](res.Err)
	switch {
	case broke && l.kept && unheard(res): // a connection that lay there for too long
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
	if g.limit < p.o.ConnMax {
		if g.wins++; g.limit < g.goal || g.wins >= g.limit {
			g.limit, g.wins = g.limit+1, 0
			g.next()
		}
	}
	if g.limit >= p.o.ConnMax && g.fails == 0 {
		g.reason, g.since = "", time.Time{}
	}
}

// knock asks whether to dial a site; if not, cause is why it was found dead. Who
// dials tells what came of it with reached. RFC 5321 4.5.4.1: "A client SHOULD
// keep a list of hosts it cannot reach and corresponding connection timeouts,
// rather than just retrying queued mail items."
func (p *pool) knock(s site) (cause error, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gate(s)
	switch {
	case g.fails == 0:
		return nil, true
	case g.probe, time.Now().Before(g.down):
		return g.cause, false
	}
	g.probe = true
	return nil, true
}

// reached takes down that a site could be connected to.
func (p *pool) reached(s site) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gate(s)
	g.fails, g.probe, g.down, g.cause = 0, false, time.Time{}, nil
}

// silent takes down that a site let us wait for a connection until we gave up.
func (p *pool) silent(s site, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gate(s)
	g.probe = false
	now := time.Now()
	if now.Before(g.down) {
		return // it began before that was known
	}
	g.fails++
	g.down = now.Add(min(downMin<<min(g.fails-1, 8), downMax))
	g.cause = err
	g.reason, g.since = "no connection: "+cause(err), p.o.Now()
}

// unknown ends a knock of which nothing came, as we have cut it short.
func (p *pool) unknown(s site) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate(s).probe = false
}

// Forget lets sites be tried at once that did not answer. It is for an
// operator who knows better.
func (r *Relay) Forget() {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	for _, g := range r.pool.gates {
		g.down = time.Time{}
	}
}

// A Site is a host that has less of us than it could have, and why.
type Site struct {
	Addr   string // address and port, or the path of a socket
	Limit  int    // connections at a time
	Used   int
	Down   bool   // it does not answer
	Reason string // what it said, or what broke
	Since  time.Time
}

// Slowed returns the sites that are at less than their full pace, in the order of
// their addresses.
func (r *Relay) Slowed() []Site {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	var all []Site
	for s, g := range r.pool.gates {
		if g.reason != "" {
			_, addr := s.dial()
			all = append(all, Site{Addr: addr, Limit: g.limit, Used: g.used, Down: g.fails > 0, Reason: g.reason, Since: g.since})
		}
	}
	slices.SortFunc(all, func(a, b Site) int { return cmp.Compare(a.Addr, b.Addr) })
	return all
}

package relay

import (
	"cmp"
	"slices"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/internal/pace"
)

// A crowd is errCrowded where it is known how long others have the turn.
type crowd struct{ rest time.Duration }

func (crowd) Error() string { return "relay: the rate of the host is used up" }
func (crowd) Unwrap() error { return errCrowded }

// A flow is mail to a site at a rate. Mail of routes with another rate, or none, is not
// counted.
type flow struct {
	site site
	rate postrider.Rate
}

// meter lets one message go to a site at a rate, or says how long it is not to come
// again. The lock is held.
func (p *pool) meter(s site, rate postrider.Rate) (rest time.Duration) {
	every := rate.Every()
	if every <= 0 {
		return 0
	}
	now := time.Now()
	b := p.flows[flow{s, rate}]
	if b == nil {
		if len(p.flows) >= p.flowed {
			for f, b := range p.flows {
				if !b.Next(f.rate.Every(), now).After(now) {
					delete(p.flows, f)
				}
			}
			p.flowed = max(gatesMax, 2*len(p.flows))
		}
		fresh := pace.NewBucket(every, p.born)
		b = &fresh
		p.flows[flow{s, rate}] = b
	}
	if b.Take(every, now) {
		return 0
	}
	return b.Book(every, now).Sub(now)
}

// Forget lets sites be tried at once that did not answer. It is for an
// operator who knows better.
func (r *Relay) Forget() {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	for _, g := range r.pool.gates {
		g.down = time.Time{}
	}
	for _, b := range r.pool.flows {
		b.Forget()
	}
}

// A Site is a host that has less of us than it could have, and why.
type Site struct {
	Addr   string // address and port, or the path of a socket
	Limit  int    // connections at a time
	Most   int    // as many as may be
	Used   int
	Probe  time.Time // of one that does not answer: when it is called next; zero: it does
	Reason string    // what it said, or what broke; empty: nothing but the rate
	Since  time.Time // of Reason
	Rate   postrider.Rate
	Next   time.Time // when Rate lets the next message go; zero: now
}

// Slowed returns the sites that are at less than their full pace, or whose rate lets
// nothing go now, in the order of their addresses; one for each rate.
func (r *Relay) Slowed() []Site {
	p, now, wall := r.pool, time.Now(), r.o.Now()
	var all []Site
	p.mu.Lock()
	held := map[site]bool{}
	for f, b := range p.flows {
		if next := b.Next(f.rate.Every(), now); next.After(now) {
			held[f.site] = true
			v := p.view(f.site, now, wall)
			v.Rate, v.Next = f.rate, wall.Add(next.Sub(now))
			all = append(all, v)
		}
	}
	for s, g := range p.gates {
		if g.pace.Reason != "" && !held[s] {
			all = append(all, p.view(s, now, wall))
		}
	}
	p.mu.Unlock()
	slices.SortFunc(all, func(a, b Site) int { return cmp.Or(cmp.Compare(a.Addr, b.Addr), a.Next.Compare(b.Next)) })
	return all
}

// view is how a site is treated. The lock is held.
func (p *pool) view(s site, now, wall time.Time) Site {
	_, addr := s.dial()
	v := Site{Addr: addr, Limit: p.o.ConnMax, Most: p.o.ConnMax}
	if g := p.gates[s]; g != nil && g.most > 0 { // else all that is known is a connection that says QUIT
		v.Limit, v.Most, v.Used, v.Reason, v.Since = g.pace.Limit, g.most, g.used, g.pace.Reason, g.pace.Since
		if g.fails > 0 {
			v.Limit, v.Probe = 1, wall.Add(max(0, g.down.Sub(now)))
		}
	}
	return v
}

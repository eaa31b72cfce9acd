package account

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/postrider/postrider/smtp"
)

// How an address that guesses is treated. Wrong guesses are counted until none
// has come for forgetAfter; each one past freeFailures makes the next wait twice
// as long, and from refuseAfter on every one is answered at once, for refuseFor,
// without a look at the password. After that there is one guess, and so on.
const (
	freeFailures = 3
	firstDelay   = 500 * time.Millisecond
	delayMax     = 8 * time.Second
	refuseAfter  = 10
	refuseFor    = 10 * time.Minute
	forgetAfter  = 30 * time.Minute
)

// Bounds of a guard.
const (
	guardMax    = 8192 // addresses
	turnWaiters = 16   // of one address
)

// A guard keeps account of who guesses passwords, by address: one of IPv4, a /64
// of IPv6. One attempt of an address is looked at, at a time: whoever opens a
// thousand connections does not get a thousand guesses before the first is
// found to be wrong, and never more than one of the places where passwords are
// hashed.
type guard struct {
	exempt func(netip.Addr) bool // nil: nobody is

	mu    sync.Mutex
	byKey map[netip.Prefix]*list.Element
	order list.List // of *suspect, the one that came last in front
}

// A suspect is an address. All but turn is guarded by the mutex of the guard.
type suspect struct {
	key      netip.Prefix
	turn     chan struct{} // holds one token: who has it is looked at
	users    int           // attempts that have, or wait for, the turn
	failures int
	last     time.Time // of the failures
	refused  time.Time // until when
}

// A pass is one attempt that the guard has let in. The zero pass is of an exempt
// network.
type pass struct {
	g *guard
	s *suspect
}

func newGuard(exempt func(netip.Addr) bool) *guard {
	return &guard{exempt: exempt, byKey: map[netip.Prefix]*list.Element{}}
}

// enter waits until an attempt of peer may be looked at. A reply that is not zero
// turns it away, and there is nothing to leave.
func (g *guard) enter(ctx context.Context, peer netip.Addr, now func() time.Time) (pass, smtp.Reply) {
	key, ok := g.key(peer)
	if !ok {
		return pass{}, smtp.Reply{}
	}
	s, reply := g.admit(key, now())
	if s == nil {
		return pass{}, reply
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		g.drop(s)
		return pass{}, busy
	}
	delay, refused := g.judge(s, now()) // those before it may have used up the guesses
	if !refused && wait(ctx, delay) {
		return pass{g, s}, smtp.Reply{}
	}
	<-s.turn
	g.drop(s)
	if refused {
		return pass{}, tooMany
	}
	return pass{}, busy
}

// leave ends an attempt and says how it went.
func (p pass) leave(failed bool, now time.Time) {
	if p.g == nil {
		return
	}
	p.g.mu.Lock()
	if failed {
		p.s.failures, p.s.last = min(p.s.failures+1, refuseAfter), now
		if p.s.failures == refuseAfter {
			p.s.refused = now.Add(refuseFor)
		}
	}
	p.g.mu.Unlock()
	<-p.s.turn
	p.g.drop(p.s)
}

// key returns what stands for the address of a client; ok is false for one that
// may guess.
func (g *guard) key(peer netip.Addr) (netip.Prefix, bool) {
	peer = peer.Unmap().WithZone("")
	if g.exempt != nil && g.exempt(peer) {
		return netip.Prefix{}, false
	}
	bits := 64
	if peer.Is4() {
		bits = 32
	}
	key, _ := peer.Prefix(bits) // the zero Prefix for the zero Addr
	return key, true
}

// admit returns the suspect of a key, made if need be, with one user more; or
// nil and the reply that turns the attempt away.
func (g *guard) admit(key netip.Prefix, now time.Time) (*suspect, smtp.Reply) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.byKey[key]
	if at == nil {
		if len(g.byKey) >= guardMax && !g.evict() {
			return nil, busy
		}
		at = g.order.PushFront(&suspect{key: key, turn: make(chan struct{}, 1)})
		g.byKey[key] = at
	}
	g.order.MoveToFront(at)
	s := at.Value.(*suspect)
	s.age(now)
	switch {
	case s.turnedAway(now):
		return nil, tooMany
	case s.users > turnWaiters:
		return nil, busy
	}
	s.users++
	return s, smtp.Reply{}
}

// judge returns how long an attempt has to wait, or that it is turned away.
func (g *guard) judge(s *suspect, now time.Time) (time.Duration, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.age(now)
	if s.turnedAway(now) {
		return 0, true
	}
	if s.failures < freeFailures {
		return 0, false
	}
	return min(firstDelay<<(s.failures-freeFailures), delayMax), false
}

// drop takes a user from a suspect, and forgets one of whom nothing bad is
// known.
func (g *guard) drop(s *suspect) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.users--
	if s.users == 0 && s.failures == 0 {
		g.remove(s)
	}
}

// evict forgets the suspect that was not heard of for longest, if there is one
// whom nobody uses. The caller holds the mutex.
func (g *guard) evict() bool {
	for at := g.order.Back(); at != nil; at = at.Prev() {
		if s := at.Value.(*suspect); s.users == 0 {
			g.remove(s)
			return true
		}
	}
	return false
}

// remove forgets a suspect. The caller holds the mutex.
func (g *guard) remove(s *suspect) {
	g.order.Remove(g.byKey[s.key])
	delete(g.byKey, s.key)
}

// age forgets failures that are long past, and those of a clock that was set
// back.
func (s *suspect) age(now time.Time) {
	if since := now.Sub(s.last); since >= forgetAfter || since < -forgetAfter {
		s.failures, s.refused = 0, time.Time{}
	}
}

// turnedAway reports whether the suspect is not listened to now.
func (s *suspect) turnedAway(now time.Time) bool {
	return now.Before(s.refused)
}

// wait waits for d, and reports false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

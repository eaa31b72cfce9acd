package smtpc

import (
	"context"
	"net"
	"sync/atomic"
)

// A guard closes a connection when a context ends while a call that was given it
// is under way. It is kept from call to call with the same context, so that many
// transactions need only one.
type guard struct {
	ctx    context.Context
	raw    net.Conn
	state  atomic.Int32 // guardIdle, guardBusy or guardOver
	stop   func() bool
	closed chan struct{} // closed when fire has come to its end
}

const (
	guardIdle int32 = iota
	guardBusy
	guardOver // the context has ended
)

func newGuard(ctx context.Context, raw net.Conn) *guard {
	g := &guard{ctx: ctx, raw: raw, closed: make(chan struct{})}
	g.stop = context.AfterFunc(ctx, g.fire)
	return g
}

func (g *guard) fire() {
	defer close(g.closed)
	if g.state.Swap(guardOver) == guardBusy {
		g.raw.Close()
	}
}

// watch closes the connection when ctx ends, until the returned function is
// called.
func (c *Conn) watch(ctx context.Context) func() {
	if c.guard == nil || c.guard.ctx != ctx {
		c.unguard()
		c.guard = newGuard(ctx, c.raw)
	}
	if !c.guard.state.CompareAndSwap(guardIdle, guardBusy) || ctx.Err() != nil {
		c.raw.Close()
	}
	return c.unwatch
}

func (c *Conn) endWatch() {
	g := c.guard
	if g.ctx.Err() != nil || !g.state.CompareAndSwap(guardBusy, guardIdle) {
		<-g.closed
		c.dead = true
	}
	if c.dead {
		c.unguard()
	}
}

// unguard gives up the guard of the last call, which is over.
func (c *Conn) unguard() {
	if c.guard != nil {
		c.guard.stop()
		c.guard = nil
	}
}

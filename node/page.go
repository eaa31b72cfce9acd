package node

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// A page is a listener with an HTTP server behind it.
type page struct {
	name     string
	listener net.Listener
	server   *http.Server

	mu     sync.Mutex
	busy   map[net.Conn]struct{} // those with a request under way
	ending bool
	once   sync.Once
	idle   chan struct{} // closed when it ends and nothing is under way
}

func newPage(name string, l net.Listener, s *http.Server) *page {
	p := &page{name: name, listener: l, server: s, busy: map[net.Conn]struct{}{}, idle: make(chan struct{})}
	s.ConnState = p.changed
	return p
}

// changed notes what a connection does now.
func (p *page) changed(c net.Conn, to http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := len(p.busy)
	if delete(p.busy, c); to == http.StateActive {
		p.busy[c] = struct{}{}
	}
	if p.ending && was > 0 && len(p.busy) == 0 {
		p.once.Do(func() { close(p.idle) })
	}
}

// end lets requests that are under way come to their end, until ctx ends, and
// closes the rest at once. Shutdown alone would look for their end from time to
// time, at moments that are left to chance.
func (p *page) end(ctx context.Context) {
	none, cancel := context.WithCancel(ctx)
	cancel()
	p.server.Shutdown(none) // takes nothing new, and does not wait
	p.mu.Lock()
	p.ending = true
	busy := len(p.busy) > 0
	p.mu.Unlock()
	if busy {
		select {
		case <-p.idle:
		case <-ctx.Done():
		}
	}
	p.server.Close()
	p.listener.Close()
}

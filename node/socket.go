package node

import (
	"errors"
	"net"
	"sync"
)

// A socket is a listener that outlives the server behind it: a new server can
// take over where the old one stops accepting, and no client that connects
// meanwhile is turned away.
type socket struct {
	net.Listener
	accepted chan accepted
	closed   chan struct{}
	begin    sync.Once
	once     sync.Once
	pumping  sync.WaitGroup
}

// accepted is what Accept has returned.
type accepted struct {
	conn net.Conn
	err  error
}

func newSocket(l net.Listener) *socket {
	return &socket{Listener: l, accepted: make(chan accepted), closed: make(chan struct{})}
}

// open begins to accept. Before that, who connects waits.
func (s *socket) open() { s.begin.Do(func() { s.pumping.Go(s.pump) }) }

// pump hands connections on, one at a time, until the socket is closed.
func (s *socket) pump() {
	for {
		conn, err := s.Listener.Accept()
		select {
		case s.accepted <- accepted{conn, err}:
		case <-s.closed:
			if conn != nil {
				conn.Close()
			}
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// Close closes the listener, and returns when nothing is accepted any more.
func (s *socket) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closed)
		err = s.Listener.Close()
	})
	s.pumping.Wait()
	return err
}

// slot is a listener for one server. To close it leaves the socket open.
func (s *socket) slot() *slot { return &slot{socket: s, left: make(chan struct{})} }

// A slot is the place of one server at a socket. It implements net.Listener.
type slot struct {
	*socket
	left chan struct{}
	once sync.Once
}

// Accept waits for a connection until the slot or its socket is closed.
func (s *slot) Accept() (net.Conn, error) {
	select {
	case <-s.left:
		return nil, net.ErrClosed
	default:
	}
	select {
	case a := <-s.accepted:
		return a.conn, a.err
	case <-s.left:
	case <-s.closed:
	}
	return nil, net.ErrClosed
}

// Close gives the place up for another server.
func (s *slot) Close() error {
	s.once.Do(func() { close(s.left) })
	return nil
}

package node

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/postrider/postrider/admin"
)

// Bounds of the socket where programs of all users hand mail in. One user can
// have a quarter of it, and what is beyond is closed at once.
const (
	callersMax   = 128
	callersEach  = 32
	nobodyKnown  = -1      // the user of a connection whose other end nobody can tell
	letterHeader = 1 << 20 // octets of the head of a request: it names all recipients
)

// callers is a listener that knows which user of this machine each connection is
// of, and bounds how many there are.
type callers struct {
	net.Listener
	user   func(net.Conn) int
	places chan struct{} // holds a token for each connection
	closed chan struct{}
	once   sync.Once

	mu sync.Mutex
	by map[int]int // connections of each user
}

func newCallers(l net.Listener, user func(net.Conn) int) *callers {
	return &callers{Listener: l, user: user, places: make(chan struct{}, callersMax), closed: make(chan struct{}), by: map[int]int{}}
}

// Accept waits for a place and for a connection that may have it.
func (l *callers) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			<-l.places
			return nil, err
		}
		uid := l.user(conn)
		if l.enter(uid) {
			return &callerConn{Conn: conn, uid: uid, l: l}, nil
		}
		conn.Close()
	}
}

func (l *callers) enter(uid int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[uid] >= callersEach {
		return false
	}
	l.by[uid]++
	return true
}

func (l *callers) leave(uid int) {
	l.mu.Lock()
	if l.by[uid]--; l.by[uid] == 0 {
		delete(l.by, uid)
	}
	l.mu.Unlock()
	<-l.places
}

// Close closes the listener, and no connection.
func (l *callers) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// A callerConn is a connection that has its place until it is closed.
type callerConn struct {
	net.Conn
	uid  int
	l    *callers
	once sync.Once
}

func (c *callerConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.l.leave(c.uid) })
	return err
}

// callerKey finds the user of a connection in the context of its requests.
type callerKey struct{}

// withCaller puts the user of a connection into its context.
func withCaller(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*callerConn); ok {
		return context.WithValue(ctx, callerKey{}, c.uid)
	}
	return context.WithValue(ctx, callerKey{}, userOf(conn))
}

// callerOf is the user who makes a request, in words; empty where nobody can
// tell.
func callerOf(ctx context.Context) string {
	if uid, ok := ctx.Value(callerKey{}).(int); ok && uid != nobodyKnown {
		return fmt.Sprintf("uid %d", uid)
	}
	return ""
}

// localServer serves h on a Unix socket, where a request may name a thousand
// recipients.
func localServer(h http.Handler) *http.Server {
	s := admin.NewServer(h)
	s.MaxHeaderBytes = letterHeader
	s.ConnContext = withCaller
	return s
}

// callTime is how long the other end of a socket may take to answer whether it
// lives.
const callTime = time.Second

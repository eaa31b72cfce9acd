package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A Server serves SMTP or LMTP on listeners. Handler must be set; every other field may
// be left zero. No field may change once Serve was called.
type Server struct {
	Handler Handler

	// Hostname is the name that the server gives itself. Empty: "localhost".
	Hostname string
	// Software is what the greeting and HELP say that we are. RFC 5321 7.5 leaves it
	// to "sites" whether they say so. Empty: neither does.
	Software string
	// TLS returns the configuration of TLS; it is asked for each handshake, so that
	// a certificate can be changed. What it returns is copied: TLS 1.2 is the least
	// that is spoken, and there are no session tickets. Nil: STARTTLS is neither
	// offered nor known. A nil *tls.Config: TLS is not to be had at present.
	TLS func() *tls.Config
	// Implicit: TLS is spoken from the first octet (RFC 8314 3.3), and TLS is set.
	Implicit bool
	// LMTP: the protocol is that of RFC 2033.
	LMTP bool
	// MaxSize is the largest content in octets, announced as SIZE (RFC 1870).
	// Zero: no limit.
	MaxSize int64
	// MaxRcpts is how many recipients a transaction may have. RFC 5321 4.5.3.1.8
	// wants 100 at least. Zero: 1000.
	MaxRcpts int
	// MaxConns is how many connections there may be in all. Zero: 1000.
	MaxConns int
	// MaxConnsPerPeer is how many there may be from one IPv4 address or one IPv6
	// network of 64 bits. Zero: 50.
	MaxConnsPerPeer int
	// Exempt says which addresses MaxConnsPerPeer does not hold for. Nil: none.
	Exempt func(netip.Addr) bool
	// Proxy says which addresses are proxies that begin each connection with a header
	// of the PROXY protocol, version 1 or 2: the client that it names takes the place of
	// the proxy in everything. A proxy that begins otherwise is not served, and others
	// that send such a header have said no command. Nil: none.
	Proxy func(netip.Addr) bool
	// XClient says which addresses may say by XCLIENT, as Postfix has it, for which
	// client they speak. Behind a Proxy it is asked about the client that the header
	// names, which is who speaks then. Nil: none.
	XClient func(netip.Addr) bool
	// MaxErrors is how many commands of a connection are answered 500 to 504,
	// without a message accepted between, before it is closed. Zero: 20.
	MaxErrors int
	// MaxRefused is how many senders, recipients and names asked for by VRFY and EXPN
	// are refused with 5yz on a connection, less the recipients of the messages that
	// it brings, before it is closed: a dictionary of addresses is not for reading.
	// Zero: 100.
	MaxRefused int
	// MaxIdle is how many commands of a connection may bring no mail (EHLO, RSET,
	// NOOP, VRFY, EXPN and such, and MAIL in vain) without a message accepted between,
	// before it is closed. Zero: 100.
	MaxIdle int
	// MinRate is how many octets of content a client sends in a second at the least.
	// It may fall behind by twice Timeouts.Data. Zero: 256; negative: any number.
	MinRate int
	// Timeouts are how long a client may keep us waiting.
	Timeouts Timeouts
	// Alarm is called, from any goroutine, for what is wrong with us and not with a
	// client: a *PanicError, and a listener that fails to accept, once until it
	// works again. Nil: nobody is told.
	Alarm func(error)

	desks  sync.Pool // *desk
	small  sync.Pool // *[readSize]byte
	large  sync.Pool // *[contentSize]byte
	stop   atomic.Bool
	turned atomic.Int32 // connections that are being turned away

	mu      sync.Mutex    // guards what follows; never held across I/O or a call out
	stopped chan struct{} // closed by Shutdown
	conns   map[*conn]struct{}
	peers   map[netip.Addr]int
	serving map[*serving]struct{}
	empty   chan struct{} // closed when the server is shut down and the last connection has ended
}

// Timeouts are how long a client may keep us waiting.
type Timeouts struct {
	// Command is the time for a command line, from the reply before it to its
	// CRLF. Zero: 5 minutes, as RFC 5321 4.5.3.2.7 asks for.
	Command time.Duration
	// Data is the time for each read of content. Zero: 5 minutes.
	Data time.Duration
	// Write is the time for the client to take our replies. Zero: 2 minutes.
	Write time.Duration
	// Proxy is the time for all of a header of the PROXY protocol. Zero: 10 seconds.
	Proxy time.Duration
	// Handshake is the time for all of a TLS handshake. Zero: 1 minute.
	Handshake time.Duration
	// Session is the time for a connection to bring a message, from its beginning or
	// from the message before. Zero: 1 hour. It is looked at after each command, and
	// while content comes that is thrown away.
	Session time.Duration
}

// A PanicError is a panic in a Handler or Session. Its connection was closed
// with 421, and nothing else was.
type PanicError struct {
	Peer  netip.AddrPort
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("smtpd: panic for %v: %v", e.Peer, e.Value) }

// serving is one call of Serve.
type serving struct {
	listener net.Listener
	cancel   context.CancelFunc
}

// Bounds of the accept loop.
const (
	acceptWaitMin = 5 * time.Millisecond
	acceptWaitMax = time.Second
	turnedMax     = 64 // connections that hear a 421 at the same time; others are closed without
	turnedTime    = time.Second
)

// Serve accepts connections from l until Shutdown is called or ctx ends, and
// returns when the last connection that it accepted has ended. The end of ctx is
// the end of every connection: a transaction is cut off with 421. The error is
// nil then; it says why if l was closed by somebody else. An error of Accept
// that is not the end of l, such as a lack of file descriptors, is waited out.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, cancel := context.WithCancel(ctx)
	defer cancel()
	sv := &serving{listener: l, cancel: cancel}
	if !s.enter(sv) {
		return l.Close()
	}
	defer s.leave(sv)
	closing := context.AfterFunc(base, func() { _ = l.Close(); s.cut(base) })
	defer closing()
	var wg sync.WaitGroup
	defer wg.Wait()
	err := s.accept(base, l, &wg)
	if s.draining() || base.Err() != nil {
		return nil
	}
	return fmt.Errorf("smtpd: accept: %w", err)
}

// cut ends what the connections of a base that has ended are waiting for. They look
// at it after they have set a deadline, so that this one either stays or is not
// needed.
func (s *Server) cut(base context.Context) {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		if c.base == base {
			_ = c.raw.SetDeadline(time.Unix(1, 0))
		}
	}
}

// accept is the loop of Serve. It returns when l is closed.
func (s *Server) accept(base context.Context, l net.Listener, wg *sync.WaitGroup) error {
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			s.start(base, nc, wg)
			continue
		case errors.Is(err, net.ErrClosed) || base.Err() != nil || s.draining():
			return err
		case wait == 0:
			s.alarm(fmt.Errorf("smtpd: accept: %w", err))
		}
		wait = min(max(2*wait, acceptWaitMin), acceptWaitMax)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-base.Done():
		case <-s.stopChan():
		}
		timer.Stop()
	}
}

// start serves a new connection, or turns it away.
func (s *Server) start(base context.Context, nc net.Conn, wg *sync.WaitGroup) {
	c := &conn{server: s, raw: nc, nc: nc, base: base, ended: wg, state: state{lmtp: s.LMTP},
		client: Client{Peer: addrOf(nc.RemoteAddr()), Local: addrOf(nc.LocalAddr()), LMTP: s.LMTP}}
	c.behind = s.Proxy != nil && s.Proxy(c.client.Peer.Addr())
	if reply := s.admit(c); reply != nil {
		if s.turned.Add(1) > turnedMax || s.Implicit || c.behind {
			s.turned.Add(-1)
			_ = nc.Close()
			return
		}
		wg.Go(func() {
			defer s.turned.Add(-1)
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(turnedTime))
			_, _ = nc.Write(reply.AppendTo(nil))
		})
		return
	}
	wg.Add(1)
	go c.run()
}

// keyOf is what a client is counted by; the zero Addr: it is not.
func (s *Server) keyOf(client netip.Addr) netip.Addr {
	key := peerKey(client)
	if key.IsValid() && s.Exempt != nil && s.Exempt(client) {
		return netip.Addr{}
	}
	return key
}

// admit counts a connection, or says why there is no place for it. A proxy is
// counted for the client behind it, when that is known.
func (s *Server) admit(c *conn) *smtp.Reply {
	key := netip.Addr{}
	if !c.behind {
		key = s.keyOf(c.client.Peer.Addr())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= or(s.MaxConns, 1000) || s.draining() {
		return &smtp.Reply{Code: 421, Status: smtp.Status{Class: 4, Subject: 3, Detail: 2}, Text: s.hostname() + " Too many connections, try again later"}
	}
	if r := s.count(c, key); r != nil {
		return r
	}
	s.conns[c] = struct{}{}
	return nil
}

// count counts a connection for another client than before, or says why there is
// no place for it. The caller holds mu.
func (s *Server) count(c *conn, key netip.Addr) *smtp.Reply {
	if key == c.key {
		return nil
	}
	if key.IsValid() {
		if s.peers[key] >= or(s.MaxConnsPerPeer, 50) {
			return &smtp.Reply{Code: 421, Status: smtp.Status{Class: 4, Subject: 7, Detail: 0}, Text: s.hostname() + " Too many connections from you, try again later"}
		}
		s.peers[key]++
	}
	s.uncount(c)
	c.key = key
	return nil
}

// uncount takes back what count did. The caller holds mu.
func (s *Server) uncount(c *conn) {
	if s.peers[c.key]--; s.peers[c.key] <= 0 {
		delete(s.peers, c.key)
	}
}

// move counts a connection for the client that it has become.
func (s *Server) move(c *conn) *smtp.Reply {
	key := s.keyOf(c.client.Peer.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count(c, key)
}

// forget takes back what admit counted.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.uncount(c)
	if len(s.conns) == 0 && s.draining() {
		closeOnce(s.empty)
	}
}

// Shutdown stops accepting, sends 421 to every connection without a transaction,
// and waits for the others to finish theirs. When ctx ends first, it cuts them
// off and returns the error of ctx. No call of Serve accepts anything again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.init()
	s.stop.Store(true)
	closeOnce(s.stopped)
	if len(s.conns) == 0 {
		closeOnce(s.empty)
	}
	all, conns := slices.Collect(maps.Keys(s.serving)), slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()

	for _, sv := range all {
		_ = sv.listener.Close()
	}
	for _, c := range conns {
		// See conn.receive: it looks for draining after it has declared itself idle.
		if c.idle.Load() {
			_ = c.raw.SetReadDeadline(time.Unix(1, 0))
		}
	}
	select {
	case <-s.empty:
		return nil
	case <-ctx.Done():
	}
	for _, sv := range all {
		sv.cancel()
	}
	return ctx.Err()
}

// enter notes a call of Serve, unless the server is shut down.
func (s *Server) enter(sv *serving) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.init()
	if s.draining() {
		return false
	}
	s.serving[sv] = struct{}{}
	return true
}

func (s *Server) leave(sv *serving) {
	_ = sv.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.serving, sv)
}

// init makes the maps of the zero Server. The caller holds mu.
func (s *Server) init() {
	if s.conns == nil {
		s.stopped, s.empty = make(chan struct{}), make(chan struct{})
		s.conns = map[*conn]struct{}{}
		s.peers = map[netip.Addr]int{}
		s.serving = map[*serving]struct{}{}
	}
}

func (s *Server) draining() bool { return s.stop.Load() }

func (s *Server) stopChan() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

func (s *Server) alarm(err error) {
	if s.Alarm != nil {
		s.Alarm(err)
	}
}

func (s *Server) hostname() string {
	if s.Hostname == "" {
		return "localhost"
	}
	return s.Hostname
}

func (s *Server) maxRcpts() int                 { return or(s.MaxRcpts, 1000) }
func (s *Server) commandTimeout() time.Duration { return or(s.Timeouts.Command, 5*time.Minute) }
func (s *Server) dataTimeout() time.Duration    { return or(s.Timeouts.Data, 5*time.Minute) }
func (s *Server) writeTimeout() time.Duration   { return or(s.Timeouts.Write, 2*time.Minute) }
func (s *Server) sessionTimeout() time.Duration { return or(s.Timeouts.Session, time.Hour) }
func (s *Server) proxyTimeout() time.Duration   { return or(s.Timeouts.Proxy, 10*time.Second) }
func (s *Server) handshakeTimeout() time.Duration {
	return or(s.Timeouts.Handshake, time.Minute)
}

// closeOnce closes ch unless it is closed. The caller holds mu.
func closeOnce(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// or returns v, or what its zero stands for.
func or[T int | time.Duration](v, zero T) T {
	if v == 0 {
		return zero
	}
	return v
}

// addrOf returns the address of an end, or the zero AddrPort where it has none
// that we can read.
func addrOf(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// peerKey is what counts as one peer: an IPv4 address, or the IPv6 network of
// 64 bits that a single host has the whole of. The zero Addr is not counted.
func peerKey(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}

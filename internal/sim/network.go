package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Network joins hosts by their addresses. Octets take time on their way; a
// connection may be refused, cut at any octet, or stay silent. All chance comes
// from streams named by the two hosts and a count, so that what one connection
// suffers does not depend on what others did before it.
type Network struct {
	seed uint64
	Cuts atomic.Int64 // connections that were cut by chance

	// Note is told of each fault that strikes, by its kind, and where: the boot
	// of the host that dialed and the address it dialed. Set it before there are
	// connections. No lock is held.
	Note func(fault, where string)

	mu     sync.Mutex
	hosts  map[netip.Addr]*Host
	fired  map[string]int
	cut    float64 // chance that a connection is cut at some octet
	refuse float64 // chance that one is refused
}

// NewNetwork returns a network without hosts or faults.
func NewNetwork(seed uint64) *Network {
	return &Network{seed: seed, hosts: map[netip.Addr]*Host{}, fired: map[string]int{}}
}

// Trouble sets the chances that a connection is refused, and that it is cut.
func (n *Network) Trouble(refuse, cut float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse, n.cut = refuse, cut
}

// A Host is one machine on the network, from its start to its crash.
type Host struct {
	n         *Network
	boot      string // which boot of which machine, such as "a 3"
	addr      netip.Addr
	dialed    map[netip.Addr]uint64 // connections so far
	listeners map[uint16]*listener
	conns     map[*conn]struct{}
	down      bool
	port      uint16 // of the last outgoing connection
}

// Host starts a machine at an address. The one that had it before must be down.
// The boot, such as "a 3", names the chance of all that it dials, so that what a
// dead process still dials shifts nothing for the next.
func (n *Network) Host(addr, boot string) *Host {
	h := &Host{n: n, boot: boot, addr: netip.MustParseAddr(addr), dialed: map[netip.Addr]uint64{}, listeners: map[uint16]*listener{}, conns: map[*conn]struct{}{}, port: 30000}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[h.addr] = h
	return h
}

// Crash takes the machine off the network at once: what was on its way is lost,
// and its peers see their connections reset.
func (h *Host) Crash() {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.down = true
	for _, l := range h.listeners {
		l.close()
	}
	for c := range h.conns {
		c.in.fail(syscall.ECONNRESET)
		c.out.fail(syscall.ECONNRESET)
	}
}

// Listen implements postrider.Network.
func (h *Host) Listen(_ context.Context, network, addr string) (net.Listener, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if h.down || h.listeners[ap.Port()] != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: syscall.EADDRINUSE}
	}
	l := &listener{h: h, addr: netip.AddrPortFrom(h.addr, ap.Port()), accept: make(chan *conn, 128), done: make(chan struct{})}
	h.listeners[ap.Port()] = l
	return l, nil
}

// DialContext implements postrider.Network.
func (h *Host) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	rng, refused, cutAt := h.draw(to.Addr())
	if rng == nil {
		return fail(syscall.ENETDOWN)
	}
	select {
	case <-time.After(latency(rng)):
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	if refused {
		h.n.fire("refused", h.boot+">"+to.Addr().String())
		return fail(syscall.ECONNREFUSED)
	}
	c, err := h.connect(to, rng, cutAt)
	if err != nil {
		return fail(err)
	}
	return c, nil
}

// draw decides the luck of one connection. A host that is down draws nothing.
func (h *Host) draw(to netip.Addr) (rng *rand.Rand, refused bool, cutAt int) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if h.down {
		return nil, false, -1
	}
	h.dialed[to]++
	rng = Stream(h.n.seed, fmt.Sprintf("%s>%s %d", h.boot, to, h.dialed[to]))
	refused = rng.Float64() < h.n.refuse
	if cutAt = -1; rng.Float64() < h.n.cut {
		cutAt = rng.IntN(4000)
	}
	return rng, refused, cutAt
}

// fire counts a fault that strikes, and tells of it.
func (n *Network) fire(fault, where string) {
	n.mu.Lock()
	n.fired[fault]++
	n.mu.Unlock()
	if n.Note != nil {
		n.Note(fault, where)
	}
}

// Fired returns how often each kind of fault has struck.
func (n *Network) Fired() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.fired)
}

// connect makes both ends, and queues the far one for its listener.
func (h *Host) connect(to netip.AddrPort, rng *rand.Rand, cutAt int) (*conn, error) {
	n := h.n
	n.mu.Lock()
	defer n.mu.Unlock()
	peer := n.hosts[to.Addr()]
	if h.down || peer == nil || peer.down || peer.listeners[to.Port()] == nil {
		return nil, syscall.ECONNREFUSED
	}
	l := peer.listeners[to.Port()]
	h.port++
	link := &link{n: n, where: h.boot + ">" + to.Addr().String(), left: cutAt, delay: latency(rng)}
	ab, ba := newPipe(link), newPipe(link)
	link.pipes = [2]*pipe{ab, ba}
	local := netip.AddrPortFrom(h.addr, h.port)
	near := &conn{h: h, in: ba, out: ab, local: local, remote: to}
	far := &conn{h: peer, in: ab, out: ba, local: to, remote: local}
	select {
	case l.accept <- far:
	default:
		return nil, syscall.ECONNREFUSED
	}
	h.conns[near], peer.conns[far] = struct{}{}, struct{}{}
	return near, nil
}

func latency(rng *rand.Rand) time.Duration {
	return time.Duration(200+rng.IntN(20_000)) * time.Microsecond
}

// Stream returns the source of chance of one name.
func Stream(seed uint64, name string) *rand.Rand {
	h := fnv.New64a()
	io.WriteString(h, name)
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// A listener implements net.Listener.
type listener struct {
	h      *Host
	addr   netip.AddrPort
	accept chan *conn
	once   sync.Once
	done   chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed}
	}
}

func (l *listener) close() { l.once.Do(func() { close(l.done) }) }

func (l *listener) Close() error {
	l.close()
	l.h.n.mu.Lock()
	defer l.h.n.mu.Unlock()
	if l.h.listeners[l.addr.Port()] == l {
		delete(l.h.listeners, l.addr.Port())
	}
	for {
		select {
		case c := <-l.accept:
			c.in.fail(syscall.ECONNRESET)
			c.out.fail(syscall.ECONNRESET)
		default:
			return nil
		}
	}
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// A link is what both directions of a connection share: after how many octets it
// breaks.
type link struct {
	n     *Network
	where string
	mu    sync.Mutex
	left  int // octets until it is cut; -1: it is not
	delay time.Duration
	pipes [2]*pipe
}

// pass lets through as many of n octets as come before the cut.
func (k *link) pass(n int) (passed int, cut bool) {
	k.mu.Lock()
	if k.left < 0 || n <= k.left {
		if k.left > 0 {
			k.left -= n
		}
		k.mu.Unlock()
		return n, false
	}
	passed, k.left = k.left, 0
	k.mu.Unlock()
	k.n.Cuts.Add(1)
	k.n.fire("cut", k.where)
	return passed, true
}

// pipeMax is how many octets one direction holds, like a socket buffer.
const pipeMax = 128 << 10

// A pipe is one direction of a connection.
type pipe struct {
	link    *link
	mu      sync.Mutex
	chunks  []chunk
	size    int
	err     error // for both sides: the connection is broken
	ended   bool  // the writer has closed: io.EOF after what is left
	changed chan struct{}
}

// A chunk is octets on their way, readable from a time on.
type chunk struct {
	at   time.Time
	data []byte
}

func newPipe(k *link) *pipe { return &pipe{link: k, changed: make(chan struct{})} }

func (p *pipe) kick() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err, p.chunks, p.size = err, nil, 0
		p.kick()
	}
}

func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.kick()
}

// wait waits for a change, for a time, or for the deadline of the caller to pass
// or to be moved.
func wait(changed <-chan struct{}, until time.Time, d *deadline) {
	var at <-chan time.Time
	if !until.IsZero() {
		t := time.NewTimer(time.Until(until))
		defer t.Stop()
		at = t.C
	}
	select {
	case <-changed:
	case <-at:
	case <-d.wait():
	}
}

func (p *pipe) read(b []byte, d *deadline) (int, error) {
	for {
		p.mu.Lock()
		changed := p.changed
		var until time.Time
		switch {
		case p.err != nil:
			p.mu.Unlock()
			return 0, p.err
		case d.passed():
			p.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(p.chunks) > 0 && !p.chunks[0].at.After(time.Now()):
			n := copy(b, p.chunks[0].data)
			if p.chunks[0].data = p.chunks[0].data[n:]; len(p.chunks[0].data) == 0 {
				p.chunks = p.chunks[1:]
			}
			p.size -= n
			p.kick()
			p.mu.Unlock()
			return n, nil
		case len(p.chunks) > 0:
			until = p.chunks[0].at
		case p.ended:
			p.mu.Unlock()
			return 0, io.EOF
		}
		p.mu.Unlock()
		wait(changed, until, d)
	}
}

func (p *pipe) write(b []byte, d *deadline) (int, error) {
	wrote := 0
	for {
		p.mu.Lock()
		changed := p.changed
		switch {
		case p.err != nil || p.ended:
			p.mu.Unlock()
			return wrote, syscall.EPIPE
		case d.passed():
			p.mu.Unlock()
			return wrote, os.ErrDeadlineExceeded
		case p.size < pipeMax:
			n, cut := p.link.pass(min(len(b), pipeMax-p.size))
			if n > 0 {
				p.chunks = append(p.chunks, chunk{time.Now().Add(p.link.delay), append([]byte(nil), b[:n]...)})
				p.size += n
				p.kick()
			}
			p.mu.Unlock()
			wrote, b = wrote+n, b[n:]
			if cut {
				for _, q := range p.link.pipes {
					q.fail(syscall.ECONNRESET)
				}
				return wrote, syscall.ECONNRESET
			}
			if len(b) == 0 {
				return wrote, nil
			}
			continue
		}
		p.mu.Unlock()
		wait(changed, time.Time{}, d)
	}
}

// A deadline ends waits at a time that may be moved.
type deadline struct {
	mu    sync.Mutex
	at    time.Time
	timer *time.Timer
	done  chan struct{}
}

func (d *deadline) set(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	done := make(chan struct{})
	old := d.done
	d.at, d.done, d.timer = at, done, nil
	if old != nil && !isClosed(old) {
		close(old) // who waits looks again
	}
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.done == done && !isClosed(done) {
				close(done)
			}
		})
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done == nil {
		d.done = make(chan struct{})
	}
	return d.done
}

func (d *deadline) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.at.IsZero() && !time.Now().Before(d.at)
}

// A conn implements net.Conn.
type conn struct {
	h             *Host
	in, out       *pipe
	local, remote netip.AddrPort
	rd, wd        deadline
	once          sync.Once
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b, &c.rd)
	return n, c.wrap("read", err)
}
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b, &c.wd)
	return n, c.wrap("write", err)
}

func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

func (c *conn) Close() error {
	c.once.Do(func() {
		c.out.end()
		c.in.fail(errors.New("use of closed network connection"))
		c.h.n.mu.Lock()
		delete(c.h.conns, c)
		c.h.n.mu.Unlock()
	})
	return nil
}

func (c *conn) LocalAddr() net.Addr                { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr               { return net.TCPAddrFromAddrPort(c.remote) }
func (c *conn) SetDeadline(t time.Time) error      { c.rd.set(t); c.wd.set(t); return nil }
func (c *conn) SetReadDeadline(t time.Time) error  { c.rd.set(t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.wd.set(t); return nil }

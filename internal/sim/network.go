package sim

import (
	"context"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Network joins hosts by their addresses. Octets take time on their way, and a
// connection suffers what the Weather brings.
//
// All chance of a connection comes from the seed, the boot that dialed, the
// address it dialed, and the instant; the time that a chunk of octets takes, also
// from what was sent before it. Two connections that begin in one instant are
// twins that suffer the same, until their clients say different things: which of
// the two the scheduler let dial first has no meaning. So one seed is one trace.
type Network struct {
	seed uint64

	// Note is told of each fault that strikes, by its kind, and where: the boot
	// that dialed and the address it dialed. Set it before there are connections.
	// No lock is held.
	Note func(fault, where string)

	// Wire is told of what is sent over a connection, once for each chunk of
	// octets: by which end (0 dialed), and when it arrives. No lock is held. A seed
	// that fails can so tell what was said.
	Wire func(where string, end int, at time.Time, octets []byte)

	// Uncertain is told the token of each letter whose answer was lost, and Answers of
	// each whose end a server is about to answer: whether it takes it or puts it
	// off, with a count on its connection.
	Uncertain func(token string)
	Answers   func(server, token string, taken bool, n int)

	digest atomic.Uint64
	calms  atomic.Int64 // how often the weather has become calm
	parts  atomic.Pointer[[]partition]

	mu      sync.Mutex
	hosts   map[netip.Addr]*Host
	ghosts  map[netip.Addr][]*link // of hosts that vanished
	fired   map[string]int
	peaks   map[string]int // of connections at a time, by who dialed and whom
	weather Weather
}

// NewNetwork returns a network without hosts or faults.
func NewNetwork(seed uint64) *Network {
	return &Network{seed: seed, hosts: map[netip.Addr]*Host{}, ghosts: map[netip.Addr][]*link{}, fired: map[string]int{}, peaks: map[string]int{}}
}

// fire counts a fault that strikes, and tells of it. No lock is held.
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

// Digest returns a digest of all that was sent so far, and when it arrived. Two
// runs of a seed have the same.
func (n *Network) Digest() uint64 { return n.digest.Load() }

// A Host is one machine on the network, from its start to its crash.
type Host struct {
	n         *Network
	boot      string // which boot of which machine, such as "a 3"
	addr      netip.Addr
	listeners map[uint16]*listener
	conns     map[*conn]struct{}
	down      bool

	recent  sync.Mutex
	answers []answer
}

// Host starts a machine at an address. The one that had it before must be down.
// The boot, such as "a 3", names the chance of all that it dials, so that what a
// dead process still dials shifts nothing for the next.
func (n *Network) Host(addr, boot string) *Host {
	h := &Host{n: n, boot: boot, addr: netip.MustParseAddr(addr), listeners: map[uint16]*listener{}, conns: map[*conn]struct{}{}}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[h.addr] = h
	for _, l := range n.ghosts[h.addr] {
		l.disown()
	}
	delete(n.ghosts, h.addr)
	return h
}

// Crash ends the process of the machine: it is off the network at once, and its
// peers see their connections reset. What was on its way arrives or not.
func (h *Host) Crash() { h.off(false) }

// Vanish cuts the power: the peers hear nothing until a machine with the same
// address is up and knows nothing of their connections.
func (h *Host) Vanish() { h.off(true) }

func (h *Host) off(silent bool) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	h.down = true
	for _, l := range h.listeners {
		l.close()
	}
	for c := range h.conns { // the order has no meaning: each link has its own chance
		c.link.lose(c.end, silent)
		if silent {
			h.n.ghosts[h.addr] = append(h.n.ghosts[h.addr], c.link)
		}
	}
	clear(h.conns)
}

// backlogMax is how many connections wait to be accepted.
const backlogMax = 1024

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
	l := &listener{h: h, addr: netip.AddrPortFrom(h.addr, ap.Port()), accept: make(chan *conn, backlogMax), done: make(chan struct{})}
	h.listeners[ap.Port()] = l
	return l, nil
}

// synMax is when a system gives up to connect to what does not answer.
const synMax = 127 * time.Second

// DialContext implements postrider.Network.
func (h *Host) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	c, err := h.dial(ctx, to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return c, nil
}

func (h *Host) dial(ctx context.Context, to netip.AddrPort) (*conn, error) {
	w, up := h.n.weatherAt(h)
	if !up {
		return nil, syscall.ENETDOWN
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	where := h.boot + ">" + to.String()
	now := time.Now()
	key := mix(h.n.seed^nameKey(where), uint64(now.UnixNano()))
	wait := latency(mix(key, keySyn)) + latency(mix(key, keySynAck))
	var failure error
	if until := h.n.parted(h.addr, to.Addr(), now); !until.IsZero() {
		h.n.fire("partition", where)
		if wait += until.Sub(now); wait > synMax {
			wait, failure = synMax, syscall.ETIMEDOUT
		}
	}
	switch {
	case failure != nil:
	case struck(key, keyTimeout, w.ConnectTimeout):
		h.n.fire("connect_timeout", where)
		wait, failure = synMax, syscall.ETIMEDOUT
	case struck(key, keyRefused, w.Refused):
		failure = syscall.ECONNREFUSED
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if failure == syscall.ECONNREFUSED {
		h.n.fire("refused", where)
	}
	if failure != nil {
		return nil, failure
	}
	return h.connect(to, newLink(h.n, where, key, w))
}

// weatherAt returns the weather that a new connection of a host meets. A host
// that is down meets none.
func (n *Network) weatherAt(h *Host) (w Weather, up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.weather, !h.down
}

// connect makes both ends of a link, and queues the far one for its listener.
func (h *Host) connect(to netip.AddrPort, l *link) (*conn, error) {
	n := h.n
	n.mu.Lock()
	defer n.mu.Unlock()
	peer := n.hosts[to.Addr()]
	if h.down || peer == nil || peer.down || peer.listeners[to.Port()] == nil {
		return nil, syscall.ECONNREFUSED
	}
	near, far := &l.ends[0], &l.ends[1]
	l.witness = &witness{n: n, lmtp: to.Port() == 24}
	// A port of the key, not of a count, so that twins are alike.
	port := 32768 + uint16(mix(l.key, keyPort)%28000)
	near.host, near.local, near.remote = h, netip.AddrPortFrom(h.addr, port), to
	far.host, far.local, far.remote = peer, to, near.local
	select {
	case peer.listeners[to.Port()].accept <- far:
	default:
		return nil, syscall.ECONNREFUSED
	}
	h.conns[near], peer.conns[far] = struct{}{}, struct{}{}
	same := 0
	for c := range h.conns {
		if c.end == 0 && c.remote == to {
			same++
		}
	}
	pair := h.addr.String() + ">" + to.String()
	n.peaks[pair] = max(n.peaks[pair], same)
	return near, nil
}

// Stream returns the source of chance of one name.
func Stream(seed uint64, name string) *rand.Rand {
	return rand.New(rand.NewPCG(seed, nameKey(name)))
}

// nameKey turns a name into a number.
func nameKey(name string) uint64 {
	h := fnv.New64a()
	io.WriteString(h, name)
	return h.Sum64()
}

// mix returns a number that looks like chance, of two: the final steps of
// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
func mix(a, b uint64) uint64 {
	z := a + (b+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// unit returns a number of [0, 1) that looks like chance.
func unit(a, b uint64) float64 { return float64(mix(a, b)>>11) / (1 << 53) }

// latency is the time that octets are on their way. It is in nanoseconds, so
// that no two things arrive in one instant.
func latency(luck uint64) time.Duration {
	return 200*time.Microsecond + time.Duration(luck%uint64(20*time.Millisecond))
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
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed}
	default:
	}
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: net.ErrClosed}
	}
}

func (l *listener) close() { l.once.Do(func() { close(l.done) }) }

// Close resets what was not accepted yet.
func (l *listener) Close() error {
	l.close()
	l.h.n.mu.Lock()
	if l.h.listeners[l.addr.Port()] == l {
		delete(l.h.listeners, l.addr.Port())
	}
	l.h.n.mu.Unlock()
	for {
		select {
		case c := <-l.accept:
			c.link.lose(c.end, false)
			c.host.forget(c)
		default:
			return nil
		}
	}
}

func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// forget takes a connection that is closed from its host.
func (h *Host) forget(c *conn) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	delete(h.conns, c)
}

package sim

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// pipeMax is how many octets one direction holds, like the buffers of two sockets.
const pipeMax = 128 << 10

// A link is one connection: two ends, and a pipe from each to the other. Its
// lock guards all of it. At each end one goroutine reads and one writes.
type link struct {
	n     *Network
	where string
	key   uint64
	calm  int64 // of Network.calms, when it began

	witness *witness

	mu    sync.Mutex
	luck  luck
	ends  [2]conn // the first one dialed
	pipes [2]pipe // of the end with the same number to the other
	// broken: what is sent from now on gets nowhere. Resets are on their way, or
	// nothing is: the link is half open.
	broken  bool
	quiet   int       // end that is gone without a word, plus one
	disowns bool      // the machine of that end has come back, and knows nothing
	waited  time.Time // end of the last partition that it met
}

func newLink(n *Network, where string, key uint64, w Weather) *link {
	l := &link{n: n, where: where, key: key, calm: n.calms.Load(), luck: w.draw(key)}
	for i := range l.ends {
		l.ends[i].link, l.ends[i].end = l, i
		l.pipes[i].dir = uint64(i)
	}
	return l
}

// A pipe is one direction of a connection.
type pipe struct {
	dir    uint64
	chunks []chunk // on their way, or waiting to be read
	spare  []byte  // of a chunk that was read, to be used again
	size   int     // octets of chunks
	sent   int64   // octets so far, as far as nothing took them
	// written and taken are what the two ends know of.
	written, taken int64
	count          int64  // chunks so far
	hist           uint64 // digest of all that was sent
	last           time.Time
	fin            time.Time // when the reader hears of the end; zero: it does not
	rst            time.Time // when the reader hears of a reset
	purge          bool      // the reset takes with it what was not read
	full           bool      // the writer waits until the reader makes room
	room           time.Time // when the writer hears of it

	reader, writer sleeper
}

// piecesMax is after how many octets of a direction pieces are no longer small.
const piecesMax = 16 << 10

// A chunk is octets on their way, readable from a time on.
type chunk struct {
	at   time.Time
	data []byte
	read int
}

// A sleeper is a goroutine that waits for its half of a pipe to change, or for a
// time. It belongs to the lock of the link.
type sleeper struct {
	asleep bool
	wake   chan struct{}
	timer  *time.Timer
}

// rouse wakes it up.
func (s *sleeper) rouse() {
	if s.asleep {
		s.asleep = false
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// sleep waits, with the lock released meanwhile. Each time is one at which to
// wake up, or zero.
func (s *sleeper) sleep(mu *sync.Mutex, times ...time.Time) {
	var until time.Time
	for _, t := range times {
		if !t.IsZero() && (until.IsZero() || t.Before(until)) {
			until = t
		}
	}
	if s.wake == nil {
		s.wake = make(chan struct{}, 1)
	}
	s.asleep = true
	if until.IsZero() {
		mu.Unlock()
		<-s.wake
		mu.Lock()
		return
	}
	if s.timer == nil {
		s.timer = time.NewTimer(time.Until(until))
	} else {
		s.timer.Reset(time.Until(until))
	}
	mu.Unlock()
	select {
	case <-s.wake:
		s.timer.Stop()
	case <-s.timer.C:
	}
	mu.Lock()
	s.asleep = false
}

// arrived reports whether a time that is set has come.
func arrived(t, now time.Time) bool { return !t.IsZero() && !t.After(now) }

// arrival returns when what is sent now into a pipe comes out: after all that
// was sent before, and at an instant of its own. n octets of it are content.
func (l *link) arrival(p *pipe, now time.Time, n int) (at time.Time, fault string) {
	chance := mix(l.key^p.hist, uint64(p.count)<<1|p.dir)
	d := latency(chance)
	if !l.spared() {
		if l.luck.spikeAt[p.dir] == p.count {
			d += l.luck.spike
			fault = "spike"
		}
		if rate := l.luck.rate[p.dir]; rate > 0 && n > 0 {
			if p.count == 0 {
				fault = "slow_reader"
			}
			if p.last.After(now) {
				now = p.last
			}
			d += time.Duration(n) * time.Second / time.Duration(rate)
		}
	}
	if until := l.n.parted(l.ends[0].local.Addr(), l.ends[1].local.Addr(), now); !until.IsZero() {
		if l.waited != until {
			l.waited, fault = until, "partition"
		}
		now = until
	}
	p.count++
	at = now.Add(d)
	if !at.After(p.last) {
		at = p.last.Add(1 + time.Duration(chance>>40%2000))
	}
	p.last = at
	return at, fault
}

// spared reports whether the weather has become calm since the link began.
func (l *link) spared() bool { return l.calm != l.n.calms.Load() }

// reset lets the reader of a pipe hear of a reset, a while after what was sent
// before.
func (l *link) reset(p *pipe, now time.Time, later time.Duration) {
	if !p.rst.IsZero() {
		return
	}
	at, _ := l.arrival(p, now, 0)
	p.rst = at.Add(later)
	p.purge = mix(l.key, keyDiscard+p.dir<<32)%2 == 0
	p.reader.rouse()
	l.pipes[1-p.dir].writer.rouse()
}

// lose takes one end off the network. Of what it had sent, and is still on its
// way, all or nothing arrives. Silent: the other end hears nothing.
func (l *link) lose(end int, silent bool) {
	if end == 0 {
		defer l.witness.ends(true)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out, in, now := &l.pipes[end], &l.pipes[1-end], time.Now()
	l.ends[end].dead = true
	in.reader.rouse()
	out.writer.rouse()
	if in.chunks = nil; !silent {
		in.size = 0 // else it is sent again, until somebody answers
	}
	if mix(l.key, keyDiscard+2<<32)%2 == 0 {
		for len(out.chunks) > 0 && out.chunks[len(out.chunks)-1].at.After(now) {
			out.size -= len(out.chunks[len(out.chunks)-1].data)
			out.chunks = out.chunks[:len(out.chunks)-1]
			out.fin = time.Time{}
		}
	}
	if silent {
		l.broken, l.quiet = true, end+1
		return
	}
	if !l.broken {
		l.broken = true
		l.reset(out, now, 0)
	}
}

// disown tells a link that the machine of its quiet end is there again: what is
// sent to it is answered with a reset. What was sent already is sent again.
func (l *link) disown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.disowns = true
	if l.quiet > 0 && l.pipes[2-l.quiet].size > 0 {
		l.reset(&l.pipes[l.quiet-1], time.Now(), time.Duration(mix(l.key, keyDiscard+3<<32)%uint64(time.Minute)))
	}
}

// A conn is one end of a link. It implements net.Conn.
type conn struct {
	link          *link
	end           int
	host          *Host
	local, remote netip.AddrPort
	closed, dead  bool
	rd, wd        time.Time // deadlines
}

func (c *conn) Read(b []byte) (int, error) {
	l := c.link
	l.mu.Lock()
	n, err := c.read(&l.pipes[1-c.end], b)
	l.mu.Unlock()
	if n > 0 && c.end == 0 && b[n-1] == '\n' {
		l.witness.hears(c.host)
	}
	return n, c.wrap("read", err)
}

func (c *conn) read(p *pipe, b []byte) (int, error) {
	for {
		now := time.Now()
		var first time.Time
		if len(p.chunks) > 0 {
			first = p.chunks[0].at
		}
		gone := arrived(p.rst, now)
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.dead:
			return 0, syscall.ECONNRESET
		case arrived(c.rd, now):
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case gone && (p.purge || !arrived(first, now)):
			return 0, syscall.ECONNRESET
		case arrived(first, now):
			return c.link.take(p, b, now), nil
		case arrived(p.fin, now):
			return 0, io.EOF
		}
		p.reader.sleep(&c.link.mu, first, p.fin, p.rst, c.rd)
	}
}

// take reads from the first chunk of a pipe.
func (l *link) take(p *pipe, b []byte, now time.Time) int {
	k := &p.chunks[0]
	n := copy(b, k.data[k.read:])
	if k.read += n; k.read == len(k.data) {
		if cap(k.data) > cap(p.spare) {
			p.spare = k.data[:0]
		}
		k.data = nil
		p.chunks = slices.Delete(p.chunks, 0, 1)
	}
	p.size -= n
	p.taken += int64(n)
	if p.full && p.room.IsZero() {
		p.room = now.Add(latency(mix(l.key^p.hist, uint64(p.count)+1<<40)))
		p.writer.rouse()
	}
	return n
}

func (c *conn) Write(b []byte) (int, error) {
	l := c.link
	p, back := &l.pipes[c.end], &l.pipes[1-c.end]
	wrote := 0
	if c.end == 0 {
		l.witness.said(b)
	} else if token, taken, n := l.witness.answers(b); token != "" && l.n.Answers != nil {
		l.n.Answers(c.local.Addr().String(), token, taken, n)
	}
	for {
		l.mu.Lock()
		now := time.Now()
		var err error
		switch {
		case c.closed:
			err = net.ErrClosed
		case c.dead, arrived(back.rst, now):
			err = syscall.EPIPE
		case arrived(c.wd, now):
			err = os.ErrDeadlineExceeded
		}
		if arrived(p.room, now) {
			p.full, p.room = false, time.Time{}
		}
		switch {
		case err != nil || wrote == len(b):
			l.mu.Unlock()
			return wrote, c.wrap("write", err)
		case p.full || p.size >= pipeMax:
			p.full = true
			p.writer.sleep(&l.mu, p.room, back.rst, c.wd)
			l.mu.Unlock()
		default:
			n, faults := l.send(p, b[wrote:], now)
			p.written += int64(n)
			at := p.last
			l.mu.Unlock()
			l.n.tell(l, c.end, at, b[wrote:wrote+n], faults)
			wrote += n
		}
	}
}

// tell passes on what has happened on a link.
func (n *Network) tell(l *link, end int, at time.Time, octets []byte, faults [2]string) {
	for _, f := range faults {
		if f != "" {
			n.fire(f, l.where)
		}
	}
	if n.Wire != nil {
		n.Wire(l.where, end, at, octets)
	}
}

// send puts octets on their way. It returns how many, and the faults that
// struck; of what a fault takes, nobody hears here.
func (l *link) send(p *pipe, b []byte, now time.Time) (n int, faults [2]string) {
	n = min(len(b), pipeMax-p.size)
	if rate := l.luck.rate[p.dir]; rate > 0 && !l.spared() {
		n = min(n, int(rate)) // what arrives in one second arrives together
	}
	if most := l.luck.pieces; most > 0 && !l.spared() && p.sent < piecesMax {
		n = min(n, 1+int(mix(l.key^p.hist, uint64(p.count))%most))
		if p.count == 0 {
			faults[1] = "fragments"
		}
	}
	far := &l.ends[1-p.dir]
	if l.broken {
		if l.disowns {
			l.reset(&l.pipes[1-p.dir], now, 0)
		}
		p.size += n // for want of an answer it stays in the buffer
		return n, faults
	}
	b = b[:n]
	pass, s := l.strike(p, b)
	p.digest(b[:pass])
	if pass > 0 {
		var at time.Time
		at, faults[0] = l.arrival(p, now, pass)
		if far.closed {
			// The other end has closed, and hears more: it answers with a reset.
			l.reset(&l.pipes[1-p.dir], at, 0)
			return n, faults
		}
		// A sum, since what is sent in one instant has no order.
		l.n.digest.Add(mix(l.key^p.hist, uint64(at.UnixNano())<<1|p.dir))
		p.put(at, b[:pass])
		p.reader.rouse()
	}
	if s.fault != "" {
		faults[1] = s.fault
		l.sever(p, s, now)
	}
	return n, faults
}

// put appends a chunk to a pipe.
func (p *pipe) put(at time.Time, b []byte) {
	data := append(p.spare[:0], b...)
	p.spare = nil
	p.chunks = append(p.chunks, chunk{at: at, data: data})
	p.size += len(b)
}

// digest takes what is sent into the history of the pipe, from which comes how
// long the rest takes. Of TLS, whose octets are never the same, only sizes count.
func (p *pipe) digest(b []byte) {
	p.sent += int64(len(b))
	h := p.hist ^ uint64(len(b))
	if len(b) > 0 && b[0] >= 0x14 && b[0] <= 0x17 {
		p.hist = mix(h, 0)
		return
	}
	for ; len(b) >= 8; b = b[8:] {
		h = (h ^ binary.LittleEndian.Uint64(b)) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	for _, c := range b {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	p.hist = mix(h, 1)
}

// A strike is a fault that breaks a link.
type strike struct {
	fault  string
	silent bool // both ends hear nothing
	heard  bool // the reader has time to act on what it got
}

// strike returns how many of the octets pass before a fault, and which.
func (l *link) strike(p *pipe, b []byte) (pass int, s strike) {
	pass = len(b)
	if l.spared() {
		return pass, s
	}
	if at := l.luck.cutAt[p.dir] - p.sent; at >= 0 && at < int64(pass) {
		pass, s = int(at), strike{fault: "cut"}
	}
	if at := l.luck.halfAt[p.dir] - p.sent; at >= 0 && at < int64(pass) {
		pass, s = int(at), strike{fault: "half_open", silent: true}
	}
	w := l.luck.watch
	if w == nil {
		return pass, s
	}
	if p.dir == 1 {
		w.replied(b)
		return pass, s
	}
	if at := w.said(b); at >= 0 && at <= pass && (w.after || at < pass) {
		pass, s = at, strike{silent: l.luck.silent, heard: w.after}
		switch {
		case l.luck.lost:
			s.fault = "lost_reply"
		case w.after:
			s.fault = "reset_after_" + resetVerbs[w.verb]
		default:
			s.fault = "reset_before_" + resetVerbs[w.verb]
		}
	}
	return pass, s
}

// sever ends the traffic of a link, after what a writer has just sent.
func (l *link) sever(p *pipe, s strike, now time.Time) {
	l.broken = true
	if s.silent {
		return
	}
	var later [2]time.Duration
	if s.heard { // seconds: what the reader does with it may take a while
		for i := range later {
			later[i] = time.Duration(mix(l.key, keyDiscard+uint64(i+4)<<32) % uint64(3*time.Second))
		}
	}
	l.reset(&l.pipes[1-p.dir], now, later[0])
	l.reset(p, now, later[1])
	if s.heard {
		p.purge = false
	}
}

func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Close says FIN to the other end, or resets what it still says.
func (c *conn) Close() error {
	l := c.link
	l.mu.Lock()
	if c.closed {
		l.mu.Unlock()
		return nil
	}
	c.closed = true
	out, in, now := &l.pipes[c.end], &l.pipes[1-c.end], time.Now()
	in.reader.rouse()
	out.writer.rouse()
	if !l.broken && !c.dead {
		// RFC 1122 4.2.2.13: to close with octets unread is to reset. So is to be
		// sent some afterwards.
		switch {
		case len(in.chunks) > 0 && arrived(in.chunks[0].at, now):
			l.reset(out, now, 0)
		default:
			out.fin, _ = l.arrival(out, now, 0)
			out.reader.rouse()
			if len(in.chunks) > 0 {
				l.reset(out, in.chunks[0].at, 0)
			}
		}
	}
	in.chunks, in.spare = nil, nil
	l.mu.Unlock()
	c.host.forget(c)
	if c.end == 0 {
		l.witness.ends(false)
	}
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

func (c *conn) SetDeadline(t time.Time) error      { return c.set(t, true, true) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.set(t, true, false) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.set(t, false, true) }

// abort closes with a reset, as a machine does that has lost what it knew.
func (c *conn) abort() {
	c.link.lose(c.end, false)
	c.Close()
}

// set moves deadlines. Who waits looks at them only where they come earlier, or
// wakes up at the old one and waits on. Those of the two ends are never one instant,
// though both wait as long and from one moment on (seed 43050).
func (c *conn) set(t time.Time, read, write bool) error {
	l := c.link
	if c.end == 1 && !t.IsZero() {
		t = t.Add(3 * time.Nanosecond)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if read {
		c.rd = t
		l.pipes[1-c.end].reader.rouse()
	}
	if write {
		c.wd = t
		l.pipes[c.end].writer.rouse()
	}
	return nil
}

package relay

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/internal/pace"
	"github.com/postrider/postrider/smtpc"
)

// A key says which attempts may share a connection: those that would have opened
// it in the same way, for the same host, as the same user.
type key struct {
	site     site
	lmtp     bool
	tls      postrider.TLSPolicy
	implicit bool
	verified string // the name that the certificate is for; empty: any
	username string
	password string
	auth     string // how it was said
	cert     string // that was shown
	uses     int    // how many transactions it may have; 0: as Options says
}

// A site is where a connection leads: an address and port, or a Unix socket.
type site struct {
	addr   netip.AddrPort
	socket string
}

// dial is the site in the words of package net.
func (s site) dial() (network, addr string) {
	if s.socket != "" {
		return "unix", s.socket
	}
	return "tcp", s.addr.String()
}

// A link is a connection, with what it has been used for.
type link struct {
	conn    *smtpc.Conn
	key     key
	uses    int      // transactions
	domains []string // of recipients so far, where the peer limits them
	kept    bool     // taken from the pool and not dialled for this attempt
	// stripped: TLS was offered and failed, and the connection goes on in the clear.
	stripped bool
	mailed   bool      // MAIL was taken on it
	idle     time.Time // since when it lies in the pool
}

// worn reports whether a connection is to take no further transaction.
func (p *pool) worn(l *link) bool { return l.uses >= cmp.Or(l.key.uses, p.o.UseMax) || l.conn.Spent() }

// A pool keeps idle connections for a while, and counts the ones in use for
// each site.
type pool struct {
	o    Options
	stop chan struct{}
	wake chan struct{} // a connection came to lie in the pool, and nobody waits for its time; one element
	wg   sync.WaitGroup
	// quits ends when Close waits no longer.
	quits  context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	idle   []*link // the longest idle first
	timed  bool    // the reaper has a timer for the first of them, or for one before it
	rcpts  map[site]capacity
	gates  map[site]*gate
	sweep  int // size of gates at which to look for what may go
	flows  map[flow]*pace.Bucket
	flowed int       // size of flows at which to look for what may go
	born   time.Time // since when we know what went where
	closed bool
}

func newPool(o Options) *pool {
	p := &pool{
		o:     o,
		stop:  make(chan struct{}),
		wake:  make(chan struct{}, 1),
		gates: make(map[site]*gate),
		rcpts: make(map[site]capacity),
		flows: make(map[flow]*pace.Bucket),
		born:  time.Now(),
		sweep: gatesMax,

		flowed: gatesMax,
	}
	p.quits, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.reap)
	return p
}

// take returns an idle connection of that key, the one that was used last, or nil.
// The lock is held.
func (p *pool) take(k key) *link {
	for i, l := range slices.Backward(p.idle) {
		if l.key == k {
			p.idle = slices.Delete(p.idle, i, i+1)
			l.kept = true
			return l
		}
	}
	return nil
}

// give keeps a connection, or ends it where it is worn out or not wanted.
func (p *pool) give(l *link) {
	if l.conn.Usable() && !p.keep(l) {
		l.conn.Close()
	}
}

// keep reports whether the pool has taken a connection over.
func (p *pool) keep(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return false
	case p.worn(l) || p.o.IdleMax < 0:
		p.quit(l)
		return true
	}
	l.idle = time.Now()
	p.idle = append(p.idle, l)
	if len(p.idle) > p.o.IdleMax {
		p.quit(p.idle[0])
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	if !p.timed {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// quit ends a connection politely, in its own time; until then it counts as one that
// is in use. The lock is held, and the pool is not closed.
func (p *pool) quit(l *link) {
	g := p.gate(l.key.site)
	g.used, g.quits = g.used+1, g.quits+1
	p.wg.Go(func() {
		l.conn.Quit(p.quits)
		p.mu.Lock()
		defer p.mu.Unlock()
		g.quits--
		p.left(l.key.site)
	})
}

// idleAt is how many connections to a site lie in the pool. The lock is held.
func (p *pool) idleAt(s site) (n int) {
	for _, l := range p.idle {
		if l.key.site == s {
			n++
		}
	}
	return n
}

// evict ends the connection to a site that has lain in the pool the longest. The lock
// is held.
func (p *pool) evict(s site) {
	if i := slices.IndexFunc(p.idle, func(l *link) bool { return l.key.site == s }); i >= 0 {
		p.quit(p.idle[i])
		p.idle = slices.Delete(p.idle, i, i+1)
	}
}

// reap ends the connections that have been idle for too long. While there are
// none it sleeps without a timer.
func (p *pool) reap() {
	for p.wait() {
	}
}

// wait ends what is too old, and returns when there may be more of it, or false
// at the end.
func (p *pool) wait() bool {
	var due <-chan time.Time
	if wait, ok := p.expire(time.Now()); ok {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-p.stop:
		return false
	case <-p.wake:
	case <-due:
	}
	return true
}

// expire ends what is too old, and returns how long the next one has.
func (p *pool) expire(now time.Time) (wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 && !p.closed {
		if wait := p.idle[0].idle.Add(p.o.IdleTimeout).Sub(now); wait > 0 {
			p.timed = true
			return wait, true
		}
		p.quit(p.idle[0])
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	p.timed = false
	return 0, false
}

// close ends the reaper and every idle connection, and waits for them until ctx
// ends. It may be called again.
func (p *pool) close(ctx context.Context) {
	p.mu.Lock()
	if !p.closed {
		for _, l := range p.idle {
			p.quit(l)
		}
		p.idle, p.closed = nil, true
		close(p.stop)
	}
	p.mu.Unlock()
	defer context.AfterFunc(ctx, p.cancel)()
	p.wg.Wait()
	p.cancel()
}

// Bounds of what is remembered of how many recipients sites take: of how many sites,
// and for how long, as "servers are free to adjust their limits at any time" (RFC 9422
// 3.8).
const (
	learnedMax  = 1024
	learnedTime = time.Hour
)

// A capacity is how many recipients of a transaction a site was seen to take.
type capacity struct {
	n     int
	until time.Time
}

// learn takes down that a site took n recipients in a transaction and no more.
func (p *pool) learn(s site, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rcpts) >= learnedMax && p.rcpts[s].n == 0 {
		clear(p.rcpts)
	}
	p.rcpts[s] = capacity{n, time.Now().Add(learnedTime)}
}

// learned is how many recipients a site takes in a transaction; 0: as many as any.
func (p *pool) learned(s site) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.rcpts[s]
	if ok && time.Now().After(c.until) {
		delete(p.rcpts, s)
		return 0
	}
	return c.n
}

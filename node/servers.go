package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/receive"
	"github.com/postrider/postrider/smtpd"
)

// A door is a listener of the configuration with the server behind it.
type door struct {
	name   string
	conf   config.Listener
	socket *socket
	served *served
}

// A served socket is one with a server at it.
type served struct {
	*smtpd.Server
	socket *socket
	slot   *slot
	terms  terms
	over   atomic.Bool // another server has taken over, or nobody listens there any more
}

// terms are what a server cannot change while it runs. A reload that changes
// them puts another server behind the socket; connections that are there end
// under the terms that they began with.
type terms struct {
	listener string
	role     config.Role
	tls      config.TLSMode
	size     int64
	rcpts    int
	conns    int
	announce bool
}

// listen opens the listeners of a configuration, but for those that are open in
// old, whose sockets it takes. Opened are the new ones.
func (n *Node) listen(ctx context.Context, cfg *config.Config, old []*door) (doors, opened []*door, err error) {
	left := slices.Clone(old)
	take := func(same func(*door) bool) *door {
		if i := slices.IndexFunc(left, same); i >= 0 {
			d := left[i]
			left = slices.Delete(left, i, i+1)
			return d
		}
		return nil
	}
	doors = make([]*door, len(cfg.Listeners))
	for i, l := range cfg.Listeners {
		if d := take(func(d *door) bool { return d.conf.Address == l.Address && d.name == l.Name }); d != nil {
			doors[i] = &door{name: l.Name, conf: l, socket: d.socket}
		}
	}
	for i, l := range cfg.Listeners {
		if doors[i] != nil {
			continue
		}
		doors[i] = &door{name: l.Name, conf: l}
		if d := take(func(d *door) bool { return d.conf.Address == l.Address }); d != nil {
			doors[i].socket = d.socket
			continue
		}
		got, err := n.env.Net.Listen(ctx, "tcp", l.Address)
		if err != nil {
			closeDoors(opened)
			return nil, nil, listenError(l.Pos, l.Address, err)
		}
		doors[i].socket = newSocket(got)
		opened = append(opened, doors[i])
	}
	return doors, opened, nil
}

// makeServers puts a server behind each door that is not open yet. Where the
// terms are those of before, that is the one that is there.
func (n *Node) makeServers(g *generation, old []*door) {
	for _, d := range g.doors {
		want := terms{d.name, d.conf.Role, d.conf.TLS, g.cfg.Limits.MessageSize, g.cfg.Limits.Recipients, n.maxConns(g.cfg, len(g.doors)), d.conf.Announce}
		i := slices.IndexFunc(old, func(o *door) bool { return o.socket == d.socket && o.served.terms == want })
		if i >= 0 {
			d.served = old[i].served
			continue
		}
		d.served = &served{Server: n.server(d, want), socket: d.socket, slot: d.socket.slot(), terms: want}
	}
}

// server makes the server of a door.
func (n *Node) server(d *door, t terms) *smtpd.Server {
	s := &smtpd.Server{
		Handler:  &watched{n.receiver(d), d.name, n},
		Implicit: t.tls == config.TLSImplicit,
		LMTP:     t.role == config.RoleLMTP,
		Hostname: n.cfg.Hostname,
		MaxSize:  t.size,
		MaxRcpts: t.rcpts,
		MaxConns: t.conns,
		Exempt:   n.exempt,
		Proxy:    n.among(d.name, proxyFrom),
		XClient:  n.among(d.name, xclientFrom),
		Alarm:    func(err error) { n.env.Log.Error("listener", "listener", d.name, "error", err) },
	}
	if t.announce {
		s.Software = software
	}
	if t.tls != config.TLSNone {
		s.TLS = n.tlsConfigOf(d.name)
	}
	return s
}

// open lets the server of a door go.
func (n *Node) open(d *door) {
	n.metrics.Listener(d.name)
	s := d.served
	n.work.Go(func() {
		err := s.Serve(context.Background(), s.slot)
		n.mu.Lock()
		delete(n.retired, s)
		n.mu.Unlock()
		if err != nil && !s.over.Load() {
			n.fail(fmt.Errorf("node: listener %q: %w", s.terms.listener, err))
		}
	})
	d.socket.open()
	n.env.Log.Info("listening", "listener", d.name, "address", d.socket.Addr().String())
}

// retire takes a server from its socket. Its connections go on; those
// of a socket that is closed with it end when no transaction is open.
func (n *Node) retire(s *served, closed bool) {
	n.mu.Lock()
	n.retired[s] = true
	n.mu.Unlock()
	s.over.Store(true)
	s.slot.Close()
	if closed {
		s.socket.Close()
		n.work.Go(func() { s.Shutdown(context.Background()) }) // Stop cuts it short
		n.env.Log.Info("no longer listening", "listener", s.terms.listener, "address", s.socket.Addr().String())
	}
}

// servers are those that accept connections, and those that only have some yet.
func (n *Node) servers() []*served {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := slices.Collect(maps.Keys(n.retired))
	for _, d := range n.gen.Load().doors {
		all = append(all, d.served)
	}
	return all
}

func closeDoors(doors []*door) {
	for _, d := range doors {
		d.socket.Close()
	}
}

// Descriptors that a server needs beside those of its connections, and those
// that each connection may need: its own, and the file of a large content.
const (
	descriptorsKept    = 512
	descriptorsPerConn = 2
	connsMin           = 10
)

// tellConns says where the descriptors that we may have are too few for the
// connections that each listener would take.
func (n *Node) tellConns(cfg *config.Config, listeners int) {
	if most, want := n.maxConns(cfg, listeners), cfg.Limits.Connections; n.env.Descriptors > 0 && most < want && n.env.Descriptors < descriptorsKept+descriptorsPerConn*want*max(1, listeners) {
		n.env.Log.Warn("few descriptors: each listener takes fewer connections; raise the limit of open files (ulimit -n, LimitNOFILE=)",
			"descriptors", n.env.Descriptors, "connections", most, "wanted", descriptorsKept+descriptorsPerConn*want*max(1, listeners))
	}
}

// maxConns is how many connections a listener may have, of so many.
func (n *Node) maxConns(cfg *config.Config, listeners int) int {
	most := min(cfg.Limits.Connections, max(connsMin, n.env.Memory.budget(cfg, listeners).conns/max(1, listeners)))
	if n.env.Descriptors == 0 {
		return most
	}
	return min(most, max(connsMin, (n.env.Descriptors-descriptorsKept)/descriptorsPerConn/max(1, listeners)))
}

// receiver takes the mail of one listener in.
func (n *Node) receiver(d *door) *receive.Receiver {
	return receive.New(receive.Options{
		Spool: n.spool, Router: currentRouter{n},
		Open: currentCheck{n, d.name, phaseOpen}, Ask: currentCheck{n, d.name, phaseAsk}, Directory: directory{n},
		Mail:     currentCheck{n, d.name, phaseMail},
		Rcpt:     currentCheck{n, d.name, phaseRcpt},
		Data:     currentCheck{n, d.name, phaseData},
		Hostname: n.cfg.Hostname, Listener: d.name, Wake: n.queue.FirstWake, Now: n.env.Now,
		Accounts: n.accounts, Tokens: currentTokens{n}, ClientCAs: n.clientCAs(d.name), Submission: d.conf.Role == config.RoleSubmission, Room: n.store.Room, Refused: n.refused,
		Offer:   func() smtpd.Offer { return n.offer(d.name) },
		Trusted: n.among(d.name, relayFrom),
		Future:  n.future, Turn: n.turn, Since: n.since, Box: n.box, Envelopes: &n.envelopes,
		Alarm: func(err error) {
			n.env.Log.Error("mail could not be taken in, and will come again", "listener", d.name, "error", err)
		},
	})
}

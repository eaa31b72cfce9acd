package node

import (
	"context"
	"net"
	"net/netip"
	"path"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
)

// listenAdmin opens the HTTP address, if there is one, and the control socket.
func (n *Node) listenAdmin(ctx context.Context) error {
	o := admin.Options{
		Spool: n.spool, Dest: n.dest, Active: n.active, Probed: func(d postrider.Dest) time.Time { return n.queue.Probed(d) }, Ready: n.ready.Load, Metrics: n.metrics, Now: n.env.Now,
		Paces:  n.paces,
		Hosts:  n.hosts,
		Hurry:  func(ctx context.Context, dests []postrider.Dest) error { return n.hurryDests(ctx, dests...) },
		Reload: n.Reload, Submit: n.submit, Journal: n.journal, Tally: n.tally, Domains: n.store.ScanDomains,
	}
	if a := n.cfg.Admin; a.Address != "" {
		l, err := n.env.Net.Listen(ctx, "tcp", a.Address)
		if err != nil {
			return listenError(a.Pos, a.Address, err)
		}
		n.adminAt = l.Addr()
		strangers := newCallers(l, func(net.Conn) int { return nobodyKnown })
		n.http = append(n.http, newPage("admin", strangers, admin.NewServer(admin.Public(o))))
	}
	if n.env.Control == nil {
		return nil
	}
	l, err := n.env.Control(ctx, path.Join(n.cfg.DataDir, ControlSocket))
	if err != nil {
		return n.dataDirError(err)
	}
	n.http = append(n.http, newPage("control", l, localServer(admin.Control(o))))
	return n.listenSubmit(ctx, o)
}

// listenSubmit opens the socket where programs hand mail in.
func (n *Node) listenSubmit(ctx context.Context, o admin.Options) error {
	if n.env.Submit == nil {
		return nil
	}
	name := n.cfg.SubmitPath()
	l, err := n.env.Submit(ctx, name)
	if err != nil {
		return listenError(n.cfg.SubmitSocketPos, name, err)
	}
	n.http = append(n.http, newPage("submit", newCallers(l, userOf), localServer(admin.Submission(o))))
	return nil
}

// Addr is where the listener of a name is bound; nil before Start, or when there
// is none.
func (n *Node) Addr(listener string) net.Addr {
	if g := n.gen.Load(); g != nil {
		for _, d := range g.doors {
			if d.name == listener {
				return d.socket.Addr()
			}
		}
	}
	return nil
}

// AdminAddr is where the HTTP address is bound; nil when there is none.
func (n *Node) AdminAddr() net.Addr { return n.adminAt }

// paces are the destinations that have fewer attempts at a time than may be, or whose
// rate lets nothing go now.
func (n *Node) paces() map[postrider.Dest]admin.Pace {
	all := map[postrider.Dest]admin.Pace{}
	for _, p := range n.queue.Slowed() {
		all[p.Dest] = admin.Pace{Limit: p.Limit, Most: p.Most, Running: p.Running, Probe: p.Probe, Reason: p.Reason, Since: p.Since,
			Rate: config.FormatRate(p.Rate), Next: p.Next}
	}
	return all
}

// hosts are the hosts of which the same is true.
func (n *Node) hosts() []admin.HostPace {
	var all []admin.HostPace
	for _, s := range n.relay.Slowed() {
		all = append(all, admin.HostPace{Host: s.Addr, Pace: admin.Pace{Limit: s.Limit, Most: s.Most, Running: s.Used, Probe: s.Probe,
			Reason: s.Reason, Since: s.Since, Rate: config.FormatRate(s.Rate), Next: s.Next}})
	}
	return all
}

// hurryDests tries destinations now that did not answer, all if none is named, and lets
// the hosts be called that did not.
func (n *Node) hurryDests(ctx context.Context, dests ...postrider.Dest) error {
	n.relay.Forget()
	return n.queue.Probe(ctx, dests...)
}

// Local reports whether we listen for mail on ap ourselves.
func (n *Node) Local(ap netip.AddrPort) bool {
	ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	g := n.gen.Load()
	if g == nil {
		return false
	}
	for _, d := range g.doors {
		bound := addrPort(d.socket.Addr())
		switch {
		case bound.Port() != ap.Port():
		case bound.Addr() == ap.Addr():
			return true
		case bound.Addr().IsUnspecified() && (ap.Addr().IsLoopback() || ap.Addr().IsUnspecified() || n.ours(ap.Addr())):
			return true
		}
	}
	return false
}

// ours reports whether an address is one of this machine.
func (n *Node) ours(a netip.Addr) bool {
	for _, own := range n.machine() {
		if own == a {
			return true
		}
	}
	return false
}

// machine are the addresses of this machine. Where they cannot be told there are
// none: the hop count still ends a circle then.
func (n *Node) machine() []netip.Addr {
	if n.env.Addrs == nil {
		return nil
	}
	all, err := n.env.Addrs()
	if err != nil {
		n.env.Log.Warn("cannot tell the addresses of this machine", "error", err)
	}
	return all
}

// addrPort is the address of a listener, the zero AddrPort when it has none that
// we can read.
func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

package node

import (
	"context"
	"net"
	"net/netip"
	"path"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/route"
)

// listen opens the listeners for mail. Who connects waits until begin.
func (n *Node) listen(ctx context.Context) error {
	for _, l := range n.cfg.Listeners {
		got, err := n.env.Net.Listen(ctx, "tcp", l.Address)
		if err != nil {
			return listenError(l.Pos, l.Address, err)
		}
		n.smtp = append(n.smtp, &door{name: l.Name, listener: got})
		n.metrics.Listener(l.Name)
	}
	return nil
}

// listenAdmin opens the HTTP address, if there is one, and the control socket.
func (n *Node) listenAdmin(ctx context.Context) error {
	o := admin.Options{
		Spool: n.spool, Dest: n.dest, Active: n.active, Ready: n.ready.Load, Metrics: n.metrics, Now: n.env.Now,
		Hurry: func(ctx context.Context, dests []postrider.Dest) error { return n.queue.Probe(ctx, dests...) },
	}
	if a := n.cfg.Admin; a.Address != "" {
		l, err := n.env.Net.Listen(ctx, "tcp", a.Address)
		if err != nil {
			return listenError(a.Pos, a.Address, err)
		}
		n.adminAt = l.Addr()
		n.http = append(n.http, &page{"admin", l, admin.NewServer(admin.Public(o))})
	}
	if n.env.Control == nil {
		return nil
	}
	l, err := n.env.Control(ctx, path.Join(n.cfg.DataDir, ControlSocket))
	if err != nil {
		return n.dataDirError(err)
	}
	n.http = append(n.http, &page{"control", l, admin.NewServer(admin.Control(o))})
	return nil
}

// Addr is where the listener of a name is bound; nil before Start, or when there
// is none.
func (n *Node) Addr(listener string) net.Addr {
	for _, d := range n.smtp {
		if d.name == listener {
			return d.listener.Addr()
		}
	}
	return nil
}

// AdminAddr is where the HTTP address is bound; nil when there is none.
func (n *Node) AdminAddr() net.Addr { return n.adminAt }

// Local reports whether we listen for mail on ap ourselves.
func (n *Node) Local(ap netip.AddrPort) bool {
	ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	for _, d := range n.smtp {
		bound := addrPort(d.listener.Addr())
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

// addLiterals makes the addresses that we listen on domains of ours.
func (n *Node) addLiterals() error {
	table := n.cfg.Table()
	for _, d := range n.smtp {
		if a := addrPort(d.listener.Addr()).Addr(); a.IsUnspecified() {
			table.Addrs = append(table.Addrs, n.machine()...)
		} else if a.IsValid() {
			table.Addrs = append(table.Addrs, a)
		}
	}
	router, err := route.New(table)
	if err != nil {
		return err
	}
	n.router = router
	return nil
}

// addrPort is the address of a listener, the zero AddrPort when it has none that
// we can read.
func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

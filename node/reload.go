package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
)

// Reload reads the configuration anew and applies it: all of it, or, where
// anything of it is wrong, none. Listeners that are in both stay open with all
// their connections, and a transaction that is under way ends as it began. It
// returns the keys that changed and take effect only at the next start.
func (n *Node) Reload(ctx context.Context) (later []string, err error) {
	select {
	case n.loading <- struct{}{}:
		defer func() { <-n.loading }()
	case <-n.ending:
		return nil, errStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if !n.ready.Load() {
		return nil, errStopped
	}
	if n.env.Load == nil {
		return nil, configError{errors.New("node: there is no configuration file to reload")}
	}
	cfg, err := n.env.Load()
	if err != nil {
		err = configError{err}
	} else {
		later, err = n.change(ctx, cfg)
	}
	if err != nil {
		n.env.Log.Error("the configuration was not reloaded: what ran before goes on", "error", err)
		return nil, err
	}
	for _, key := range later {
		n.env.Log.Warn("a changed key takes effect at the next start", "key", key)
	}
	n.env.Log.Info("reloaded")
	return later, nil
}

var errStopped = errors.New("node: not running")

// A configError is admin.ErrConfig with its own words.
type configError struct{ err error }

func (e configError) Error() string   { return e.err.Error() }
func (e configError) Unwrap() []error { return []error{e.err, admin.ErrConfig} }

// change makes cfg the configuration that holds.
func (n *Node) change(ctx context.Context, cfg *config.Config) ([]string, error) {
	next, later := n.keep(cfg)
	old := n.gen.Load()
	doors, opened, err := n.listen(ctx, next, old.doors)
	if err != nil {
		return nil, err
	}
	g, err := n.newGeneration(next, doors)
	if err != nil {
		closeDoors(opened)
		return nil, configError{err}
	}
	if n.left.Load() { // it has taken too long
		closeDoors(opened)
		return nil, errStopped
	}
	n.makeServers(g, old.doors)
	n.gen.Store(g)
	select {
	case n.reloaded <- struct{}{}:
	default:
	}
	n.queue.Change(g.plan(), next.Postmaster)
	for _, d := range g.doors {
		if !slices.ContainsFunc(old.doors, func(o *door) bool { return o.served == d.served }) {
			n.open(d)
		}
	}
	for _, o := range old.doors {
		if slices.ContainsFunc(g.doors, func(d *door) bool { return o.served == d.served }) {
			continue
		}
		n.retire(o.served, !slices.ContainsFunc(g.doors, func(d *door) bool { return o.socket == d.socket }))
	}
	n.queue.Rekey()
	if err := n.hurryDests(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, postrider.ErrClosed) {
		return nil, fmt.Errorf("node: probe: %w", err)
	}
	return later, nil
}

// keep returns cfg with what cannot change while a node runs as it is, and the
// keys of that which are different.
func (n *Node) keep(cfg *config.Config) (*config.Config, []string) {
	next := *cfg
	var later []string
	note := func(key string, changed bool) {
		if changed {
			later = append(later, key)
		}
	}
	was := n.cfg
	note("hostname", next.Hostname != was.Hostname)
	note("data_dir", next.DataDir != was.DataDir)
	note("submit_socket", next.SubmitPath() != was.SubmitPath())
	note("admin", next.Admin.Address != was.Admin.Address)
	note("dns", !slices.EqualFunc(next.DNS.Servers, was.DNS.Servers, func(a, b netip.AddrPort) bool { return a == b }))
	note("queue.max_recipients", next.Queue.MaxRecipients != was.Queue.MaxRecipients)
	note("limits.memory", next.Limits.Memory != was.Limits.Memory)
	note("limits.min_free", next.Limits.MinFree != was.Limits.MinFree)
	note("journal", next.Journal != was.Journal)
	next.SubmitSocket = was.SubmitSocket
	next.Hostname, next.DataDir, next.Admin, next.DNS = was.Hostname, was.DataDir, was.Admin, was.DNS
	next.Limits.Memory = was.Limits.Memory
	next.Queue.MaxRecipients, next.Limits.MinFree, next.Journal = was.Queue.MaxRecipients, was.Limits.MinFree, was.Journal
	return &next, later
}

package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// promised is what a server of this program can do with mail. FUTURERELEASE is
// there as well, where users submit and the configuration has it.
const promised = smtp.ExtSMTPUTF8 | smtp.ExtDSN | smtp.ExtBinaryMIME | smtp.ExtDeliverBy | smtp.ExtFutureRelease |
	smtp.ExtMTPriority | smtp.ExtRRVS | smtp.ExtETRN

// offer is what the sessions of a listener promise, as it is configured now.
func (n *Node) offer(listener string) smtpd.Offer {
	cfg := n.gen.Load().cfg
	o := smtpd.Offer{Extensions: promised, HoldMax: cfg.Limits.FutureRelease}
	if l := listenerOf(cfg, listener); len(l.NoSoliciting) > 0 {
		o.Extensions |= smtp.ExtNoSoliciting
		o.Solicit = l.NoSoliciting
	}
	return o
}

// among returns whether a client is in networks of a listener, as it is configured
// now.
func (n *Node) among(listener string, networks func(config.Listener) []netip.Prefix) func(netip.Addr) bool {
	return func(client netip.Addr) bool {
		client = client.Unmap().WithZone("")
		l := listenerOf(n.gen.Load().cfg, listener)
		return slices.ContainsFunc(networks(l), func(p netip.Prefix) bool { return p.Contains(client) })
	}
}

// The networks of a listener.
func relayFrom(l config.Listener) []netip.Prefix   { return l.RelayFrom }
func proxyFrom(l config.Listener) []netip.Prefix   { return l.ProxyFrom }
func xclientFrom(l config.Listener) []netip.Prefix { return l.XClientFrom }

// listenerOf is the listener of a name; the zero Listener is there no more.
func listenerOf(cfg *config.Config, name string) config.Listener {
	for _, l := range cfg.Listeners {
		if l.Name == name {
			return l
		}
	}
	return config.Listener{}
}

// since says since when a mailbox has its owner: accounts have a time of their own,
// and of others nobody knows.
func (n *Node) since(to smtp.Path) time.Time { return n.accounts.Since(n.box(to)) }

// box is the mailbox that an address of ours is.
func (n *Node) box(to smtp.Path) smtp.Path { return n.gen.Load().router.Box(to) }

// turnBatch is how many amendments one commit of an ETRN makes.
const turnBatch = 256

// turn answers ETRN (RFC 1985 5.1): what waits for a node is due now, and the waits
// of its hosts are over. What is held for other reasons stays so. It is done for one
// client at a time.
func (n *Node) turn(ctx context.Context, node string) smtp.Reply {
	select {
	case n.turning <- struct{}{}:
		defer func() { <-n.turning }()
	case <-ctx.Done():
		return smtp.Reply{}
	}
	domain, below := strings.CutPrefix(strings.ToLower(node), "@")
	t := turning{n: n, dests: map[postrider.Dest]bool{}, match: func(d string) bool {
		d = strings.ToLower(d)
		return d == domain || below && strings.HasSuffix(d, "."+domain)
	}}
	if err := t.run(ctx); err != nil {
		n.env.Log.Error("ETRN could not be carried out", "node", node, "error", err)
		return smtp.Reply{Code: 458, Status: smtp.Status{Class: 4, Subject: 3, Detail: 0}, Text: "Unable to queue messages for node " + node}
	}
	if t.count == 0 {
		return smtp.Reply{Code: 251, Status: smtp.Status{Class: 2}, Text: "OK, no messages waiting for node " + node}
	}
	return smtp.Reply{Code: 253, Status: smtp.Status{Class: 2}, Text: "OK, " + strconv.Itoa(t.count) + " pending messages for node " + node + " started"}
}

// A turning is an ETRN being carried out.
type turning struct {
	n      *Node
	match  func(domain string) bool
	chosen []postrider.Amendment
	dests  map[postrider.Dest]bool
	count  int // messages
}

func (t *turning) run(ctx context.Context) error {
	now, active := t.n.env.Now(), t.n.active()
	for m, err := range t.n.store.ScanDomains(ctx, t.match) {
		if err != nil && m != nil {
			continue // it cannot be read, and the rest can be sent
		}
		if err != nil {
			return err
		}
		if rcpts := t.choose(m, active[m.ID], now); len(rcpts) > 0 {
			t.count++
			t.chosen = append(t.chosen, postrider.Amendment{ID: m.ID, Rcpts: rcpts, Do: postrider.AmendDue, Due: now})
		}
		if len(t.chosen) >= turnBatch {
			if err := t.flush(ctx); err != nil {
				return err
			}
		}
	}
	if err := t.flush(ctx); err != nil || len(t.dests) == 0 {
		return err
	}
	return t.n.hurryDests(ctx, slices.Sorted(maps.Keys(t.dests))...)
}

// choose returns the recipients of a message that are to be tried now.
func (t *turning) choose(m *postrider.Message, active []int, now time.Time) (rcpts []int) {
	if m.Release.After(now) {
		return nil // the sender wants it so
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		dest := t.n.dest(r.To)
		if r.Passed {
			dest = dest.Past(r.To)
		}
		if r.State != postrider.Waiting || r.Held || dest == postrider.DestHold || slices.Contains(active, i) || !t.match(r.To.Domain) {
			continue
		}
		rcpts = append(rcpts, i)
		t.dests[dest] = true
	}
	return rcpts
}

// flush commits what has gathered. A message that was settled meanwhile needs
// nothing.
func (t *turning) flush(ctx context.Context) error {
	defer func() { t.chosen = nil }()
	if len(t.chosen) == 0 {
		return nil
	}
	err := t.n.spool.Commit(ctx, postrider.Batch{Amend: t.chosen})
	if !errors.Is(err, postrider.ErrNotFound) {
		return err
	}
	for _, a := range t.chosen {
		if err := t.n.spool.Commit(ctx, postrider.Batch{Amend: []postrider.Amendment{a}}); err != nil && !errors.Is(err, postrider.ErrNotFound) {
			return fmt.Errorf("node: %w", err)
		}
	}
	return nil
}

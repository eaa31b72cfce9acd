package node

import (
	"context"
	"net/netip"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/policy"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/smtp"
)

// A generation is all that a configuration makes, except what outlives it: the
// spool, the sockets, the connections. It does not change. A transaction takes
// one at MAIL, an attempt at its start; a reload makes the next.
type generation struct {
	cfg    *config.Config
	router *route.Router
	checks map[string]policy.Chains // by listener
	doors  []*door
	cert   *certificate // nil: no listener needs one

	vouchers vouchers
}

// newGeneration makes what a configuration says, and opens nothing: doors are
// the listeners of it, which are open.
func (n *Node) newGeneration(cfg *config.Config, doors []*door) (*generation, error) {
	g := &generation{cfg: cfg, doors: doors, checks: map[string]policy.Chains{}}
	table := cfg.Table()
	table.Files, table.Account, table.Now = Files(n.env.FS), n.accounts.Has, n.env.Now
	table.Alarm = func(err error) {
		n.env.Log.Error("an alias file is not taken: what it held before stays", "error", err)
	}
	for _, d := range doors {
		if a := addrPort(d.socket.Addr()).Addr(); a.IsUnspecified() {
			table.Addrs = append(table.Addrs, n.machine()...)
		} else if a.IsValid() {
			table.Addrs = append(table.Addrs, a)
		}
	}
	var err error
	if g.cert, err = n.openCertificate(cfg); err != nil {
		return nil, err
	}
	if g.vouchers, err = n.openVouchers(cfg); err != nil {
		return nil, err
	}
	if g.router, err = route.New(table); err != nil {
		return nil, err
	}
	// Programs on this machine, who can open the control socket, may send anywhere.
	g.checks[localListener] = policy.Chains{
		Mail: policy.Chain{policy.Sender{}, policy.Full{Waiting: n.store.Waiting, Max: n.budget.recipients}},
		Rcpt: policy.Chain{policy.Recipient{}},
		Data: policy.Chain{policy.Loop{}},
	}
	for _, l := range cfg.Listeners {
		g.checks[l.Name] = policy.Standard(policy.Options{
			Role: policy.Role(l.Role), RelayFrom: l.RelayFrom, Refuse: l.Refuse, Verify: policy.Who(l.Verify),
			Waiting: n.store.Waiting, MaxWaiting: n.budget.recipients,
		})
	}
	return g, nil
}

// plan says how long and how often the queue tries.
func (g *generation) plan() queue.Plan {
	q := g.cfg.Queue
	p := queue.Plan{Retry: q.Retry, Expire: q.Expire, ExpireBounce: q.ExpireBounce, DelayNotice: q.DelayNotice}
	if p.DelayNotice == 0 {
		p.DelayNotice = -1 // never
	}
	return p
}

// exempt reports whether a client is without limits per address.
func (n *Node) exempt(client netip.Addr) bool {
	for _, p := range n.gen.Load().cfg.Limits.Exempt {
		if p.Contains(client.Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// generationKey finds the generation of a transaction in its context.
type generationKey struct{}

// generationOf is the generation that a transaction has taken, or the newest.
func (n *Node) generationOf(ctx context.Context) *generation {
	if g, ok := ctx.Value(generationKey{}).(*generation); ok {
		return g
	}
	return n.gen.Load()
}

// A currentRouter is the router of the generation at hand.
type currentRouter struct{ n *Node }

func (r currentRouter) Resolve(ctx context.Context, to smtp.Path, src postrider.Source) (postrider.Resolution, error) {
	return r.n.generationOf(ctx).router.Resolve(ctx, to, src)
}

func (r currentRouter) Route(to smtp.Path) postrider.Route { return r.n.gen.Load().router.Route(to) }

// A phase is a phase of a transaction.
type phase uint8

const (
	phaseOpen phase = iota
	phaseAsk
	phaseMail
	phaseRcpt
	phaseData
)

// closing answers MAIL on a connection whose listener is configured no more.
var closing = smtp.Reply{Code: 421, Status: smtp.Status{Class: 4, Subject: 3, Detail: 2}, Text: "This service is closed, try again later"}

// A currentCheck is the checks of one phase and listener, of the generation at
// hand.
type currentCheck struct {
	n        *Node
	listener string
	phase    phase
}

// Check implements postrider.Check.
func (c currentCheck) Check(ctx context.Context, tx *postrider.Transaction) postrider.Verdict {
	chains, ok := c.n.generationOf(ctx).checks[c.listener]
	if !ok {
		return postrider.Verdict{Refuse: true, Reply: closing}
	}
	switch c.phase {
	case phaseOpen:
		return chains.Open.Check(ctx, tx)
	case phaseAsk:
		return chains.Ask.Check(ctx, tx)
	case phaseMail:
		return chains.Mail.Check(ctx, tx)
	case phaseRcpt:
		return chains.Rcpt.Check(ctx, tx)
	}
	return chains.Data.Check(ctx, tx)
}

// Package node joins everything into one running server: it opens the spool and
// the listeners, gives each stage what it needs, and takes it all down again. It
// is the only place that names the implementations of the interfaces of the
// root, and everything that it takes from outside is in an Env.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/account"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/journal"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/receive"
	"github.com/postrider/postrider/relay"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/spool"
)

// Names in the data directory.
const (
	ControlSocket = "control.sock"
	spoolDir      = "spool"
	journalDir    = "journal"
	accountsFile  = "accounts"
)

// How long sessions and attempts may go on when a node stops. drainMax is that
// of Run, and leaves the spool some time to close.
const (
	attemptDrain = 25 * time.Second
	drainMax     = 30 * time.Second
)

// A Node is one server. New makes it; Start and Stop are called once each, in
// that order, or Run in their place.
type Node struct {
	cfg    *config.Config
	env    Env
	budget budget

	metrics *admin.Metrics
	store   *spool.Spool
	spool   postrider.Spool // store, timed
	relay   *relay.Relay
	// accounts are who may submit; their file is read when it changes.
	accounts *account.Store
	journal  *journal.Journal
	untold   context.CancelFunc // ends the reading of the feed; nil: it never began
	queue    *queue.Queue
	gen      atomic.Pointer[generation]
	futures  *futures

	envelopes receive.Envelopes
	turning   chan struct{} // holds a token while an ETRN is carried out
	http      []*page
	adminAt   net.Addr

	ready    atomic.Bool
	loading  chan struct{}  // holds a token while a reload is under way
	reloaded chan struct{}  // tells who watches the files of a generation that there is another
	ending   chan struct{}  // closed by Stop
	left     atomic.Bool    // by Stop: the reload that is under way, which is to change nothing any more
	failed   chan error     // the first failure of what runs
	work     sync.WaitGroup // the queue and the servers
	admins   sync.WaitGroup
	feed     sync.WaitGroup
	stop     context.CancelFunc // ends the queue

	mu      sync.Mutex
	retired map[*served]bool // whose connections have not all ended
}

// New checks what a configuration says and touches nothing.
func New(cfg *config.Config, env Env) (*Node, error) {
	if _, err := route.New(cfg.Table()); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return &Node{
		cfg: cfg, env: env, metrics: admin.NewMetrics(), failed: make(chan error, 1), loading: make(chan struct{}, 1), reloaded: make(chan struct{}, 1),
		ending:  make(chan struct{}),
		turning: make(chan struct{}, 1),
		retired: map[*served]bool{},
	}, nil
}

// Run starts the node, serves until ctx ends or something fails, and stops.
func (n *Node) Run(ctx context.Context) error {
	if err := n.Start(ctx); err != nil {
		return err
	}
	return n.Wait(ctx)
}

// Wait serves until ctx ends or something fails, and stops the node. Who is in
// the middle of a message has 27 s to finish it, and after 30 s it ends whatever
// hangs.
func (n *Node) Wait(ctx context.Context) error {
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-n.failed:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainMax)
	defer cancel()
	return errors.Join(failure, n.Stop(end))
}

// Start opens the spool and the listeners, and returns once mail is accepted.
// Cancelling ctx ends a start that is under way, and nothing later. After an
// error nothing is left open.
func (n *Node) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			n.close(context.WithoutCancel(ctx))
		}
	}()
	n.budget = n.env.Memory.budget(n.cfg, len(n.cfg.Listeners))
	n.envelopes.Max = n.budget.envelopes
	if err := n.openSpool(ctx); err != nil {
		return err
	}
	if err := n.openStores(ctx); err != nil {
		return err
	}
	doors, _, err := n.listen(ctx, n.cfg, nil)
	if err != nil {
		return err
	}
	g, err := n.newGeneration(n.cfg, doors)
	if err != nil {
		closeDoors(doors)
		return err
	}
	n.gen.Store(g)
	n.makeQueue()
	n.makeServers(g, nil)
	n.tellConns(n.cfg, len(doors))
	n.tellMemory()
	n.metrics.Limits(map[string]float64{"recipients": float64(n.budget.recipients), "connections": float64(n.maxConns(n.cfg, len(doors)) * len(doors)),
		"drafts_bytes": float64(n.budget.drafts), "memory_bytes": float64(n.env.Memory.Limit)})
	if err := n.listenAdmin(ctx); err != nil {
		return err
	}
	n.begin(context.WithoutCancel(ctx))
	return nil
}

// begin lets everything go that Start has made.
func (n *Node) begin(ctx context.Context) {
	ctx, n.stop = context.WithCancel(ctx)
	told, untold := context.WithCancel(context.WithoutCancel(ctx))
	n.untold = untold
	n.readFeed(told)
	n.work.Go(func() {
		if err := n.queue.Run(ctx); err != nil {
			n.fail(err)
		}
	})
	for _, d := range n.gen.Load().doors {
		n.open(d)
	}
	for _, p := range n.http {
		n.env.Log.Info("listening", "listener", p.name, "address", p.listener.Addr().String())
		n.admins.Go(func() {
			if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
				n.fail(fmt.Errorf("node: admin: %w", err))
			}
		})
	}
	n.work.Go(func() { n.watchFiles(ctx) })
	n.ready.Store(true)
}

// fail makes Run end with an error.
func (n *Node) fail(err error) {
	n.ready.Store(false)
	select {
	case n.failed <- err:
	default: // Run ends for another one already
	}
}

// openSpool makes the data directory and opens the spool in it.
func (n *Node) openSpool(ctx context.Context) error {
	if err := n.env.FS.MkdirAll(n.cfg.DataDir, 0o700); err != nil {
		return n.dataDirError(err)
	}
	opt := spool.Options{
		FS: n.env.FS, Dir: path.Join(n.cfg.DataDir, spoolDir), Now: n.env.Now, Rand: n.env.Rand("spool"),
		MaxRecipients: n.budget.recipients, DraftMemory: n.budget.drafts, MinFree: n.cfg.Limits.MinFree,
		Alarm: func(text string) { n.env.Log.Error("spool: " + text) },
	}
	if n.env.Tune != nil {
		n.env.Tune(&opt)
	}
	var err error
	n.store, err = spool.Open(ctx, opt)
	if err != nil {
		return n.dataDirError(err)
	}
	n.spool, n.futures = n.store, newFutures(n.store.Futures)
	if n.env.Wrap != nil {
		n.spool = n.env.Wrap(n.store)
	}
	n.spool = timedSpool{n.spool, n}
	n.metrics.Watch(n.queueStat, n.env.Now)
	return nil
}

// openStores opens what lies beside the spool.
func (n *Node) openStores(ctx context.Context) error {
	var err error
	n.accounts, err = account.Open(n.env.FS, AccountsFile(n.cfg), account.Options{
		Exempt: n.exempt, Now: n.env.Now,
		Alarm: func(err error) { n.env.Log.Error("accounts: what the file held before stays", "error", err) },
	})
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	n.journal, err = journal.Open(ctx, journal.Options{
		FS: n.env.FS, Dir: path.Join(n.cfg.DataDir, journalDir), Keep: n.cfg.Journal.Keep, MaxSize: n.cfg.Journal.MaxSize,
		Now: n.env.Now, Spellings: Spellings, Alarm: func(text string) { n.env.Log.Error("journal: " + text) },
	})
	if err != nil {
		return n.dataDirError(err)
	}
	return nil
}

// AccountsFile is the file of the accounts of a configuration.
func AccountsFile(cfg *config.Config) string { return path.Join(cfg.DataDir, accountsFile) }

// Accounts are who may submit mail.
func (n *Node) Accounts() *account.Store { return n.accounts }

func (n *Node) queueStat() admin.QueueStat {
	s := n.store.Stat()
	return admin.QueueStat{Queued: s.Recipients - s.Active - s.Deferred - s.Held, Active: s.Active, Deferred: s.Deferred,
		Held: s.Held, Oldest: s.Oldest, Drafts: s.Drafts}
}

// makeQueue makes the queue and its transports.
func (n *Node) makeQueue() {
	n.relay = relay.New(relay.Options{
		Hello: n.cfg.Hostname, Resolver: n.env.DNS, Network: n.env.Net, Local: n.Local, Rand: n.env.Rand("relay"), Now: n.env.Now, Roots: n.env.Roots, Log: n.env.Log,
	})
	n.queue = queue.New(queue.Options{
		Spool: n.spool, Router: func() postrider.Router { return n.gen.Load().router }, Transports: n.transports(n.relay),
		LimitsOf: func(d postrider.Dest) postrider.Limits { return n.gen.Load().router.Limits(d) },
		Plan:     n.gen.Load().plan(), Hostname: n.cfg.Hostname, Postmaster: n.cfg.Postmaster, Now: n.env.Now, Rand: n.env.Rand("queue"),
		Drain: attemptDrain, ALabels: relay.ALabels,
		Alarm: func(what string, err error) { n.env.Log.Error("queue: "+what, "error", err) },
	})
}

// dest says where a recipient waits.
func (n *Node) dest(to smtp.Path) postrider.Dest { return n.gen.Load().router.Route(to).Dest }

// active are the recipients under way, by message.
func (n *Node) active() map[postrider.ID][]int {
	all := map[postrider.ID][]int{}
	for _, a := range n.queue.Active() {
		all[a.ID] = append(all[a.ID], a.Rcpts...)
	}
	return all
}

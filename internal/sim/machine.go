package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/node"
	"github.com/postrider/postrider/spool"
	"github.com/postrider/postrider/vfs"
)

// controlPort is where the control socket of a machine is found on the network,
// since a simulated network has no sockets that are files.
const controlPort = 9

// A Machine runs one node, again after each crash, on what is left of its disk.
type Machine struct {
	site   *Site
	name   string
	addr   string
	conf   string
	names  *Names
	faults diskFaults
	clock  atomic.Int64           // how far its wall clock is off
	closed atomic.Int64           // guests may not relay, by what its configuration says now
	text   atomic.Pointer[string] // what a reload finds; nil: what chance says
	halts  halts
	memory atomic.Pointer[spool.Spool]
	boots  int

	mu   sync.Mutex
	disk *vfs.Mem

	host   *Host
	node   *node.Node
	cancel context.CancelFunc
	broke  chan error  // the node has ended by itself, or was stopped
	fell   chan string // the boot that a disk fault has ended
	over   sync.WaitGroup
}

// Disk is the disk as it is now.
func (m *Machine) Disk() *vfs.Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.disk
}

func (m *Machine) setDisk(d *vfs.Mem) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disk = d
}

// now is the wall clock of the machine.
func (m *Machine) now() time.Time { return time.Now().Add(time.Duration(m.clock.Load())) }

// load reads the configuration of the machine.
func (m *Machine) load(text string) (*config.Config, error) {
	cfg, diags := config.Load(m.name+".hcl", []byte(text), nil, node.Files(m.Disk()))
	if cfg == nil {
		return nil, diags
	}
	return cfg, nil
}

// boot starts the node.
func (m *Machine) boot(ctx context.Context) error {
	m.boots++
	boot := fmt.Sprintf("%s %d", m.name, m.boots)
	m.host = m.site.Net.Host(m.addr, boot)
	disk := m.Disk()
	disk.SetDelay(m.delay(boot))
	disk.SetHook(m.hook(m.host, boot))
	disk.SetSpace(m.space())
	cfg, err := m.load(m.conf)
	if err != nil {
		return err
	}
	n, err := node.New(cfg, node.Env{
		FS: disk, Net: m.host, DNS: spaced{dns.NewCache(m.names.Client(), dns.CacheOptions{})}, Now: m.now, Tune: m.tune, Wrap: m.wrap,
		Rand:    func(stream string) *rand.Rand { return Stream(m.site.Plan.Seed, boot+" "+stream) },
		Log:     slog.New(lines{m.site, boot, disk, ""}),
		Load:    func() (*config.Config, error) { return m.load(m.reloaded()) },
		Control: func(ctx context.Context, _ string) (net.Listener, error) { return m.control(ctx) },
	})
	if err != nil {
		return err
	}
	if err := n.Start(ctx); err != nil {
		m.host.Crash()
		return fmt.Errorf("sim: start %s: %w", boot, err)
	}
	m.site.tell("%s: up", boot)
	m.node, m.broke = n, make(chan error, 1)
	running, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	broke := m.broke
	m.over.Go(func() { broke <- n.Wait(running) })
	time.Sleep(time.Microsecond) // what begins in this instant has begun before anything strikes
	return nil
}

func (m *Machine) control(ctx context.Context) (net.Listener, error) {
	return m.host.Listen(ctx, "tcp", net.JoinHostPort(m.addr, fmt.Sprint(controlPort)))
}

// tune makes the spool small.
func (m *Machine) tune(o *spool.Options) {
	rng := Stream(m.site.Plan.Seed, "sizes of "+m.name)
	o.SegmentSize = 64<<10 + rng.Int64N(192<<10)
	o.Slack = rng.Int64N(512 << 10)
	o.SnapshotEvery = 64<<10 + rng.Int64N(512<<10)
	o.SmallMax = smallMax
	o.DraftMemory = 4*smallMax + rng.Int64N(8*smallMax)
}

// A slowSpool takes a moment to hand out a lease, so that no two attempts begin at
// the same instant.
type slowSpool struct {
	postrider.Spool
	boot  string
	halts *halts
}

func (m *Machine) wrap(sp postrider.Spool) postrider.Spool {
	if s, ok := sp.(*spool.Spool); ok {
		m.memory.Store(s)
	}
	return slowSpool{sp, fmt.Sprintf("%s %d", m.name, m.boots), &m.halts}
}

// Claim implements postrider.Spool.
func (s slowSpool) Claim(ctx context.Context, maxRcpts int) (postrider.Lease, error) {
	l, err := s.Spool.Claim(ctx, maxRcpts)
	if err == nil {
		time.Sleep(1 + time.Duration(nameKey(fmt.Sprint(s.boot, l.ID, l.Rcpts))%20_000))
	}
	return l, err
}

// Commit implements postrider.Spool. Leases that end in one instant, as at a
// restart, are settled one after another; and who settles one goes on a moment
// after others can see that, so that a Claim in between comes always first.
func (s slowSpool) Commit(ctx context.Context, b postrider.Batch) error {
	if len(b.Settle) == 0 {
		return s.Spool.Commit(ctx, b)
	}
	moment := time.Duration(1 + b.Settle[0].Lease.Token%1009*1013) // of those that are out, each has its own
	s.halts.settles(s.boot)
	time.Sleep(moment)
	err := s.Spool.Commit(ctx, b)
	time.Sleep(moment)
	return err
}

// A spaced resolver answers each question at an instant of its own, also those
// that a cache answers together: by when it was asked.
type spaced struct{ r dns.Resolver }

// Lookup implements dns.Resolver.
func (s spaced) Lookup(ctx context.Context, name string, t dns.Type) (dns.Answer, error) {
	asked := time.Now()
	a, err := s.r.Lookup(ctx, name, t)
	time.Sleep(1 + time.Duration(mix(nameKey(name+" "+t.String()), uint64(asked.UnixNano()))%uint64(2*time.Millisecond)))
	return a, err
}

// reloaded is the configuration as a reload finds it: now and then with a
// mistake, or with a queue that retries sooner.
func (m *Machine) reloaded() string {
	if text := m.text.Load(); text != nil {
		return *text
	}
	conf := m.present()
	switch Stream(m.site.Plan.Seed, fmt.Sprint("reload ", m.name, time.Now().UnixNano())).IntN(8) {
	case 0:
		return conf + "\nlistner \"x\" {}\n"
	case 1, 2, 3:
		return conf + "\nlimits { recipients = 500 }\n"
	case 4:
		m.site.letGo()
		return unheld(conf)
	case 5:
		return patient(conf)
	}
	return conf
}

// start boots until that succeeds: a disk that fails is better a while later.
func (m *Machine) start(ctx context.Context) error {
	const tries = 500
	for range tries {
		err := m.boot(ctx)
		if err == nil {
			return nil
		}
		m.site.tell("%s %d: does not start: %v", m.name, m.boots, err)
		if m.Disk().Dead() {
			m.drain()
			m.setDisk(m.Disk().Crash(m.keepSome("start", 0.5)))
		}
		time.Sleep(time.Minute)
	}
	return fmt.Errorf("drains: %s did not start again in %d tries", m.name, tries)
}

// drain forgets what a boot that is over has said about its end.
func (m *Machine) drain() {
	select {
	case <-m.fell:
	default:
	}
}

func (m *Machine) rng(what string) *rand.Rand {
	return Stream(m.site.Plan.Seed, fmt.Sprintf("%s %s %d", what, m.name, m.boots))
}

// off ends the process, in whatever it is doing. A power cut leaves of what was
// not synced what the chance says; a kill leaves all.
func (m *Machine) off(power bool) { m.end(power, true, 0) }

// end is off. Forgets: what it has heard in the last seconds it may have to hear
// again, counted from so long ago.
func (m *Machine) end(power, forgets bool, ago time.Duration) {
	// The disk first: whom the network wakes in this instant can write no more.
	if power {
		m.setDisk(m.Disk().Crash(m.keepSome("keep", m.rng("keep").Float64())))
	} else {
		m.setDisk(m.Disk().Kill())
	}
	m.host.Crash()
	if forgets {
		m.forget(ago)
	}
	m.cancel()
	m.drain()
}

// forget notes the letters that the machine may have passed on without having
// written it down: what came in the last seconds, or while its disk failed.
func (m *Machine) forget(ago time.Duration) {
	window := ago + 15*time.Second
	if m.faults.lately() {
		window = 3 * time.Hour
	}
	for _, token := range m.host.Forgets(time.Now().Add(-window)) {
		m.site.uncertain(token)
	}
}

// stopQuantum is what the time that a stop takes is rounded up to.
const stopQuantum = 20 * time.Second

// stop ends the node in good order.
func (m *Machine) stop() error {
	m.cancel()
	began := time.Now() // the power may go from here on
	err := <-m.broke
	// How long net/http takes to shut down is left to a chance that is not ours.
	time.Sleep(stopQuantum - m.site.age()%stopQuantum)
	// The process is gone, and its locks; or the power went while it stopped. A stop
	// in good order forgets nothing: all that was heard is settled before the end.
	dead := m.Disk().Dead()
	if err == nil && !dead {
		m.site.closed(m)
	}
	m.end(dead, dead || err != nil || m.faults.lately(), time.Since(began))
	return err
}

// busy reports whether the machine has anything in hand.
func (m *Machine) busy() bool { return m.host.Busy() }

// story lets befall the machine what a plan has for it, until the trouble ends.
// It is the one goroutine that starts and stops it.
func (m *Machine) story(ctx context.Context, strikes []Strike) error {
	for _, s := range strikes {
		for wait := s.At - m.site.age(); wait > 0; wait = s.At - m.site.age() {
			if err := m.watch(ctx, time.After(wait)); err != nil {
				return err
			}
		}
		if err := m.strike(ctx, s); err != nil {
			return err
		}
		time.Sleep(time.Microsecond) // those that come late come one after another
	}
	for m.site.age() < healed {
		if err := m.watch(ctx, time.After(healed-m.site.age())); err != nil {
			return err
		}
	}
	m.faults.none()
	m.clock.Store(0)
	m.Disk().SetSpace(m.space())
	return nil
}

// watch waits, and starts the machine again when it has fallen meanwhile.
func (m *Machine) watch(ctx context.Context, until <-chan time.Time) error {
	var err error
	var fell, halted string
	broke := false
	select {
	case <-until:
		return nil
	case fell = <-m.fell:
	case halted = <-m.halts.now:
	case err = <-m.broke:
		broke = true
	}
	// What ends in the same instant, or has ended before, ends for the one reason that
	// is the strongest, whichever was heard first.
	time.Sleep(time.Microsecond)
	boot := fmt.Sprintf("%s %d", m.name, m.boots)
	select {
	case fell = <-m.fell:
	default:
	}
	select {
	case halted = <-m.halts.now:
	default:
	}
	switch {
	case fell == boot:
		killed := m.faults.wasKilled()
		m.off(!killed)
		m.site.tell("%s: ended in an operation, killed %v", m.name, killed)
		time.Sleep(time.Minute + time.Duration(m.rng("down").Int64N(int64(5*time.Minute))))
	case broke:
		m.site.tell("%s: the node ended: %v", m.name, err)
		m.off(m.Disk().Dead())
		time.Sleep(time.Minute)
	case halted == boot:
		m.site.fault("stop-in-settle", m.name)
		err := m.stop()
		m.site.tell("%s: stopped amid a settlement: %v", m.name, err)
		time.Sleep(time.Minute)
	default:
		return nil // of a boot that is over
	}
	return m.start(ctx)
}

// strike does one strike.
func (m *Machine) strike(ctx context.Context, s Strike) error {
	busy := m.busy()
	down := func(power bool) error {
		m.off(power)
		if busy {
			m.site.fault(s.Kind, m.name)
		}
		m.site.tell("%s: %s", m.name, s.Kind)
		time.Sleep(s.For)
		return m.start(ctx)
	}
	switch s.Kind {
	case "power":
		return down(true)
	case "kill":
		return down(false)
	case "power-in-op":
		m.faults.arm(int(s.Arg % 60))
		return nil
	case "kill-in-making":
		m.faults.armMaking(int(s.Arg % 8))
		return nil
	case "power-twice":
		m.off(true)
		m.site.fault(s.Kind, m.name)
		time.Sleep(s.For)
		m.faults.arm(int(s.Arg % 25))
		err := m.start(ctx)
		m.faults.arm(-1)
		return err
	case "restart":
		return m.restart(ctx, s, busy)
	case "bit-flip":
		m.off(true)
		m.site.atRisk(ctx, m)
		if err := m.flip(s.Arg); err != nil {
			return err
		}
		return m.start(ctx)
	case "reload":
		n := m.node
		m.over.Go(func() {
			later, err := n.Reload(ctx)
			m.site.tell("%s: reload: %v %v", m.name, later, firstLine(err))
			m.site.fault("reload", m.name)
		})
	case "stop-in-settle":
		m.halts.arm(int(s.Arg % 8))
	case "guest":
		n := m.node
		m.over.Go(func() { m.site.guest(ctx, m, n, s) })
	case "clock":
		m.clock.Store(int64(s.Arg%uint64(12*time.Hour)) - int64(6*time.Hour))
		m.site.fault("clock", m.name)
		m.over.Go(func() { time.Sleep(s.For); m.clock.Store(0) })
	case "partition":
		m.partition(s)
	case "reader":
		m.read()
		m.site.fault(s.Kind, m.name)
	case "hold", "long-hold", "retry", "bounce", "drop":
		m.over.Go(func() { m.site.operate(ctx, m, s) })
	default: // a disk that fails for a while
		m.faults.last(s.Kind, s.For)
		m.Disk().SetSpace(m.space())
		m.over.Go(func() { time.Sleep(s.For + 1); m.Disk().SetSpace(m.space()) })
	}
	return nil
}

func (m *Machine) restart(ctx context.Context, s Strike, busy bool) error {
	err := m.stop()
	m.site.tell("%s: restart: %v", m.name, err)
	if busy {
		m.site.fault(s.Kind, m.name)
	}
	time.Sleep(s.For)
	return m.start(ctx)
}

// partition parts the machine from some of the others.
func (m *Machine) partition(s Strike) {
	var others []string
	for i, addr := range m.site.addrs {
		if addr != m.addr && s.Arg>>i&1 == 1 {
			others = append(others, addr)
		}
	}
	m.site.tell("%s: parted from %v", m.name, others)
	m.site.Net.Partition([]string{m.addr}, others, s.For)
}

func firstLine(err error) string {
	if err == nil {
		return "ok"
	}
	for i, c := range err.Error() {
		if c == '\n' {
			return err.Error()[:i]
		}
	}
	return err.Error()
}

// Package sim runs whole nodes in a simulated world: a network that cuts and
// refuses, disks that crash and keep any part of what was not synced, name
// servers that fail. Everything runs in a testing/synctest bubble, so that days
// pass in milliseconds, and all chance comes from one seed. Checkers, by name,
// then hold what was acknowledged against what arrived.
package sim

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/node"
	"github.com/postrider/postrider/vfs"
)

// The hosts of a site.
const (
	addrSender = "10.0.0.9"
	addrA      = "10.0.0.1"
	addrB      = "10.0.0.2"
	addrDead   = "10.0.0.3" // nobody is there
)

// A Site is two nodes and a sender. Mail for a.example is at home on node A,
// where the sender submits; mail for b.example goes on to B.
type Site struct {
	Seed uint64
	Net  *Network
	Zone *dns.Zone
	A, B *Machine
	Ledger

	Crashes atomic.Int64 // of machines, kills among them
}

// NewSite starts the nodes of a site.
func NewSite(ctx context.Context, seed uint64) (*Site, error) {
	s := &Site{Seed: seed, Net: NewNetwork(seed), Zone: dns.NewZone()}
	s.Ledger.sent = map[string]*Sent{}
	s.name()
	s.A = &Machine{site: s, name: "a", addr: addrA, disk: vfs.NewMem(), conf: confA}
	s.B = &Machine{site: s, name: "b", addr: addrB, disk: vfs.NewMem(), conf: confB}
	for _, m := range []*Machine{s.A, s.B} {
		if err := m.Start(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// heal makes every name answer as it should.
func (s *Site) heal() {
	for _, name := range troubled {
		s.Zone.Fail(name, nil)
	}
}

// troubled are the names whose servers fail now and then.
var troubled = []string{"b.example", "mx2.b.example", "dead.example"}

// name fills the zone.
func (s *Site) name() {
	s.Zone.MX("b.example", 10, "mx1.b.example").A("mx1.b.example", addrDead).
		MX("b.example", 20, "mx2.b.example").A("mx2.b.example", addrB).
		MX("dead.example", 10, "mx.dead.example").A("mx.dead.example", addrDead)
}

const confA = `
hostname = "mx.a.example"
data_dir = "/data"
listener "mx" {
  address    = "10.0.0.1:25"
  relay_from = ["10.0.0.9/32"]
  tls        = "none"
}
domain "a.example" {
  mailboxes = ["sender", "ann", "anton"]
  deliver   = "maildir:/mail/{domain}/{user}"
}
route "held.example" { via = "hold" }
route "*" {
  via     = "mx"
  private = true
  tls     = "none"
}
queue { expire = "1d" }
`

const confB = `
hostname = "mx2.b.example"
data_dir = "/data"
listener "mx" {
  address = "10.0.0.2:25"
  tls     = "none"
}
domain "b.example" {
  mailboxes = ["ben", "bea"]
  deliver   = "maildir:/mail/{domain}/{user}"
}
`

// A Machine runs one node, again after each crash, on what is left of its disk.
type Machine struct {
	site  *Site
	name  string
	addr  string
	conf  string
	disk  *vfs.Mem
	host  *Host
	node  *node.Node
	boots int
}

// Start boots the machine.
func (m *Machine) Start(ctx context.Context) error {
	cfg, diags := config.Load(m.name+".hcl", []byte(m.conf), nil, node.Files(m.disk))
	if cfg == nil {
		return fmt.Errorf("sim: %v", diags)
	}
	m.boots++
	m.host = m.site.Net.Host(m.addr, fmt.Sprintf("%s %d", m.name, m.boots))
	boot := fmt.Sprintf("%s boot %d ", m.name, m.boots)
	n, err := node.New(cfg, node.Env{
		FS: m.disk, Net: m.host, DNS: m.site.Zone, Now: time.Now,
		Rand: func(stream string) *rand.Rand { return Stream(m.site.Seed, boot+stream) },
		Log:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	if err := n.Start(ctx); err != nil {
		return fmt.Errorf("sim: start %s: %w", boot, err)
	}
	m.node = n
	return nil
}

// Crash cuts the power. Of what was not synced the disk keeps what keep says.
// The process that is gone is taken out of the bubble; nothing that it does
// meanwhile reaches a disk or a wire.
func (m *Machine) Crash(keep vfs.Keep) {
	m.off(func() *vfs.Mem { return m.disk.Crash(keep) })
}

// Kill ends the process, and the disk keeps everything.
func (m *Machine) Kill() { m.off(m.disk.Kill) }

func (m *Machine) off(after func() *vfs.Mem) {
	m.host.Crash()
	disk := after()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	m.node.Stop(now) // its errors are those of the dead disk
	m.disk = disk
}

// Stop ends the node in good order.
func (m *Machine) Stop(ctx context.Context) error {
	err := m.node.Stop(ctx)
	m.host.Crash()
	return err
}

// story crashes or kills the machine after each of the waits that come, and
// starts it again a while later. What comes while it is down does not befall it.
func (m *Machine) story(ctx context.Context, strikes <-chan time.Duration) error {
	rng := Stream(m.site.Seed, "story of "+m.name)
	for wait := range strikes {
		time.Sleep(wait)
		if rng.IntN(3) == 0 {
			m.Kill()
		} else {
			m.Crash(vfs.KeepSome(rng, rng.Float64()))
		}
		m.site.Crashes.Add(1)
		time.Sleep(time.Duration(rng.Int64N(int64(5 * time.Minute))))
		for len(strikes) > 0 {
			<-strikes
		}
		if err := m.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Package sim runs whole nodes in a simulated world: three servers of ours, with
// senders, other people's servers and an operator; a network that refuses, cuts,
// loses and parts; disks that crash at any operation and keep any part of what
// was not synced, that fill up, fail and rot; names that do not answer; clocks
// that jump. Everything runs in a testing/synctest bubble, so that days pass in
// milliseconds, and all chance comes from one seed. Checkers, by name, then hold
// what was acknowledged against what arrived.
package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/vfs"
)

// The addresses of a site.
const (
	addrSender   = "10.0.0.9"
	addrStranger = "10.0.0.66"
	addrGuest    = "10.0.0.77" // may relay until a reload takes that away
	addrOperator = "10.0.0.8"
	addrA        = "10.0.0.1"
	addrB        = "10.0.0.2"
	addrC        = "10.0.0.3"
	addrDead     = "10.0.0.99" // nobody is there
)

// A Site is a world: three nodes, who sends to them, and whom they send to.
//
//	sender ──> A (a.example) ──> B (b.example) <──lmtp── C (c.example)
//	   └────────────────────────>┘   └──> p1 (far.example)
//	stranger ─> A, B, C          A, B ──> p1 … p5 by MX
type Site struct {
	Plan     *Plan
	Net      *Network
	Zone     *dns.Zone
	Machines map[string]*Machine
	Peers    map[string]*Peer
	Trace    Trace
	Ops      bool // the story tells each operation of a disk
	Ledger

	names map[string]*Names // of each machine
	addrs []string          // of machines and peers
	begun time.Time
	rounds
	guests *Host
}

// NewSite builds a world. Nothing runs in it yet.
func NewSite(p *Plan) (*Site, error) {
	s := &Site{Plan: p, Net: NewNetwork(p.Seed), Zone: dns.NewZone(), Machines: map[string]*Machine{}, Peers: map[string]*Peer{},
		names: map[string]*Names{}, begun: time.Now()}
	s.Trace.fired, s.Trace.struck, s.Trace.worked = map[string]int{}, map[string][]time.Time{}, map[string]time.Time{}
	s.Ledger.init()
	s.rounds.times = map[string]int{}
	s.Net.Note = s.fault
	s.Net.Uncertain, s.Net.Answers = s.uncertain, func(server, token string, taken bool, n int) {
		s.passed(token, taken)
		s.answers(server, token, taken, n)
	}
	s.zone()
	for i, h := range habits(p.Seed) {
		domain, addr := fmt.Sprintf("p%d.example", i+1), fmt.Sprintf("10.0.1.%d", i+1)
		s.Peers[domain] = NewPeer(s.Net, p.Seed, domain, addr, h)
		s.down[domain] = true
		s.addrs = append(s.addrs, addr)
	}
	for _, name := range machineNames {
		s.names[name] = NewNames(s.Net, name, s.Zone)
		m := &Machine{site: s, name: name, addr: machines[name].addr, conf: machines[name].conf, names: s.names[name],
			disk: vfs.NewMem(), fell: make(chan string, 1), halts: halts{now: make(chan string, 1)}}
		m.faults.until, m.faults.crash, m.faults.making = map[string]time.Time{}, -1, -1
		s.Machines[name], s.addrs = m, append(s.addrs, m.addr)
		for _, dir := range []string{"/etc", "/mail/a.example", "/mail/b.example", "/mail/c.example"} {
			if err := errors.Join(m.disk.MkdirAll(dir, 0o755), m.disk.SyncDir(path.Dir(dir)), m.disk.SyncDir("/")); err != nil {
				return s, err
			}
		}
		if err := writeFile(m.disk, "/etc/aliases", aliases); err != nil {
			return s, err
		}
	}
	return s, nil
}

// start lets the servers go.
func (s *Site) start(ctx context.Context) error {
	for _, domain := range slices.Sorted(maps.Keys(s.Peers)) {
		if err := s.Peers[domain].Start(ctx); err != nil {
			return err
		}
		s.down[domain] = false
	}
	for _, name := range machineNames {
		if err := s.Machines[name].start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// age is how long the world has been there.
func (s *Site) age() time.Duration { return time.Since(s.begun) }

// at waits for a time of the world.
func (s *Site) at(t time.Duration) { time.Sleep(t - s.age()) }

// zone fills the names.
func (s *Site) zone() {
	s.Zone.MX("a.example", 10, "mx.a.example").A("mx.a.example", addrA).
		MX("b.example", 10, "mx1.b.example").A("mx1.b.example", addrDead).
		MX("b.example", 20, "mx2.b.example").A("mx2.b.example", addrB).
		MX("c.example", 10, "mx.c.example").A("mx.c.example", addrC).
		MX("far.example", 10, "mx.p1.example").
		MX("held.example", 10, "mx.p1.example").
		MX("dead.example", 10, "mx.dead.example").A("mx.dead.example", addrDead).
		MX("none.example", 10, "mx.dead.example").
		MX("l.example", 10, "mx.c.example").
		MX("two.example", 10, "mx.p8.example").
		MX("two.example", 20, "mx.p6.example").
		MX("shut.example", 10, "mx.p8.example")
	for i := range peersMax {
		s.Zone.MX(fmt.Sprintf("p%d.example", i+1), 10, fmt.Sprintf("mx.p%d.example", i+1)).
			A(fmt.Sprintf("mx.p%d.example", i+1), fmt.Sprintf("10.0.1.%d", i+1))
	}
}

// aliases of a.example.
const aliases = `
team:  ann, ben@b.example, u1@p1.example
crowd: amy, cat@c.example, cleo@c.example, no-one@p2.example
`

var machines = map[string]struct{ addr, conf string }{
	"a": {addrA, `
hostname = "mx.a.example"
data_dir = "/data"
listener "mx" {
  address    = "10.0.0.1:25"
  relay_from = ["10.0.0.9/32", "10.0.0.2/32", "10.0.0.77/32"]
  tls        = "none"
}
listener "door" {
  address = "10.0.0.1:26"
  tls     = "none"
}
domain "a.example" {
  mailboxes = ["sender", "ann", "anton", "amy"]
  aliases   = "/etc/aliases"
  deliver   = "maildir:/mail/{domain}/{user}"
}
route "held.example" { via = "hold" }
route "loop.example" {
  via = "smtp://10.0.0.2:25"
  tls = "none"
}
route "far.example" {
  via = "smtp://10.0.0.2:25"
  tls = "none"
}
route "*" {
  via     = "mx"
  private = true
  tls     = "none"
}
queue {
  expire = "1d"
  retry  = ["1m", "5m", "15m", "30m", "1h"]
}
`},
	"b": {addrB, `
hostname = "mx2.b.example"
data_dir = "/data"
listener "mx" {
  address    = "10.0.0.2:25"
  relay_from = ["10.0.0.9/32", "10.0.0.1/32", "10.0.0.77/32"]
  tls        = "none"
}
listener "lmtp" {
  address = "10.0.0.2:24"
  role    = "lmtp"
  tls     = "none"
}
domain "b.example" {
  mailboxes = ["ben", "bea", "bob", "bill", "ned", "nat", "nina"]
  deliver   = "maildir:/mail/{domain}/{user}"
}
domain "c.example" {
  mailboxes = ["cat", "cleo", "carl", "cid"]
  deliver   = "maildir:/mail/{domain}/{user}"
}
route "held.example" { via = "hold" }
route "loop.example" {
  via = "smtp://10.0.0.1:25"
  tls = "none"
}
route "*" {
  via     = "mx"
  private = true
  tls     = "none"
}
queue {
  expire = "1d"
  retry  = ["1m", "5m", "15m", "30m", "1h"]
}
`},
	"c": {addrC, `
hostname = "mx.c.example"
data_dir = "/data"
listener "mx" {
  address = "10.0.0.3:25"
  tls     = "none"
}
domain "c.example" {
  mailboxes = ["cat", "cleo", "carl", "cid"]
  deliver   = "lmtp://10.0.0.2:24"
}
domain "l.example" {
  mailboxes = ["l1", "l2", "l3", "no-1", "full-1", "wait-1", "busy-1", "late-1", "soon-1", "out-1", "out-2"]
  deliver   = "lmtp://10.0.1.7:24"
}
route "*" {
  via     = "mx"
  private = true
  tls     = "none"
}
queue {
  expire = "1d"
  retry  = ["1m", "5m", "15m", "30m", "1h"]
}
`},
}

// Run plays the plan to its end, and checks it.
func (s *Site) Run(ctx context.Context) (Tally, error) {
	if err := s.start(ctx); err != nil {
		return Tally{}, err
	}
	s.Net.SetWeather(s.Plan.Weather)
	if err := s.live(ctx); err != nil {
		return Tally{}, err
	}
	if err := s.last(ctx, s.Net.Host(addrSender, "sender")); err != nil {
		return Tally{}, err
	}
	s.at(theEnd)
	if err := s.idle(); err != nil {
		return Tally{}, err
	}
	s.wheres(ctx)
	for _, name := range machineNames {
		if err := s.Machines[name].stop(); err != nil {
			return Tally{}, fmt.Errorf("drains: stop %s: %w", name, err)
		}
		s.Machines[name].over.Wait()
	}
	return s.check(ctx)
}

// live lets everything happen, and returns some time after the trouble has ended.
func (s *Site) live(ctx context.Context) error {
	errs := make(chan error, len(s.Machines))
	var wg sync.WaitGroup
	for _, name := range machineNames {
		var mine []Strike
		for _, k := range s.Plan.Strikes {
			if k.Where == name {
				mine = append(mine, k)
			}
		}
		wg.Go(func() { errs <- s.Machines[name].story(ctx, mine) })
	}
	for _, k := range s.Plan.Strikes {
		if s.Machines[k.Where] == nil {
			wg.Go(func() {
				s.at(k.At)
				if err := s.abroad(ctx, k); err != nil {
					s.tell("%s: %v", k, err)
				}
			})
		}
	}
	hosts := map[string]*Host{"sender": s.Net.Host(addrSender, "sender"), "stranger": s.Net.Host(addrStranger, "stranger")}
	s.operator, s.guests = s.Net.Host(addrOperator, "operator"), s.Net.Host(addrGuest, "guest")
	for i := range s.Plan.Letters {
		l := &s.Plan.Letters[i]
		wg.Go(func() { s.at(l.At); s.send(ctx, hosts[l.By], l) })
	}
	wg.Go(s.bounded)
	s.at(healed)
	s.calm()
	wg.Wait()
	var failed []error
	for range s.Machines {
		failed = append(failed, <-errs)
	}
	return errors.Join(failed...)
}

// calm ends what makes trouble outside of the machines.
func (s *Site) calm() {
	s.Net.SetWeather(Weather{})
	for _, peer := range s.Peers {
		peer.Calm()
	}
	for _, n := range s.names {
		n.Calm()
	}
}

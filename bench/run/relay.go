package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/postrider/postrider/bench/load"
)

// A cell is one way to send.
type cell struct {
	sessions int
	reuse    bool
}

func (c cell) String() string {
	if c.reuse {
		return fmt.Sprintf("%d sessions, reused", c.sessions)
	}
	return fmt.Sprintf("%d sessions, one per connection", c.sessions)
}

var cells = []cell{{20, true}, {100, true}, {20, false}, {100, false}}

// relayMessages is how many Postrider relays in one measurement.
const relayMessages = 5_000

// A relayed is what one measurement has given.
type relayed struct {
	rate, cpu float64 // messages a second, CPU seconds per 1,000
	client    clientMode
}

// source is that of a cell.
func (c cell) source(addr string, n int, size int64) load.Source {
	return load.Source{Server: addr, Messages: n, Sessions: c.sessions, Size: size, From: "s@bench.example", To: "r@sink.example", Reuse: c.reuse}
}

// through sends through a server until the sink has all.
func (b *bench) through(i *instance, h *hole, s load.Source) (relayed, error) {
	i.quiet(4 * time.Second)
	was, err := h.ask(anew)
	if err != nil {
		return relayed{}, err
	}
	if i.to != "" {
		s.To = i.to
	}
	cpu, began := i.cpu(), time.Now()
	t, err := b.sendMost(s, cmp.Or(i.misses, missMax))
	if err != nil {
		return relayed{}, err
	}
	if err := h.until(b.ctx, was.Arrived+int64(t.Messages)); err != nil {
		return relayed{}, err
	}
	took := time.Since(began).Seconds()
	now, err := h.counts()
	if err != nil {
		return relayed{}, err
	}
	i.quiet(2 * time.Second)
	got := relayed{rate: float64(t.Messages) / took, cpu: (i.cpu() - cpu) / float64(t.Messages) * 1000}
	got.client = clientMode{conns: now.Peak, uses: int(int64(t.Messages) / max(1, now.Conns-was.Conns))}
	return got, nil
}

// relay measures relaying through each server in turn.
func relay(b *bench) ([]row, error) {
	rates, cpus := map[cell]series{}, map[cell]series{}
	for _, c := range cells {
		rates[c], cpus[c] = series{}, series{}
	}
	h, err := b.sink(settings{})
	if err != nil {
		return nil, err
	}
	defer h.stop()
	more, err := b.chasquid(h)
	if err != nil {
		return nil, err
	}
	for round := range b.rounds {
		client := map[cell]clientMode{}
		if err := b.eachOf(append(b.contenders(), more...), func(w contender) error { return b.relayRound(w, h, rates, cpus, client) }); err != nil {
			return nil, err
		}
		for _, c := range cells {
			if err := b.hops(rates[c], c.source("", b.n(relayMessages/2), 4096), client[c]); err != nil {
				return nil, err
			}
		}
		b.say("relay: round %d of %d, 20 sessions reused: %v", round+1, b.rounds, last(rates[cells[0]]))
	}
	return relayRows(rates, cpus), nil
}

func (b *bench) relayRound(w contender, h *hole, rates, cpus map[cell]series, client map[cell]clientMode) error {
	i, err := w.start(b, mode{next: h.addr})
	if err != nil {
		return err
	}
	defer i.end()
	n := max(1, int(float64(b.n(relayMessages))*w.part))
	if _, err := b.through(i, h, cells[0].source(i.addr, max(1, n/20), 4096)); err != nil {
		return err // before it counts
	}
	for _, c := range cells {
		if !c.reuse && w.name != ours && w.name != "Postfix" || c.sessions > 20 && w.name == "Exim" {
			continue // no target asks for it, and Exim takes a minute for a thousand messages
		}
		got, err := b.through(i, h, c.source(i.addr, n, 4096))
		if err != nil {
			return err
		}
		rates[c].add(w.name, got.rate)
		cpus[c].add(w.name, got.cpu)
		if w.name == ours {
			client[c] = got.client
		}
	}
	return nil
}

func relayRows(rates, cpus map[cell]series) (rows []row) {
	for _, c := range cells {
		r := rowOf("relay, 4 KiB, "+c.String(), "messages/s", rates[c], ours, "Postfix", "chasquid", "Exim", hop1, hop2, ceiling)
		if c.reuse {
			r.beside(rates[c], "# x Postfix", 10, "Postfix")
			r.beside(rates[c], "# x NAME", 6, "chasquid", "Exim")
		} else {
			r.beside(rates[c], "# x Postfix", 4, "Postfix")
		}
		r.Checks = append(r.Checks, atLeast("# of C2", rates[c].ratios(ours, ceiling).Median, 0.5))
		rows = append(rows, r)
	}
	for _, c := range cells {
		r := rowOf("CPU per 1,000 relayed, "+c.String(), "s", cpus[c], ours, "Postfix", "chasquid", "Exim")
		if c.reuse {
			r.below(cpus[c], 11, "Postfix")
			r.below(cpus[c], 5, "chasquid", "Exim")
		}
		rows = append(rows, r)
	}
	return rows
}

// last is the last round of each.
func last(s series) map[string]string {
	m := map[string]string{}
	for who, all := range s {
		if len(all) > 0 {
			m[who] = number(all[len(all)-1])
		}
	}
	return m
}

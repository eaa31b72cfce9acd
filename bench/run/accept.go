package main

import (
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/bench/load"
)

const (
	acceptMessages = 200_000
	acceptSessions = 100
	// held is a route that keeps mail back.
	held = "route \"*\" { via = \"hold\" }\n"
)

func acceptSource(addr string, n int) load.Source {
	return load.Source{Server: addr, Messages: n, Sessions: acceptSessions, From: "s@bench.example", To: "r%d@d%d.example", Spread: 1000, Reuse: true, Pipeline: true}
}

// accept measures how fast mail becomes durable, with no delivery beside it.
func accept(b *bench) ([]row, error) {
	rates, cpus := series{}, series{}
	for range b.rounds {
		h1, err := b.hop(acceptSource("", b.n(acceptMessages)/4))
		if err != nil {
			return nil, err
		}
		rates.add(hop1, h1)
		if err := b.acceptRound(rates, cpus); err != nil {
			return nil, err
		}
	}
	r := rowOf("accept only, 4 KiB, 100 sessions, pipelined, held", "messages/s", rates, ours, hop1)
	r.Checks = append(r.Checks, atLeast("# of h1", rates.ratios(ours, hop1).Median, 0.5))
	return []row{r, rowOf("CPU per 1,000 accepted", "s", cpus, ours)}, nil
}

func (b *bench) acceptRound(rates, cpus series) error {
	i, err := startPostrider(b, mode{extra: held})
	if err != nil {
		return err
	}
	defer i.end()
	if _, err := b.send(acceptSource(i.addr, b.n(acceptMessages)/50)); err != nil {
		return err // before it counts
	}
	cpu := i.cpu()
	s := acceptSource(i.addr, b.n(acceptMessages))
	s.Sent = new(atomic.Int64)
	b.watch(s.Sent, len(rates[ours]) == 0, queuePicture, func() error {
		t, sendErr := b.send(s)
		err = sendErr
		rates.add(ours, t.Rate())
		return nil
	})
	if err != nil {
		return err
	}
	i.quiet(2 * time.Second)
	cpus.add(ours, (i.cpu()-cpu)/float64(s.Messages)*1000)
	return nil
}

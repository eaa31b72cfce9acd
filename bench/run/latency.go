package main

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/postrider/postrider/bench/load"
)

const (
	latencyMessages = 9_000
	latencyTime     = 5 * time.Second
	latencyHop      = 2 * time.Second
	probePause      = 5 * time.Millisecond
	probeMargin     = 2 // ms that the reply may take beside three syncs
)

// latency measures how long the 250 takes in an open loop at half of the highest
// rate, beside a lone append and sync on the same disk at the same time. What the
// source measures straight to the sink, which keeps nothing, is the least that it
// could measure of any server on this machine.
func latency(b *bench) ([]row, error) {
	all, limits := series{}, series{}
	h, err := b.sink(settings{})
	if err != nil {
		return nil, err
	}
	defer h.stop()
	for range b.rounds {
		if err := b.latencyRound(h, all, limits); err != nil {
			return nil, err
		}
	}
	rate := rowOf("highest rate, relayed, 100 sessions, reused", "messages/s", all, ours)
	p99 := row{Work: "p99 of the 250, open loop at half of it", Unit: "ms", Order: []string{ours, "append and sync", hop1},
		Figures: map[string]spread{ours: all.of("p99"), "append and sync": all.of("probe"), hop1: all.of("hop")}}
	limit := limits.of("limit").Median
	c := atMost("at most 3 x append and sync + 2 ms: "+number(limit), all.of("p99").Median, limit)
	p99.Checks = append(p99.Checks, c)
	p50 := row{Work: "p50 of the same", Unit: "ms", Order: []string{ours}, Figures: map[string]spread{ours: all.of("p50")}}
	return []row{rate, p99, p50}, nil
}

func (b *bench) latencyRound(h *hole, all, limits series) error {
	i, err := startPostrider(b, mode{next: h.addr})
	if err != nil {
		return err
	}
	defer i.end()
	fast := cell{100, true}.source(i.addr, b.n(latencyMessages), 4096)
	if _, err := b.through(i, h, cell{100, true}.source(i.addr, b.n(latencyMessages)/10, 4096)); err != nil {
		return err
	}
	got, err := b.through(i, h, fast)
	if err != nil {
		return err
	}
	all.add(ours, got.rate)
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	var probe load.Histogram
	var probing sync.WaitGroup
	var probeErr error
	probing.Go(func() { probeErr = appendAndSync(ctx, filepath.Join(b.root, "append"), &probe) })
	fast.Messages, fast.Rate, fast.For = 0, got.rate/2, latencyTime
	t, err := b.send(fast)
	cancel()
	probing.Wait()
	if err == nil {
		err = probeErr
	}
	if err != nil {
		return err
	}
	sync99 := probe.Quantile(0.99)
	all.add("p99", t.P99)
	all.add("p50", t.P50)
	all.add("probe", sync99)
	limits.add("limit", 3*sync99+probeMargin)
	fast.Server, fast.For = h.addr, latencyHop
	if t, err = b.send(fast); err != nil {
		return err
	}
	all.add("hop", t.P99)
	return nil
}

// appendAndSync measures a lone writer that appends 4 KiB and syncs, until ctx
// ends.
func appendAndSync(ctx context.Context, name string, times *load.Histogram) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(name)
	page := make([]byte, 4096)
	for ctx.Err() == nil {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return err
		}
		if err := dataSync(f); err != nil {
			return err
		}
		times.Add(time.Since(began))
		time.Sleep(probePause)
	}
	return nil
}

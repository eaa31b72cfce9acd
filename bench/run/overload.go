package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/postrider/postrider/bench/load"
)

const overloadMessages = 2_000

// overload sends faster than a sink takes which also misbehaves: all that was
// accepted must arrive.
func overload(b *bench) ([]row, error) {
	var rows []row
	for _, k := range []struct {
		what string
		sink settings
	}{
		{"reads 40 KiB/s on a connection", settings{Slow: 40 << 10}},
		{"resets 20 % of messages in their middle", settings{Reset: 0.2}},
		{"takes 20 % of messages and resets instead of a reply", settings{Lost: 0.2}},
		{"falls silent for 1 s in the middle of 5 % of messages", settings{Silent: 0.05, Silence: time.Second}},
		{"refuses 30 % of messages with 451", settings{Refuse: 0.3}},
	} {
		n := b.n(overloadMessages)
		k.sink.Track = n
		lost, extra, err := b.overloaded(k.sink, n)
		if err != nil {
			return rows, fmt.Errorf("a sink that %s: %w", k.what, err)
		}
		r := row{Work: "a sink that " + k.what + ": accepted and not arrived", Unit: "messages of " + number(float64(n)), Order: []string{ours, "arrived twice:"},
			Figures: map[string]spread{ours: spreadOf([]float64{lost}), "arrived twice:": spreadOf([]float64{extra})}}
		r.Checks = append(r.Checks, atMost("#", lost, 0))
		rows = append(rows, r)
	}
	return rows, nil
}

// overloaded returns how many messages were accepted and have not come, and how
// many came more than once.
func (b *bench) overloaded(s settings, n int) (lost, extra float64, err error) {
	h, err := b.sink(s)
	if err != nil {
		return 0, 0, err
	}
	defer h.stop()
	i, err := startPostrider(b, mode{next: h.addr, extra: "queue {\n  retry = [\"1s\"]\n  delay_notice = \"0s\"\n}\n"})
	if err != nil {
		return 0, 0, err
	}
	defer i.end()
	src := load.Source{Server: i.addr, Messages: n, Sessions: 100, From: "s%d@bench.example", To: "r@sink.example", Reuse: true, Pipeline: true}
	t, err := src.Run(b.ctx)
	if err != nil {
		return 0, 0, err
	}
	var now counts
	last, since := counts{}, time.Now()
	// What goes twice comes a moment after all else.
	for wait := 2 * patience; time.Since(since) < wait && b.ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if now, err = h.counts(); err != nil {
			return 0, 0, err
		}
		if now.Arrived != last.Arrived {
			last, since = now, time.Now()
		}
		if now.Unique >= t.Messages {
			wait = 2 * settleTime
		}
	}
	left, err := b.cli(i, "queue", "ls", "--json")
	if err == nil && left != "" {
		err = fmt.Errorf("the queue still holds:\n%.500s", left)
	}
	return float64(max(0, t.Messages-now.Unique)), float64(int(now.Arrived) - now.Unique), errors.Join(err, b.ctx.Err())
}

package main

import (
	"fmt"
	"time"
)

const (
	waitingLong  = 500_000
	waitingShort = 20_000
	slowLatency  = 10 * time.Second
	slowMessages = 200
)

// destinations has one destination with very much mail that goes slowly, one that
// takes ten seconds for each message, and the rest, which must not feel it.
func destinations(b *bench) ([]row, error) {
	rates := series{}
	waiting := b.n(waitingShort)
	if b.long {
		waiting = b.n(waitingLong)
	}
	for range roundsFew(b) {
		if err := b.destinationsRound(rates, waiting); err != nil {
			return nil, err
		}
	}
	r := rowOf("the rest beside a destination with "+number(float64(waiting))+" waiting and one that takes 10 s", "messages/s", rates, ours, "alone")
	r.Checks = append(r.Checks, atLeast("# of its rate alone", rates.ratios(ours, "alone").Median, 0.95))
	return []row{r}, nil
}

func (b *bench) destinationsRound(rates series, waiting int) error {
	var at [3]*hole
	for k, s := range []settings{{}, {Latency: time.Second}, {Latency: slowLatency}} {
		h, err := b.sink(s)
		if err != nil {
			return err
		}
		defer h.stop()
		at[k] = h
	}
	extra := ""
	for k, domain := range []string{"full.example", "slow.example"} {
		extra += fmt.Sprintf("route %q {\n  via = \"smtp://%s\"\n  tls = \"none\"\n}\n", domain, at[k+1].addr)
	}
	i, err := startPostrider(b, mode{next: at[0].addr, extra: extra})
	if err != nil {
		return err
	}
	defer i.kill() // it would wait for what the slow ones have
	send := func(n int, to string) (float64, error) {
		s := cell{50, true}.source(i.addr, n, 4096)
		s.To, s.Domains = to, 100
		was, err := at[0].counts()
		if err != nil {
			return 0, err
		}
		began := time.Now()
		t, err := b.send(s)
		if err == nil && to == healthy {
			err = at[0].until(b.ctx, was.Arrived+int64(t.Messages))
		}
		return float64(t.Messages) / time.Since(began).Seconds(), err
	}
	n := b.n(otherMessages / 2)
	if _, err := send(n/10, healthy); err != nil { // before it counts
		return err
	}
	alone, err := send(n, healthy)
	if err != nil {
		return err
	}
	for to, n := range map[string]int{"r%d@full.example": waiting, "r%d@slow.example": slowMessages} {
		if _, err := send(n, to); err != nil {
			return err
		}
	}
	beside, err := send(n, healthy)
	if err != nil {
		return err
	}
	rates.add("alone", alone)
	rates.add(ours, beside)
	return nil
}

// healthy is the rest: a hundred domains that one host takes mail for.
const healthy = "r%d@d%d.example"

package main

import (
	"time"

	"github.com/postrider/postrider/bench/load"
)

const (
	fanRcpts   = 100_000
	fanDomains = 10_000
	fanSize    = 1 << 20
)

// fanout sends one message to a hundred thousand recipients.
func fanout(b *bench) ([]row, error) {
	took, memory, log := series{}, series{}, series{}
	rcpts := b.n(fanRcpts)
	for range roundsFew(b) {
		i, err := startPostrider(b, mode{extra: "# RECIPIENTS\n" + held})
		if err != nil {
			return nil, err
		}
		if _, err := b.send(load.Source{Server: i.addr, Messages: 1, From: "s@bench.example", To: "w@d%d.example"}); err != nil {
			i.end()
			return nil, err
		}
		time.Sleep(settleTime)
		wasMemory, wasLog := i.pss(), i.logSize()
		began := time.Now()
		_, err = b.send(load.Source{Server: i.addr, Messages: 1, Rcpts: rcpts, Size: fanSize, From: "s@bench.example", To: "r%d@d%d.example", Domains: fanDomains, Pipeline: true})
		took.add(ours, time.Since(began).Seconds())
		if err == nil {
			time.Sleep(settleTime)
			memory.add(ours, (i.pss()-wasMemory)*(1<<20)/float64(rcpts))
			log.add(ours, float64(i.logSize()-wasLog-fanSize)/float64(rcpts))
		}
		i.end()
		if err != nil {
			return nil, err
		}
	}
	r := rowOf("one message of 1 MiB to "+number(float64(rcpts))+" recipients in 10,000 domains, accepted", "s", took, ours)
	r.Checks = append(r.Checks, atMost("#", r.Figures[ours].Median, 5))
	return []row{r, rowOf("the memory that it takes", "octets a recipient", memory, ours),
		rowOf("what the log grows by beside the content", "octets a recipient", log, ours)}, nil
}

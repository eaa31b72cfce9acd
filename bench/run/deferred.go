package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/bench/load"
)

// What is deferred, in "make bench-long" and otherwise.
const (
	deferredLong    = 1_000_000
	deferredShort   = 40_000
	deferredDomains = 10_000
	otherMessages   = 20_000
	deadPort        = 2599 // of hosts that refuse, and of black holes
)

// deferredCase is a server with mail for hosts that are dead, and its traffic
// beside.
type deferredCase struct {
	*bench
	i       *instance
	h       *hole
	n       int // messages for dead hosts
	domains int
}

// deferred measures what a queue of dead destinations costs: what is accepted, the
// traffic beside, memory, commands, and starts.
func deferred(b *bench) ([]row, error) {
	c := &deferredCase{bench: b, n: b.n(deferredShort), domains: deferredDomains / 10}
	if b.long {
		c.n, c.domains = b.n(deferredLong), deferredDomains
	}
	if need := c.domains + 5_000; files(uint64(need)) < need {
		return nil, fmt.Errorf("%d files must be open at a time: raise ulimit -n", need)
	}
	if err := c.start(); err != nil {
		return nil, err
	}
	defer c.h.stop()
	defer func() {
		c.i.kill() // a stop waits for the attempts at black holes
		c.i.end()
	}()
	var rows []row
	for _, part := range []func() ([]row, error){c.fill, c.commands, c.starts} {
		got, err := part()
		rows = append(rows, got...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func (c *deferredCase) start() error {
	names, err := c.nameServer(freeIP()+":0", deadZone(c.domains))
	if err != nil {
		return err
	}
	if err := c.blackHoles(c.domains/2, deadPort); err != nil {
		return fmt.Errorf("black holes: %w", err)
	}
	if c.h, err = c.sink(settings{}); err != nil {
		return err
	}
	extra := fmt.Sprintf("dns { servers = [%q] }\n", names)
	for _, domain := range []string{deadDomain, holeDomain} {
		extra += fmt.Sprintf("route \".%s\" {\n  via = \"mx\"\n  port = %d\n  private = true\n  tls = \"none\"\n}\n", domain, deadPort)
	}
	extra += "queue {\n  max_recipients = 3000000\n  delay_notice = \"0s\"\n}\n"
	c.i, err = startPostrider(c.bench, mode{next: c.h.addr, extra: extra})
	return err
}

// dead is the source of mail for dead hosts: half of it to hosts that refuse.
func (c *deferredCase) dead(n int, sent *atomic.Int64) (load.Tally, error) {
	var sums [2]load.Tally
	var errs [2]error
	done := make(chan struct{})
	began := time.Now()
	for k, domain := range []string{deadDomain, holeDomain} {
		s := load.Source{Server: c.i.addr, Messages: n / 2, Sessions: 25, From: "s@bench.example", To: "r%d@d%d." + domain,
			Domains: c.domains / 2, Reuse: true, Pipeline: true, Sent: sent}
		go func() {
			sums[k], errs[k] = s.Run(c.ctx)
			done <- struct{}{}
		}()
	}
	<-done
	<-done
	t := load.Tally{Messages: sums[0].Messages + sums[1].Messages, Errors: sums[0].Errors + sums[1].Errors, Seconds: time.Since(began).Seconds()}
	return t, errors.Join(errs[0], errs[1])
}

// other is the traffic that goes well: how fast it is through.
func (c *deferredCase) other() (float64, error) {
	s := cell{50, true}.source(c.i.addr, c.bench.n(otherMessages), 4096)
	s.To = "r@healthy.example"
	was, err := c.h.counts()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	t, err := c.send(s)
	if err != nil {
		return 0, err
	}
	if err := c.h.until(c.ctx, was.Arrived+int64(t.Messages)); err != nil {
		return 0, err
	}
	return float64(t.Messages) / time.Since(began).Seconds(), nil
}

// fill accepts all, and looks at what that did.
func (c *deferredCase) fill() ([]row, error) {
	if _, err := c.other(); err != nil { // before it counts
		return nil, err
	}
	alone, err := c.other()
	if err != nil {
		return nil, err
	}
	time.Sleep(settleTime)
	was := c.i.pss()
	first, err := c.dead(max(2, c.n/20), nil)
	if err != nil {
		return nil, err
	}
	sent := new(atomic.Int64)
	var rest load.Tally
	c.watch(sent, true, deadPicture, func() error {
		rest, err = c.dead(c.n-c.n/20, sent)
		return nil
	})
	if err != nil {
		return nil, err
	}
	beside, err := c.other()
	if err != nil {
		return nil, err
	}
	time.Sleep(5 * settleTime)
	octets := (c.i.pss() - was) * (1 << 20) / float64(first.Messages+rest.Messages)
	one := func(work, unit string, v float64, checks ...check) row {
		return row{Work: work, Unit: unit, Order: []string{ours}, Figures: map[string]spread{ours: spreadOf([]float64{v})}, Checks: checks}
	}
	what := fmt.Sprintf("%s messages for %s dead domains, half black holes: ", number(float64(c.n)), number(float64(c.domains)))
	memory := one(what+"memory", "octets a recipient", octets)
	if c.long { // a destination takes some as well, and here it has few recipients
		memory.Checks = append(memory.Checks, atMost("#", octets, 350))
	}
	return []row{
		one(what+"accepted", "messages/s", rest.Rate(), atLeast("# of the rate with an empty queue, "+number(first.Rate()), rest.Rate()/first.Rate(), 0.8)),
		one(what+"other traffic beside", "messages/s", beside, atLeast("# of its rate alone, "+number(alone), beside/alone, 0.9)),
		memory,
	}, nil
}

// commands times those of the queue.
func (c *deferredCase) commands() ([]row, error) {
	stat, ls := series{}, series{}
	for k := range 5 {
		began := time.Now()
		if _, err := c.cli(c.i, "queue", "stat"); err != nil {
			return nil, err
		}
		stat.add(ours, time.Since(began).Seconds())
		began = time.Now()
		if _, err := c.cli(c.i, "queue", "ls", "--domain", fmt.Sprintf("d%d.%s", k, deadDomain)); err != nil {
			return nil, err
		}
		ls.add(ours, time.Since(began).Seconds())
	}
	what := number(float64(c.n)) + " deferred: "
	rows := []row{rowOf(what+"queue stat", "s", stat, ours), rowOf(what+"queue ls --domain of one of them", "s", ls, ours)}
	for k, most := range []float64{0.2, 1} {
		rows[k].Checks = append(rows[k].Checks, atMost("#", rows[k].Figures[ours].Median, most))
	}
	return rows, nil
}

// starts stops the server, in good order and otherwise, and starts it again.
func (c *deferredCase) starts() (rows []row, err error) {
	for _, way := range []struct {
		name string
		stop func()
	}{{"clean stop", func() { c.i.stop() }}, {"kill -9", func() { c.i.kill() }}} {
		greeted, scheduled := series{}, series{}
		for range min(3, roundsFew(c.bench)) {
			way.stop()
			began := time.Now()
			if err := c.serve(c.i); err != nil {
				return rows, err
			}
			greeted.add(ours, time.Since(began).Seconds())
			// Nothing is attempted before all is scheduled.
			was, err := c.h.counts()
			if err != nil {
				return rows, err
			}
			probe := load.Source{Server: c.i.addr, Messages: 1, From: "s@bench.example", To: "r@healthy.example"}
			if _, err := c.send(probe); err != nil {
				return rows, err
			}
			if err := c.h.until(c.ctx, was.Arrived+1); err != nil {
				return rows, err
			}
			scheduled.add(ours, time.Since(began).Seconds())
		}
		what := fmt.Sprintf("start with %s deferred after a %s: ", number(float64(c.n)), way.name)
		a, b := rowOf(what+"220", "s", greeted, ours), rowOf(what+"all scheduled", "s", scheduled, ours)
		a.Checks = append(a.Checks, atMost("#", a.Figures[ours].Median, 5))
		b.Checks = append(b.Checks, atMost("#", b.Figures[ours].Median, 15))
		rows = append(rows, a, b)
	}
	return rows, nil
}

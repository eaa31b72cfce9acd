package main

import (
	"fmt"
	"time"

	"github.com/postrider/postrider/bench/load"
)

const (
	localMessages = 5_000
	localBoxes    = 100
	lookTime      = 200 * time.Millisecond // to count ten thousand names costs more than to deliver ten
)

var localCells = []cell{{20, true}, {100, true}}

// local measures delivery into Maildirs.
func local(b *bench) ([]row, error) {
	rates, cpus := map[cell]series{}, map[cell]series{}
	for _, c := range localCells {
		rates[c], cpus[c] = series{}, series{}
	}
	for range b.rounds {
		if err := b.each(func(w contender) error { return b.localRound(w, rates, cpus) }); err != nil {
			return nil, err
		}
	}
	var rows []row
	for _, c := range localCells {
		r := rowOf("local delivery to 100 Maildirs, 4 KiB, "+c.String(), "messages/s", rates[c], ours, "Postfix", "Exim")
		r.beside(rates[c], "# x Postfix", 5, "Postfix")
		rows = append(rows, r, rowOf("CPU per 1,000 delivered, "+c.String(), "s", cpus[c], ours, "Postfix", "Exim"))
	}
	return rows, nil
}

func (b *bench) localRound(w contender, rates, cpus map[cell]series) error {
	i, err := w.start(b, mode{boxes: localBoxes})
	if err != nil {
		return err
	}
	// The files stay until all is measured: ext4 gives nobody the inode of a file that was
	// removed in the last minute (five, while that is not on the disk), and looks at each
	// such inode for each file that is created. After ten thousand of them a delivery
	// costs two to three times the CPU.
	defer i.stop()
	n := max(localBoxes, int(float64(b.n(localMessages))*w.part))
	if _, _, err := b.deliver(i, localCells[0], localBoxes); err != nil { // each Maildir is made
		return err
	}
	for _, c := range localCells {
		if c.sessions > 20 && w.name == "Exim" {
			continue // as in relayRound
		}
		rate, cpu, err := b.deliver(i, c, n)
		if err != nil {
			return err
		}
		rates[c].add(w.name, rate)
		cpus[c].add(w.name, cpu)
	}
	return nil
}

// deliver sends n messages and waits until all are in their Maildirs.
func (b *bench) deliver(i *instance, c cell, n int) (rate, cpu float64, err error) {
	i.quiet(4 * time.Second)
	base, was, began := i.delivered(localBoxes), i.cpu(), time.Now()
	s := load.Source{Server: i.addr, Messages: n, Sessions: c.sessions, From: "s@bench.example", To: "u%d@" + boxDomain, Spread: localBoxes, Reuse: c.reuse}
	t, err := b.send(s)
	if err != nil {
		return 0, 0, err
	}
	n = t.Messages
	last, since := 0, time.Now()
	for got := 0; ; time.Sleep(lookTime) {
		switch got = i.delivered(localBoxes) - base; {
		case got >= n:
			rate = float64(n) / i.lastDelivered(localBoxes).Sub(began).Seconds()
			i.quiet(2 * time.Second)
			return rate, (i.cpu() - was) / float64(n) * 1000, nil
		case got != last:
			last, since = got, time.Now()
		case time.Since(since) > patience:
			return 0, 0, fmt.Errorf("%d of %d messages are in their Maildirs, and no more in %v", got, n, patience)
		}
		if b.ctx.Err() != nil {
			return 0, 0, b.ctx.Err()
		}
	}
}

package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	memoryMessages = 12_000
	idleConns      = 10_000
	// settleTime is how long a server is left alone before its memory is looked at.
	settleTime = 2 * time.Second
)

// memory measures the memory of servers that do nothing, that are loaded, and
// that have ten thousand connections on which nothing happens.
func memoryScenario(b *bench) ([]row, error) {
	idle, loaded, many := series{}, series{}, series{}
	h, err := b.sink(settings{})
	if err != nil {
		return nil, err
	}
	defer h.stop()
	for range roundsFew(b) {
		err := b.each(func(w contender) error {
			i, err := w.start(b, mode{next: h.addr})
			if err != nil {
				return err
			}
			defer i.end()
			time.Sleep(settleTime)
			idle.add(w.name, i.pss())
			var most float64
			over := make(chan struct{})
			var watch sync.WaitGroup
			watch.Go(func() {
				tick := time.NewTicker(100 * time.Millisecond)
				defer tick.Stop()
				for {
					select {
					case <-over:
						return
					case <-tick.C:
						most = max(most, i.pss())
					}
				}
			})
			_, err = b.through(i, h, cell{100, true}.source(i.addr, max(100, int(float64(b.n(memoryMessages))*w.part)), 4096))
			close(over)
			watch.Wait()
			loaded.add(w.name, most)
			return err
		})
		if err != nil {
			return nil, err
		}
		if err := b.idleRound(many); err != nil {
			return nil, err
		}
	}
	rows := []row{rowOf("memory, idle", "MiB PSS", idle, ours, "Postfix", "Exim"), rowOf("memory, 100 sessions under load", "MiB PSS", loaded, ours, "Postfix", "Exim"),
		rowOf("memory, 10,000 idle connections", "MiB PSS", many, ours)}
	for k, most := range []float64{20, 64, 100} {
		rows[k].Checks = append(rows[k].Checks, atMost("#", rows[k].Figures[ours].Median, most))
	}
	return rows, nil
}

// idleRound opens the connections: fewer where a process may not have so many
// files open, and then what they take is scaled up to all.
func (b *bench) idleRound(many series) error {
	n := min(idleConns, (files(2*idleConns+2000)-1000)/2)
	i, err := startPostrider(b, mode{extra: held, conns: idleConns + 1000})
	if err != nil {
		return err
	}
	defer i.end()
	time.Sleep(settleTime)
	was := i.pss()
	conns, err := hold(i.addr, n)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	if err != nil {
		return err
	}
	time.Sleep(settleTime)
	many.add(ours, was+(i.pss()-was)*idleConns/float64(n))
	return nil
}

// hold opens so many connections, and says EHLO on each.
func hold(addr string, n int) (conns []net.Conn, err error) {
	const atOnce = 20
	var mu sync.Mutex
	var all sync.WaitGroup
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	for range atOnce {
		all.Go(func() {
			for range todo {
				c, openErr := open(addr)
				mu.Lock()
				if openErr != nil {
					err = fmt.Errorf("connection %d of %d: %w", len(conns)+1, n, openErr)
				} else {
					conns = append(conns, c)
				}
				stop := err != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	all.Wait()
	return conns, err
}

// open makes a connection and says EHLO.
func open(addr string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReaderSize(c, 512)
	line, err := r.ReadString('\n')
	if err == nil && strings.HasPrefix(line, "220") {
		_, err = fmt.Fprintf(c, "EHLO bench.example\r\n")
		for err == nil {
			if line, err = r.ReadString('\n'); len(line) > 3 && line[3] == ' ' {
				break
			}
		}
	}
	if err == nil && line[0] != '2' {
		err = fmt.Errorf("the server says %q", line)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, c.SetDeadline(time.Time{})
}

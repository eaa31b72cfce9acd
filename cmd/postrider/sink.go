package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/postrider/postrider/bench/load"
)

type sinkCmd struct {
	Listen   string        `help:"Where to listen." default:"127.0.0.1:2526" placeholder:"ADDRESS"`
	Keep     string        `help:"Keep each message as a file in this folder." placeholder:"DIR"`
	Messages int64         `help:"Stop after so many messages; else with SIGINT or SIGTERM." placeholder:"N"`
	Latency  time.Duration `help:"Wait so long before the reply to a content." placeholder:"100ms"`
	Slow     string        `help:"Read no more than so much of a content in a second, on each connection." placeholder:"SIZE"`
	Refuse   float64       `help:"The share of messages whose recipients hear 451, from 0 to 1." placeholder:"SHARE"`
	Reset    float64       `help:"The share of messages in whose middle the connection is reset." placeholder:"SHARE"`
	Lost     float64       `help:"The share of messages that are taken, and then get no reply: the connection is reset." placeholder:"SHARE"`
	Silent   float64       `help:"The share of messages in whose middle nothing is said or read any more." placeholder:"SHARE"`
	Seed     uint64        `help:"What chance begins with."`
}

// check tells a mistake of the caller.
func (c sinkCmd) check() (slow int64, err error) {
	if c.Messages < 0 {
		return 0, usagef("--messages %d: write a number of messages, or leave it out", c.Messages)
	}
	if c.Latency < 0 {
		return 0, usagef("--latency %v: write how long, such as 100ms", c.Latency)
	}
	sum := 0.0
	for _, share := range []float64{c.Refuse, c.Reset, c.Lost, c.Silent} {
		if !(share >= 0 && share <= 1) {
			return 0, usagef("a share of %g: write a number from 0 to 1, such as 0.05", share)
		}
		sum += share
	}
	if sum > 1 {
		return 0, usagef("--refuse, --reset, --lost and --silent are %g of all messages: make it 1 at most", sum)
	}
	if c.Slow == "" {
		return 0, nil
	}
	return parseSize("--slow", c.Slow)
}

// Run takes all mail until it is told to stop, and then tells what came.
func (c sinkCmd) Run(a *app) error {
	slow, err := c.check()
	if err != nil {
		return err
	}
	if c.Keep != "" {
		if err := os.MkdirAll(c.Keep, 0o700); err != nil {
			return err
		}
	}
	l, err := (&net.ListenConfig{}).Listen(a.ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s (%w): give another address with --listen", c.Listen, err)
	}
	ctx, full := context.WithCancel(a.ctx)
	defer full()
	s := &load.Sink{
		Latency: c.Latency, Slow: int(slow), Refuse: c.Refuse, Reset: c.Reset, Lost: c.Lost, Silent: c.Silent, Seed: c.Seed,
		Limit: c.Messages, Full: full,
	}
	if c.Keep != "" {
		s.Keep = (&kept{dir: c.Keep}).next
	}
	fmt.Fprintf(a.stderr, "postrider: sink listens on %s\n", l.Addr())
	if err := s.Serve(ctx, l); err != nil {
		return err
	}
	return a.printTally(s.Tally())
}

// printTally writes the last line of a source or a sink.
func (a *app) printTally(sum load.Tally) error {
	if a.cli.JSON {
		return a.printJSON(sum)
	}
	a.printf("%d messages, %d octets in %.3f s, %d errors; p50 %.1f ms, p99 %.1f ms\n",
		sum.Messages, sum.Bytes, sum.Seconds, sum.Errors, sum.P50, sum.P99)
	for _, what := range sum.Sorted() {
		a.printf("%8d  %s\n", sum.Replies[what], what)
	}
	return nil
}

// A kept is a folder with a file for each message.
type kept struct {
	dir string

	mu    sync.Mutex
	files int
}

// next makes the file of the next message.
func (k *kept) next() (io.WriteCloser, error) {
	for {
		k.mu.Lock()
		k.files++
		n := k.files
		k.mu.Unlock()
		f, err := os.OpenFile(filepath.Join(k.dir, fmt.Sprintf("%08d.eml", n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			return f, err
		}
	}
}

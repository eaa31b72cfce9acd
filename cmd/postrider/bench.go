package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/bench/load"
	"github.com/postrider/postrider/config"
)

type benchCmd struct {
	Server   string        `help:"The server to load, on this machine." required:"" placeholder:"HOST:PORT"`
	Messages int           `help:"How many messages to send. Else ${default}." default:"1000" placeholder:"N"`
	Size     string        `help:"Octets of a message, header and all. Else ${default}." default:"4KiB" placeholder:"SIZE"`
	Sessions int           `help:"Connections at a time. Else ${default}." default:"20" placeholder:"N"`
	Reuse    bool          `help:"Send many messages over a connection, in place of one."`
	Pipeline bool          `help:"Send MAIL, RCPT and DATA in one group."`
	BDAT     bool          `name:"bdat" help:"Send MAIL, RCPT and the content, with BDAT, in one group."`
	Rate     float64       `help:"Messages a second, whatever the answers; latency then counts from the moment that a message was due. Else each session sends as answers come." placeholder:"N"`
	For      time.Duration `help:"Begin no message after so long." placeholder:"30s"`
	Rcpts    int           `help:"Recipients of each message." default:"1" placeholder:"N"`
	From     string        `help:"The reverse-path. %d is the number of the message. Else ${default}." default:"load@bench.example" placeholder:"ADDRESS"`
	To       string        `help:"The recipient. %d is its number. Else ${default}." default:"load@localhost" placeholder:"ADDRESS"`
	Spread   int           `help:"Count recipients to so many, and then again from 0." placeholder:"N"`
	Domains  int           `help:"The same for the second %d in --to, such as that of r%d@d%d.example." placeholder:"N"`
	Seed     uint64        `help:"What the bodies are made from."`

	NotLoopback bool `name:"yes-not-loopback" help:"Load a server that is not on this machine. Do so to your own ones alone."`
}

// source makes what the flags say, or tells which of them is wrong.
func (c benchCmd) source(a *app) (*load.Source, error) {
	size, err := parseSize("--size", c.Size)
	switch {
	case err != nil:
		return nil, err
	case size < load.SizeMin || size > load.SizeMax:
		return nil, usagef("--size %s: a message has %d octets to %s", c.Size, load.SizeMin, config.FormatSize(load.SizeMax))
	case c.Messages < 1:
		return nil, usagef("--messages %d: send one at least", c.Messages)
	case c.Sessions < 1 || c.Sessions > load.SessionsMax:
		return nil, usagef("--sessions %d: write a number from 1 to %d", c.Sessions, load.SessionsMax)
	case c.Rcpts < 1 || c.Rcpts > load.RcptsMax:
		return nil, usagef("--rcpts %d: write a number from 1 to %d", c.Rcpts, load.RcptsMax)
	case c.Rate < 0 || c.For < 0 || c.Spread < 0 || c.Domains < 0:
		return nil, usagef("--rate, --for, --spread and --domains are not negative: leave out what is not wanted")
	case c.To == "" || strings.ContainsAny(c.To+c.From, "<>\r\n"):
		return nil, usagef("--from %q, --to %q: write addresses without < and >", c.From, c.To)
	}
	if !c.NotLoopback {
		if err := load.Loopback(a.ctx, c.Server); err != nil {
			return nil, usagef("--server: %w; a server of your own elsewhere wants --yes-not-loopback", err)
		}
	}
	return &load.Source{
		Server: c.Server, Messages: c.Messages, Sessions: c.Sessions, Size: size, Rcpts: c.Rcpts, From: c.From, To: c.To, Spread: c.Spread, Domains: c.Domains,
		Reuse: c.Reuse, Pipeline: c.Pipeline, Chunk: c.BDAT, Rate: c.Rate, For: c.For, Seed: c.Seed, Sent: new(atomic.Int64),
	}, nil
}

// Run sends the messages and tells what came of them.
func (c benchCmd) Run(a *app) error {
	s, err := c.source(a)
	if err != nil {
		return err
	}
	ctx, over := context.WithCancel(a.ctx)
	var watch sync.WaitGroup
	watch.Go(func() { a.progress(ctx, s) })
	sum, err := s.Run(a.ctx)
	over()
	watch.Wait()
	if sum.Messages+sum.Errors > 0 {
		if printErr := a.printTally(sum); err == nil {
			err = printErr
		}
	}
	switch {
	case errors.As(err, new(*net.OpError)):
		return fmt.Errorf("%w: is the server at %s up, and does it take mail for %s?", err, c.Server, c.To)
	case err != nil:
		return err
	case sum.Errors > 0:
		return fmt.Errorf("%d of %d messages were not taken, most often: %s", sum.Errors, sum.Errors+sum.Messages, sum.Worst())
	}
	return nil
}

// progressEvery is how often a long command says how far it is.
const progressEvery = 5 * time.Second

// progress tells how far the source is, on standard error.
func (a *app) progress(ctx context.Context, s *load.Source) {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fmt.Fprintf(a.stderr, "postrider: %d of %d messages were taken\n", s.Sent.Load(), s.Messages)
		}
	}
}

// parseSize reads the size that a flag says.
func parseSize(flag, text string) (int64, error) {
	n, err := config.ParseSize(text)
	if err != nil {
		return 0, usagef("%s %s: %w", flag, text, err)
	}
	return n, nil
}

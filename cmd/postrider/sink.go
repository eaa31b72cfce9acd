package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

type sinkCmd struct {
	Listen   string `help:"Where to listen." default:"127.0.0.1:2526" placeholder:"ADDRESS"`
	Keep     string `help:"Keep each message as a file in this folder." placeholder:"DIR"`
	Messages int    `help:"Stop after so many messages; else with SIGINT or SIGTERM." placeholder:"N"`
}

// sinkDrain is how long connections may go on when the sink stops.
const sinkDrain = 10 * time.Second

// Run takes all mail until it is told to stop, and then tells what came.
func (c sinkCmd) Run(a *app) error {
	if c.Messages < 0 {
		return usagef("--messages %d: write a number of messages, or leave it out", c.Messages)
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
	s := &sink{keep: c.Keep, limit: c.Messages, full: make(chan struct{})}
	server := &smtpd.Server{Handler: s, Hostname: "sink.invalid", MaxConns: 10_000, MaxRcpts: 10_000,
		Exempt: func(netip.Addr) bool { return true }, Alarm: func(error) { s.failed() }}
	fmt.Fprintf(a.stderr, "postrider: sink listens on %s\n", l.Addr())
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.WithoutCancel(a.ctx), l) }()
	select {
	case <-a.ctx.Done():
	case <-s.full:
	case err := <-served:
		return fmt.Errorf("sink: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), sinkDrain)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		s.failed()
	}
	<-served
	sum := s.tally()
	if a.cli.JSON {
		return a.printJSON(sum)
	}
	a.printf("%d messages, %d octets in %.3f s, %d errors; p50 %.1f ms, p99 %.1f ms\n",
		sum.Messages, sum.Bytes, sum.Seconds, sum.Errors, sum.P50, sum.P99)
	return nil
}

// A tally is the last line of a sink.
type tally struct {
	Messages int     `json:"messages"`
	Bytes    int64   `json:"bytes"`   // octets of content, as received
	Seconds  float64 `json:"seconds"` // from the first DATA to the last reply
	Errors   int     `json:"errors"`  // messages that were not taken
	P50      float64 `json:"p50_ms"`  // from DATA to the reply
	P99      float64 `json:"p99_ms"`
}

// A sink is an smtpd.Handler that takes everything.
type sink struct {
	keep  string
	limit int           // messages; 0: none
	full  chan struct{} // closed at the limit

	mu    sync.Mutex
	sum   tally
	first time.Time
	last  time.Time
	times histogram
	files int
}

func (s *sink) Open(context.Context, smtpd.Client) (smtpd.Session, smtp.Reply) {
	return sinkSession{s}, smtp.OK
}

func (s *sink) failed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.Errors++
}

// took counts a message that came whole.
func (s *sink) took(octets int64, began, ended time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.IsZero() || began.Before(s.first) {
		s.first = began
	}
	if ended.After(s.last) {
		s.last = ended
	}
	s.sum.Messages++
	s.sum.Bytes += octets
	s.times.add(ended.Sub(began))
	if s.sum.Messages == s.limit {
		close(s.full)
	}
}

func (s *sink) tally() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.sum
	sum.Seconds = s.last.Sub(s.first).Seconds()
	sum.P50, sum.P99 = s.times.quantile(0.50), s.times.quantile(0.99)
	return sum
}

// file makes the file of the next message.
func (s *sink) file() (io.WriteCloser, error) {
	if s.keep == "" {
		return discard{}, nil
	}
	for {
		s.mu.Lock()
		s.files++
		n := s.files
		s.mu.Unlock()
		f, err := os.OpenFile(filepath.Join(s.keep, fmt.Sprintf("%08d.eml", n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			return f, err
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

type sinkSession struct{ s *sink }

func (sinkSession) Hello(context.Context, string, bool) smtp.Reply              { return smtp.OK }
func (sinkSession) Mail(context.Context, smtp.Path, smtp.MailParams) smtp.Reply { return smtp.OK }
func (sinkSession) Rcpt(context.Context, smtp.Path, smtp.RcptParams) smtp.Reply { return smtp.OK }
func (sinkSession) Reset()                                                      {}
func (sinkSession) Close()                                                      {}

func (c sinkSession) Data(_ context.Context, content io.Reader) []smtp.Reply {
	return []smtp.Reply{c.take(content)}
}

func (c sinkSession) take(content io.Reader) smtp.Reply {
	began := time.Now()
	f, err := c.s.file()
	if err != nil {
		c.s.failed()
		return smtp.Reply{}
	}
	n, err := io.Copy(f, content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		c.s.failed()
		return smtp.Reply{}
	}
	c.s.took(n, began, time.Now())
	return smtp.OK
}

// A histogram counts durations in buckets that grow by a twentieth, so that any
// number of them takes the same memory.
type histogram struct {
	counts [512]int
	n      int
}

const histogramStep = 1.05

func (h *histogram) add(d time.Duration) {
	i := int(math.Log(max(1, float64(d.Microseconds()))) / math.Log(histogramStep))
	h.counts[min(i, len(h.counts)-1)]++
	h.n++
}

// quantile returns the duration that a share q of all stays below, in
// milliseconds; 0 when there are none.
func (h *histogram) quantile(q float64) float64 {
	rank := int(math.Ceil(q * float64(h.n)))
	for i, n := range h.counts {
		if rank -= n; n > 0 && rank <= 0 {
			return math.Round(math.Pow(histogramStep, float64(i+1))) / 1000
		}
	}
	return 0
}

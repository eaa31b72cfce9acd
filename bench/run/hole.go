package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/bench/load"
)

// sinkArg makes this program a sink: "run sink SETTINGS". Source and sink in one
// process would share what one may use of the machine.
const sinkArg = "sink"

// Settings are those of load.Sink.
type settings struct {
	Addr    string // where it listens
	Latency time.Duration
	Slow    int
	Refuse  float64
	Reset   float64
	Lost    float64
	Silent  float64
	Silence time.Duration
	Track   int
}

// Counts are what a sink answers to a line.
type counts struct {
	Arrived, Conns int64
	Peak, Unique   int
}

// anew is the line after which Peak counts from now on.
const anew = "anew"

// serveSink prints where it listens, and then for each line on standard input what
// it has, until that ends.
func serveSink(text string) error {
	var o settings
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return err
	}
	s := &load.Sink{Latency: o.Latency, Slow: o.Slow, Refuse: o.Refuse, Reset: o.Reset, Lost: o.Lost, Silent: o.Silent, Silence: o.Silence, Track: o.Track}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	fmt.Println(l.Addr())
	out := json.NewEncoder(os.Stdout)
	peak := 0
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		peak = max(peak, s.Peak())
		if in.Text() == anew {
			peak = s.Peak() // those that are open
		}
		if err := out.Encode(counts{s.Arrived(), s.Conns(), peak, s.Unique()}); err != nil {
			break
		}
	}
	cancel()
	return <-served
}

// A hole is a sink at work.
type hole struct {
	addr string
	cmd  *exec.Cmd
	stop func()

	mu  sync.Mutex
	in  io.WriteCloser
	out *bufio.Reader
}

// sink starts a sink, at a free address.
func (b *bench) sink(o settings) (*hole, error) {
	o.Addr = freeIP() + ":0"
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	h := &hole{cmd: exec.Command(self, sinkArg, string(text))}
	h.cmd.Stderr = os.Stderr
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.out = bufio.NewReader(out)
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	h.stop = sync.OnceFunc(func() {
		_ = h.in.Close() // the end, for the process
		_ = h.cmd.Wait()
	})
	b.stops = append(b.stops, h.stop)
	line, err := h.out.ReadString('\n')
	if err != nil {
		h.stop()
		return nil, fmt.Errorf("the sink does not start: %w", err)
	}
	h.addr = strings.TrimSpace(line)
	return h, nil
}

// counts asks the sink.
func (h *hole) counts() (counts, error) { return h.ask("") }

func (h *hole) ask(line string) (c counts, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err = io.WriteString(h.in, line+"\n"); err != nil {
		return c, fmt.Errorf("the sink has ended: %w", err)
	}
	said, err := h.out.ReadBytes('\n')
	if err != nil {
		return c, fmt.Errorf("the sink has ended: %w", err)
	}
	return c, json.Unmarshal(said, &c)
}

// until waits until so many messages have arrived in all. It gives up when none
// has come for a while.
func (h *hole) until(ctx context.Context, want int64) error {
	last, since := int64(-1), time.Now()
	for {
		now, err := h.counts()
		switch {
		case err != nil:
			return err
		case now.Arrived >= want:
			return nil
		case now.Arrived != last:
			last, since = now.Arrived, time.Now()
		case time.Since(since) > patience:
			return fmt.Errorf("%d of %d messages have come, and no more in %v", last, want, patience)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

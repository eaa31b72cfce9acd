package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
)

// piped is a listener of connections within a bubble.
type piped struct {
	conns chan net.Conn
	over  chan struct{}
	once  sync.Once
}

func (p *piped) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.over:
		return nil, net.ErrClosed
	}
}

func (p *piped) Close() error   { p.once.Do(func() { close(p.over) }); return nil }
func (p *piped) Addr() net.Addr { return &net.UnixAddr{Name: "piped", Net: "unix"} }

// overWire serves the control socket with the times that it has, and returns a client
// of it.
func overWire(t *testing.T, o Options) Client { return wired(t, Control(o)) }

// wired serves h as the control socket is served.
func wired(t *testing.T, h http.Handler) Client {
	l := &piped{conns: make(chan net.Conn), over: make(chan struct{})}
	s := NewServer(h)
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Serve(l)
	}()
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		return ours, nil
	}}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		s.Close()
		<-served
	})
	return Client{tr}
}

// slowShelf is a shelf whose disk is slow.
type slowShelf struct {
	*shelf
	scan, commit time.Duration // for a message, and for a batch
}

func (s *slowShelf) Scan(ctx context.Context) iter.Seq2[*postrider.Message, error] {
	return func(yield func(*postrider.Message, error) bool) {
		for m, err := range s.shelf.Scan(ctx) {
			if time.Sleep(s.scan); !yield(m, err) {
				return
			}
		}
	}
}

func (s *slowShelf) Commit(ctx context.Context, b postrider.Batch) error {
	time.Sleep(s.commit)
	return s.shelf.Commit(ctx, b)
}

// many are messages that wait for one domain.
func many(n int) *shelf {
	s := &shelf{}
	for i := range n {
		s.messages = append(s.messages, &postrider.Message{ID: postrider.ID(fmt.Sprintf("m%04d", i)), Arrived: now,
			Recipients: []postrider.Recipient{{To: path("u@far.example"), Due: now}}})
	}
	return s
}

// countLines counts the lines of an answer that ends well.
func countLines[T any](t *testing.T, all iter.Seq2[T, error]) (n int) {
	t.Helper()
	for _, err := range all {
		if err != nil {
			t.Errorf("after %d lines: %v", n, err)
			return n
		}
		n++
	}
	return n
}

// An answer that takes long, at its beginning, in its middle or at its end, comes to
// who waits for it.
func TestLongAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowShelf{many(2*orderBatch + 7), 0, writeTime / 2}
		o := options(s.shelf)
		o.Spool = s
		var hurried []postrider.Dest
		o.Hurry = func(_ context.Context, dests []postrider.Dest) error {
			hurried = dests
			return nil
		}
		o.Reload = func(context.Context) ([]string, error) {
			time.Sleep(2 * writeTime)
			return nil, nil
		}
		c := overWire(t, o)
		if n := countLines(t, c.Do(t.Context(), Order{Verb: VerbRetry})); n != len(s.messages) || len(s.amended) != n || len(hurried) != 1 {
			t.Errorf("%d told, %d retried, hurried %q", n, len(s.amended), hurried)
		}
		s.messages, s.scan = s.messages[:8], writeTime/2
		if n := countLines(t, c.Queue(t.Context(), Filter{})); n != 8 {
			t.Errorf("list: %d messages", n)
		}
		if n := countLines(t, c.Queue(t.Context(), Filter{State: StateHeld})); n != 0 {
			t.Errorf("list: %d messages are held", n)
		}
		if n := countLines(t, c.Stat(t.Context(), Filter{State: StateQueued})); n != 1 {
			t.Errorf("stat: %d destinations", n)
		}
		if n := countLines(t, c.Stat(t.Context(), Filter{State: StateHeld})); n != 0 {
			t.Errorf("stat: %d destinations of what is held", n)
		}
		if n := countLines(t, c.Where(t.Context(), "u@far.example", 0)); n != 16 {
			t.Errorf("where: %d steps", n)
		}
		if n := countLines(t, c.Where(t.Context(), "nobody@far.example", 0)); n != 0 {
			t.Errorf("where: %d steps of nobody", n)
		}
		if n := countLines(t, c.Do(t.Context(), Order{Verb: VerbRelease, Filter: Filter{To: "*"}})); n != 0 {
			t.Errorf("%d released", n)
		}
		if _, err := c.Reload(t.Context()); err != nil {
			t.Errorf("reload: %v", err)
		}
		s.scanErr = errors.New("bad sector")
		if err := lastOf(c.Stat(t.Context(), Filter{State: StateHeld})); err == nil || err.Error() != "bad sector" {
			t.Errorf("stat of nothing: %v", err)
		}
	})
}

// lastOf returns the error that an answer ends with.
func lastOf[T any](all iter.Seq2[T, error]) (last error) {
	for _, err := range all {
		last = err
	}
	return last
}

// Who does not read what was done is given up, and what was done is hurried all the same.
func TestWhoDoesNotReadIsGivenUp(t *testing.T) {
	for _, gone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &slowShelf{many(4 * orderBatch), 0, time.Second}
			o := options(s.shelf)
			o.Spool = s
			hurried := make(chan error, 1)
			o.Hurry = func(ctx context.Context, _ []postrider.Dest) error {
				hurried <- ctx.Err()
				return nil
			}
			c := overWire(t, o)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			began := time.Now()
			body, err := c.call(ctx, http.MethodPost, "/api/v1/queue/retry", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			if gone {
				cancel()
			}
			if err := <-hurried; err != nil {
				t.Errorf("hurried too late: %v", err)
			}
			if took := time.Since(began); took < writeTime && !gone || took > 2*writeTime {
				t.Errorf("given up after %v", took)
			}
			if n := len(s.amended); n == 0 || n == len(s.messages) || n%orderBatch != 0 {
				t.Errorf("%d of %d retried", n, len(s.messages))
			}
		})
	}
}

package smtpd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// transaction is a message of 4 KiB to one recipient in the steps of a client that
// waits for each answer; a client that pipelines sends the first three as one.
var transaction = []string{"MAIL FROM:<a@client.example> SIZE=4058\r\n", "RCPT TO:<b@server.example>\r\n", "DATA\r\n",
	"Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 52) + ".\r\n"}

// BenchmarkTransaction is what a message costs the server beside the system: the
// client is a connection in memory that has the next step as soon as the last is
// answered. The reads and writes of the server are counted.
//
//	go test ./smtpd -run - -bench Transaction -benchmem
func BenchmarkTransaction(b *testing.B) {
	group := []string{strings.Join(transaction[:3], ""), transaction[3]}
	for name, steps := range map[string][]string{"pipelined": group, "step by step": transaction} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			c := serveScript(b, b.N, steps)
			b.ReportMetric(float64(c.reads)/float64(b.N), "reads/op")
			b.ReportMetric(float64(c.writes)/float64(b.N), "writes/op")
			b.ReportMetric(float64(c.deadlines)/float64(b.N), "deadlines/op")
		})
	}
}

// A message costs one read and one write for each time that the client waits, few
// deadlines, and the memory that its envelope is made of.
func TestCostOfTransaction(t *testing.T) {
	const n = 2000
	for _, c := range []struct {
		steps  []string
		allocs float64
	}{
		{[]string{strings.Join(transaction[:3], ""), transaction[3]}, 6},
		{transaction, 6},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p := serveScript(t, n, c.steps)
		runtime.ReadMemStats(&after)
		if each := float64(after.Mallocs-before.Mallocs) / n; each > c.allocs {
			t.Errorf("%d steps: %.1f allocations for a message, want at most %.0f", len(c.steps), each, c.allocs)
		}
		if want := n*len(c.steps) + 3; p.reads > want || p.writes > want {
			t.Errorf("%d steps: %d reads and %d writes for %d messages", len(c.steps), p.reads, p.writes, n)
		}
		if p.deadlines > n/2 {
			t.Errorf("%d steps: %d deadlines for %d messages", len(c.steps), p.deadlines, n)
		}
	}
}

// serveScript serves a connection that sends n messages in these steps.
func serveScript(tb testing.TB, n int, steps []string) *scripted {
	c := &scripted{Conn: nil, left: n, steps: steps, say: []byte("EHLO client.example\r\n"), closed: make(chan struct{})}
	l := &oneListener{conn: c, closed: make(chan struct{})}
	s := &Server{Handler: quiet{}, Hostname: "server.example"}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	<-c.closed
	_ = s.Shutdown(context.Background())
	if err := <-served; err != nil || c.left > 0 || c.bad != "" {
		tb.Fatal(err, c.left, c.bad)
	}
	return c
}

// A scripted connection sends the steps of messages, one when it is read from, and
// takes for an answer whatever does not begin with a 2 or a 3 amiss.
type scripted struct {
	net.Conn
	left   int
	steps  []string
	at     int
	say    []byte
	bad    string
	closed chan struct{}

	reads, writes, deadlines int
}

func (c *scripted) Read(p []byte) (int, error) {
	c.reads++
	if len(c.say) == 0 {
		if c.left == 0 {
			return 0, io.EOF
		}
		c.say = append(c.say, c.steps[c.at]...)
		if c.at++; c.at == len(c.steps) {
			c.at, c.left = 0, c.left-1
		}
	}
	n := copy(p, c.say)
	c.say = c.say[:copy(c.say, c.say[n:])]
	return n, nil
}

func (c *scripted) Write(p []byte) (int, error) {
	if c.writes++; p[0] > '3' && c.bad == "" || bytes.Contains(p, []byte("\n4")) || bytes.Contains(p, []byte("\n5")) {
		c.bad = string(p)
	}
	return len(p), nil
}

func (c *scripted) Close() error                     { close(c.closed); return nil }
func (c *scripted) LocalAddr() net.Addr              { return nil }
func (c *scripted) RemoteAddr() net.Addr             { return nil }
func (c *scripted) SetDeadline(time.Time) error      { c.deadlines++; return nil }
func (c *scripted) SetReadDeadline(time.Time) error  { c.deadlines++; return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { c.deadlines++; return nil }

// A oneListener has one connection, and no other after it.
type oneListener struct {
	conn   net.Conn
	closed chan struct{}
}

func (l *oneListener) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneListener) Close() error {
	select {
	case <-l.closed:
		return errors.New("closed before")
	default:
		close(l.closed)
	}
	return nil
}
func (l *oneListener) Addr() net.Addr { return nil }

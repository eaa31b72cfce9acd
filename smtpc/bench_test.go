package smtpc

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A script is a connection whose peer has said all replies beforehand, and takes what
// it is sent.
type script struct {
	net.Conn
	opening, each []byte // what is said first, and for each transaction
	left          []byte
	closed        atomic.Bool
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		s.left = s.each
	}
	if s.opening != nil {
		s.left, s.opening = s.opening, nil
	}
	n := copy(p, s.left[:bytes.IndexByte(s.left, '\n')+1]) // a reply at a time
	s.left = s.left[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { s.closed.Store(true); return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkTransaction is a message of 4 KiB to one recipient over a connection that
// is used again, without the network.
func BenchmarkTransaction(b *testing.B) {
	s := &script{
		opening: []byte("220 mx.example\r\n250-mx.example\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250 8BITMIME\r\n"),
		each:    []byte("250 2.1.0 OK\r\n250 2.1.5 OK\r\n354 go on\r\n250 2.0.0 queued as 1234567\r\n"),
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	c, err := NewConn(ctx, s, Options{Hello: "client.example"})
	if err != nil {
		b.Fatal(err)
	}
	text := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 63)
	content := strings.NewReader(text)
	t := Transaction{
		From: smtp.Path{Local: "a", Domain: "src.example"}, Params: smtp.MailParams{Size: int64(len(text))},
		Rcpts: []Rcpt{{To: smtp.Path{Local: "b", Domain: "sink.example"}}}, Content: content,
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		content.Reset(text)
		if res := c.Send(ctx, t); res.Err != nil || !res.Final.Positive() {
			b.Fatal(res)
		}
	}
}

// A context that ends between two calls ends no connection by itself, but the next
// call with it; and one that is another's does nothing.
func TestContextBetweenCalls(t *testing.T) {
	open := func() (*script, *Conn, context.Context, context.CancelFunc) {
		s := &script{opening: []byte("220 mx.example\r\n250 mx.example\r\n"), each: []byte("250 OK\r\n")}
		ctx, cancel := context.WithCancel(t.Context())
		c, err := NewConn(ctx, s, Options{Hello: "client.example"})
		if err != nil {
			t.Fatal(err)
		}
		return s, c, ctx, cancel
	}
	s, c, ctx, cancel := open()
	if err := c.Noop(ctx); err != nil {
		t.Fatal(err)
	}
	guarded := c.guard
	if c.Noop(ctx); c.guard != guarded {
		t.Error("a second call with the same context has another guard")
	}
	cancel()
	<-guarded.closed
	if s.closed.Load() || !c.Usable() {
		t.Error("a context that ended after the call closed the connection")
	}
	if err := c.Noop(t.Context()); err != nil || !c.Usable() {
		t.Errorf("with another context: %v", err)
	}

	s, c, ctx, cancel = open()
	cancel()
	if c.Noop(ctx); !s.closed.Load() || c.Usable() || c.guard != nil {
		t.Error("a call with a context that had ended left the connection")
	}
	c.Close()

	_, c, _, cancel = open()
	defer cancel()
	if c.Close(); c.guard != nil {
		t.Error("a closed connection is still watched")
	}
}

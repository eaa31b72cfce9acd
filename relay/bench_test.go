package relay

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

// A script is a network of one host, whose peer has said all replies beforehand.
type script struct {
	net.Conn
	opening, each, left []byte
}

func (s *script) Listen(context.Context, string, string) (net.Listener, error) { return nil, nil }
func (s *script) DialContext(context.Context, string, string) (net.Conn, error) {
	return &script{opening: []byte("220 mx.example\r\n250-mx.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n"), each: s.each}, nil
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		s.left = s.each
	}
	if s.opening != nil {
		s.left, s.opening = s.opening, nil
	}
	n := copy(p, s.left[:bytes.IndexByte(s.left, '\n')+1])
	s.left = s.left[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkAttempt is a delivery of a message to one recipient at a smart host, over a
// kept connection, without the network.
func BenchmarkAttempt(b *testing.B) {
	s := &script{each: []byte("250 2.1.0 OK\r\n250 2.1.5 OK\r\n354 go on\r\n250 2.0.0 queued as 1234567\r\n")}
	r := New(Options{Hello: "relay.example", Network: s, Resolver: dns.NewZone(), UseMax: 1 << 30})
	defer r.Close(b.Context())
	m := &postrider.Message{
		From: smtp.Path{Local: "a", Domain: "src.example"}, Size: 4096, Recipients: []postrider.Recipient{{To: smtp.Path{Local: "b", Domain: "sink.example"}}},
	}
	d := &postrider.Delivery{
		Message: m, Rcpts: []int{0}, Content: &content{m: m, text: strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64)},
		Route: postrider.Route{Via: postrider.ViaSMTP, Host: "192.0.2.1", Port: 25, TLS: postrider.TLSNone},
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if o := r.Deliver(ctx, d); o[0].Result != postrider.ResultDelivered {
			b.Fatal(o)
		}
	}
}

// Command sink is a whole mail server in few lines: it takes every message, says
// so, and forgets it. Try it with
//
//	go run ./examples/sink -listen 127.0.0.1:2525
//	swaks --server 127.0.0.1:2525 --to someone@example.org
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:2525", "address to listen on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", l.Addr())
	if err := serve(ctx, l, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// serve takes mail from l until ctx ends, and tells w of it.
func serve(ctx context.Context, l net.Listener, w io.Writer) error {
	s := &smtpd.Server{Handler: sink{w}, Hostname: "sink.example", MaxSize: 50 << 20}
	return s.Serve(ctx, l)
}

// A sink makes a session for each connection. It implements smtpd.Handler.
type sink struct{ w io.Writer }

func (k sink) Open(_ context.Context, c smtpd.Client) (smtpd.Session, smtp.Reply) {
	return &session{w: k.w, peer: c.Peer}, smtp.Reply{} // the zero Reply here: greet as usual
}

// A session is one connection. It implements smtpd.Session.
type session struct {
	w    io.Writer
	peer netip.AddrPort
	from smtp.Path
	to   []smtp.Path
}

func (s *session) Hello(context.Context, string, bool) smtp.Reply { return smtp.OK }

func (s *session) Mail(_ context.Context, from smtp.Path, _ smtp.MailParams) smtp.Reply {
	s.from, s.to = from, nil
	return smtp.OK
}

func (s *session) Rcpt(_ context.Context, to smtp.Path, _ smtp.RcptParams) smtp.Reply {
	s.to = append(s.to, to)
	return smtp.OK
}

// Data reads to the end before it says yes. An error of the content is a client
// that was lost or went wrong: the zero Reply, 451, is then never a lie.
func (s *session) Data(_ context.Context, content io.Reader) []smtp.Reply {
	n, err := io.Copy(io.Discard, content)
	if err != nil {
		return nil
	}
	fmt.Fprintf(s.w, "%s: from <%s> to %v: %d octets\n", s.peer, s.from, s.to, n)
	return []smtp.Reply{smtp.OK}
}

func (s *session) Reset() {}
func (s *session) Close() {}

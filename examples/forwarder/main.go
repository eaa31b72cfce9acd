// Command forwarder hands every message on to another server while its client
// waits, and repeats what that server says: it keeps nothing, so that it can lose
// nothing. Try it in front of the sink:
//
//	go run ./examples/forwarder -listen 127.0.0.1:2526 -to 127.0.0.1:2525
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
	"github.com/postrider/postrider/smtpd"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:2526", "address to listen on")
	to := flag.String("to", "127.0.0.1:2525", "server that takes the mail")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", l.Addr())
	s := &smtpd.Server{Handler: forwarder{*to}, Hostname: "forwarder.example"}
	if err := s.Serve(ctx, l); err != nil {
		log.Fatal(err)
	}
}

// A forwarder is the address of the next server. It implements smtpd.Handler.
type forwarder struct{ next string }

func (f forwarder) Open(context.Context, smtpd.Client) (smtpd.Session, smtp.Reply) {
	return &session{next: f.next}, smtp.Reply{}
}

// A session gathers the envelope. It implements smtpd.Session.
type session struct {
	next string
	t    smtpc.Transaction
}

func (s *session) Hello(context.Context, string, bool) smtp.Reply { return smtp.OK }

func (s *session) Mail(_ context.Context, from smtp.Path, p smtp.MailParams) smtp.Reply {
	s.t = smtpc.Transaction{From: from, Params: p}
	return smtp.OK
}

// Rcpt takes one recipient for a message: then there is one answer to repeat. A
// client sends the others in another transaction (RFC 5321 4.5.3.1.10).
func (s *session) Rcpt(_ context.Context, to smtp.Path, p smtp.RcptParams) smtp.Reply {
	if len(s.t.Rcpts) > 0 {
		return smtp.Reply{Code: 452, Text: "One recipient at a time"}
	}
	s.t.Rcpts = []smtpc.Rcpt{{To: to, Params: p}}
	return smtp.OK
}

func (s *session) Data(ctx context.Context, content io.Reader) []smtp.Reply {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", s.next)
	if err != nil {
		return nil // 451 4.3.0: the client comes again
	}
	conn, err := smtpc.NewConn(ctx, raw, smtpc.Options{Hello: "forwarder.example"})
	if err != nil {
		return nil
	}
	defer conn.Quit(ctx)
	// A content that ends in an error is never given its final dot.
	s.t.Content = content
	result := conn.Send(ctx, s.t)
	reply, _ := result.Decides(0)
	return []smtp.Reply{reply}
}

func (s *session) Reset() {}
func (s *session) Close() {}

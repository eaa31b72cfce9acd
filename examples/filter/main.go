// Command filter is a forwarder that looks at each message: one with a word that
// is not wanted is refused while its client waits, so that nobody has to be sent
// a report, and any other goes on with a field of ours on top. Try it in front of
// the sink:
//
//	go run ./examples/filter -listen 127.0.0.1:2527 -to 127.0.0.1:2525 -word lottery
package main

import (
	"bytes"
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
	listen := flag.String("listen", "127.0.0.1:2527", "address to listen on")
	next := flag.String("to", "127.0.0.1:2525", "server that takes the mail")
	word := flag.String("word", "lottery", "word that no message may hold")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", l.Addr())
	s := &smtpd.Server{Handler: filter{*next, []byte(*word)}, Hostname: "filter.example", MaxSize: 10 << 20} // kept in memory
	if err := s.Serve(ctx, l); err != nil {
		log.Fatal(err)
	}
}

// A filter implements smtpd.Handler.
type filter struct {
	next string
	word []byte
}

func (f filter) Open(context.Context, smtpd.Client) (smtpd.Session, smtp.Reply) {
	return &session{filter: f}, smtp.Reply{}
}

// A session implements smtpd.Session.
type session struct {
	filter
	t smtpc.Transaction
}

func (s *session) Hello(context.Context, string, bool) smtp.Reply { return smtp.OK }

func (s *session) Mail(_ context.Context, from smtp.Path, p smtp.MailParams) smtp.Reply {
	s.t = smtpc.Transaction{From: from, Params: p}
	return smtp.OK
}

func (s *session) Rcpt(_ context.Context, to smtp.Path, p smtp.RcptParams) smtp.Reply {
	if len(s.t.Rcpts) > 0 {
		return smtp.Reply{Code: 452, Text: "One recipient at a time"}
	}
	s.t.Rcpts = []smtpc.Rcpt{{To: to, Params: p}}
	return smtp.OK
}

func (s *session) Data(ctx context.Context, content io.Reader) []smtp.Reply {
	body, err := io.ReadAll(content)
	if err != nil {
		return nil // 451 4.3.0: it is not all here
	}
	if bytes.Contains(body, s.word) {
		return []smtp.Reply{{Code: 550, Status: smtp.Status{Class: 5, Subject: 7, Detail: 1}, Text: "No such mail here"}}
	}
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", s.next)
	if err != nil {
		return nil
	}
	conn, err := smtpc.NewConn(ctx, raw, smtpc.Options{Hello: "filter.example"})
	if err != nil {
		return nil
	}
	defer conn.Quit(ctx)
	s.t.Params.Size = 0 // it is another now
	s.t.Content = io.MultiReader(bytes.NewReader([]byte("X-Filtered: yes\r\n")), bytes.NewReader(body))
	result := conn.Send(ctx, s.t)
	reply, _ := result.Decides(0)
	return []smtp.Reply{reply}
}

func (s *session) Reset() {}
func (s *session) Close() {}

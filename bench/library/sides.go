package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
	"github.com/postrider/postrider/smtpd"
)

// A library serves a listener until it is closed, and sends messages over a
// connection.
type library struct {
	name  string
	serve func(ctx context.Context, l net.Listener) error
	send  func(ctx context.Context, c net.Conn, n int) error
}

var libraries = []library{
	{"postrider", servePostrider, sendPostrider},
	{"go-smtp", serveGoSMTP, sendGoSMTP},
}

type sink struct{}

func (sink) Open(context.Context, smtpd.Client) (smtpd.Session, smtp.Reply) {
	return sink{}, smtp.Reply{}
}
func (sink) Hello(context.Context, string, bool) smtp.Reply              { return smtp.OK }
func (sink) Mail(context.Context, smtp.Path, smtp.MailParams) smtp.Reply { return smtp.OK }
func (sink) Rcpt(context.Context, smtp.Path, smtp.RcptParams) smtp.Reply { return smtp.OK }
func (sink) Reset()                                                      {}
func (sink) Close()                                                      {}
func (sink) Data(_ context.Context, content io.Reader) []smtp.Reply {
	if _, err := io.Copy(io.Discard, content); err != nil {
		return nil
	}
	return []smtp.Reply{smtp.OK}
}

func servePostrider(ctx context.Context, l net.Listener) error {
	s := &smtpd.Server{Handler: sink{}, Hostname: "server.example", Exempt: func(netip.Addr) bool { return true }}
	return s.Serve(ctx, l)
}

func sendPostrider(ctx context.Context, c net.Conn, n int) error {
	conn, err := smtpc.NewConn(ctx, c, smtpc.Options{Hello: "client.example"})
	if err != nil {
		return err
	}
	from, to := smtp.Path{Local: "a", Domain: "client.example"}, smtp.Path{Local: "b", Domain: "server.example"}
	r := bytes.NewReader(content)
	rcpts := []smtpc.Rcpt{{To: to}}
	for range n {
		r.Reset(content)
		res := conn.Send(ctx, smtpc.Transaction{From: from, Rcpts: rcpts, Content: r})
		if reply, _ := res.Decides(0); res.Err != nil || !reply.Positive() {
			return fmt.Errorf("%v %w", reply, res.Err)
		}
	}
	return conn.Quit(ctx)
}

type goSink struct{}

func (goSink) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return goSink{}, nil }
func (goSink) Mail(string, *gosmtp.MailOptions) error          { return nil }
func (goSink) Rcpt(string, *gosmtp.RcptOptions) error          { return nil }
func (goSink) Reset()                                          {}
func (goSink) Logout() error                                   { return nil }
func (goSink) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func serveGoSMTP(ctx context.Context, l net.Listener) error {
	s := gosmtp.NewServer(goSink{})
	s.Domain = "server.example"
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func sendGoSMTP(_ context.Context, c net.Conn, n int) error {
	conn := gosmtp.NewClient(c)
	if err := conn.Hello("client.example"); err != nil {
		return err
	}
	r := bytes.NewReader(content)
	to := []string{"b@server.example"}
	for range n {
		r.Reset(content)
		if err := conn.SendMail("a@client.example", to, r); err != nil {
			return err
		}
	}
	return conn.Quit()
}

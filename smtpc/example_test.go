package smtpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"time"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
	"github.com/postrider/postrider/smtpd"
)

// Send says what the peer answered for each recipient. Nothing of a refusal is an error:
// Err is what broke, or what the peer would have needed to offer.
func Example() {
	addr, stop := serve(nil)
	defer stop()
	ctx := context.Background()

	conn, err := net.Dial("tcp", addr)
	if err != nil {
		panic(err)
	}
	c, err := smtpc.NewConn(ctx, conn, smtpc.Options{Hello: "client.example.com"})
	if err != nil {
		panic(err)
	}
	defer c.Quit(ctx)
	result := c.Send(ctx, smtpc.Transaction{
		From:    address("alice@example.com"),
		Rcpts:   []smtpc.Rcpt{{To: address("bob@example.org")}, {To: address("carol@example.org")}},
		Content: strings.NewReader("Subject: Hello\r\n\r\nIt works.\r\n"),
	})
	for i := range result.Rcpts {
		reply, stage := result.Decides(i)
		fmt.Printf("%s, %s\n", reply, stage)
	}
	fmt.Println("may have come to nothing:", result.Uncertain, result.Err)
	// Output:
	// 250 2.0.0 29 octets, waiting for the reply to the final dot
	// 550 5.1.1 No such mailbox here, sending RCPT
	// may have come to nothing: false <nil>
}

// Login takes the best mechanism that both ends know, under TLS alone. PLAIN is only for a
// server whose certificate is verified (RFC 4954 14): so leave tls.Config as strict as
// it is by default, or set Clear to ClearNever.
func ExampleConn_Login() {
	pair := certificate()
	addr, stop := serve(&tls.Config{Certificates: []tls.Certificate{pair}})
	defer stop()
	ctx := context.Background()

	conn, err := net.Dial("tcp", addr)
	if err != nil {
		panic(err)
	}
	c, err := smtpc.NewConn(ctx, conn, smtpc.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Quit(ctx)
	alice := smtpc.Credentials{Username: "alice", Password: "open sesame"}
	fmt.Println("in the clear:", errors.Is(c.Login(ctx, alice), smtpc.ErrCleartext))
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	if err := c.StartTLS(ctx, &tls.Config{ServerName: "mx.example.org", RootCAs: roots}); err != nil {
		panic(err)
	}
	params, _ := c.Ext("AUTH")
	fmt.Println("under TLS:", params, c.Login(ctx, alice))
	// Output:
	// in the clear: true
	// under TLS: PLAIN <nil>
}

// What a message cannot do without is a *NeedError before anything is sent, and the
// connection goes on. What only informs the peer goes where it is offered.
func ExampleNeedError() {
	addr, stop := serve(nil)
	defer stop()
	ctx := context.Background()

	conn, err := net.Dial("tcp", addr)
	if err != nil {
		panic(err)
	}
	c, err := smtpc.NewConn(ctx, conn, smtpc.Options{})
	if err != nil {
		panic(err)
	}
	defer c.Quit(ctx)
	letter := smtpc.Transaction{
		From:    address("zoë@example.com"),
		Params:  smtp.MailParams{UTF8: true, Priority: 4},
		Rcpts:   []smtpc.Rcpt{{To: address("bob@example.org"), Params: smtp.RcptParams{Notify: smtp.NotifySuccess}}},
		Content: strings.NewReader("Subject: Grüße\r\n\r\n"),
	}
	result := c.Send(ctx, letter)
	if need, ok := errors.AsType[*smtpc.NeedError](result.Err); ok {
		fmt.Println("the peer lacks", need.Ext)
	}
	letter.From, letter.Params.UTF8 = address("zoe@example.com"), false
	letter.Content = strings.NewReader("Subject: Greetings\r\n\r\n")
	result = c.Send(ctx, letter)
	fmt.Println(result.Final)
	// Output:
	// the peer lacks SMTPUTF8
	// 250 2.0.0 22 octets
}

func address(s string) smtp.Path {
	p, err := smtp.ParsePath(s)
	if err != nil {
		panic(err)
	}
	return p
}

// serve is a server for bob, until stop is called. With TLS alice may authenticate.
func serve(config *tls.Config) (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := &smtpd.Server{Handler: bobs{}}
	if config != nil {
		s.TLS = func() *tls.Config { return config }
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	return l.Addr().String(), func() {
		cancel()
		<-done
	}
}

type bobs struct{}

func (bobs) Open(context.Context, smtpd.Client) (smtpd.Session, smtp.Reply) {
	return bobs{}, smtp.Reply{}
}
func (bobs) Hello(context.Context, string, bool) smtp.Reply              { return smtp.OK }
func (bobs) Mail(context.Context, smtp.Path, smtp.MailParams) smtp.Reply { return smtp.OK }
func (bobs) Reset()                                                      {}
func (bobs) Close()                                                      {}

func (bobs) Rcpt(_ context.Context, to smtp.Path, _ smtp.RcptParams) smtp.Reply {
	if to.Local != "bob" {
		return smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "No such mailbox here"}
	}
	return smtp.OK
}

func (bobs) Data(_ context.Context, content io.Reader) []smtp.Reply {
	n, err := io.Copy(io.Discard, content)
	if err != nil {
		return nil
	}
	return []smtp.Reply{{Code: 250, Status: smtp.Status{Class: 2}, Text: fmt.Sprint(n, " octets")}}
}

func (bobs) Mechanisms() []string { return []string{"PLAIN"} }

func (bobs) Auth(context.Context, string) (smtp.SASLServer, smtp.Reply) {
	return smtp.PlainServer(func(_, user, password string) smtp.Reply {
		if user != "alice" || password != "open sesame" {
			return smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "Wrong password"}
		}
		return smtp.Reply{Code: 235, Status: smtp.Status{Class: 2, Subject: 7}, Text: "Welcome"}
	}), smtp.Reply{}
}

// certificate makes one for mx.example.org that signs itself.
func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example.org"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

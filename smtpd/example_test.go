package smtpd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	netsmtp "net/smtp"
	"time"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// A postOffice takes mail for bob, and prints what it gets.
type postOffice struct{}

func (postOffice) Open(context.Context, smtpd.Client) (smtpd.Session, smtp.Reply) {
	return &counter{}, smtp.Reply{} // the zero Reply of Open: greet as usual
}

// A counter is one connection to the post office.
type counter struct {
	from smtp.Path
}

func (c *counter) Hello(context.Context, string, bool) smtp.Reply { return smtp.OK }

func (c *counter) Mail(_ context.Context, from smtp.Path, _ smtp.MailParams) smtp.Reply {
	c.from = from
	return smtp.OK
}

func (c *counter) Rcpt(_ context.Context, to smtp.Path, p smtp.RcptParams) smtp.Reply {
	if to.Local != "bob" {
		return smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "No such mailbox here"}
	}
	if p.Notify != 0 {
		fmt.Println(to, "with NOTIFY", p.Notify)
	}
	return smtp.OK
}

// Data says yes when the content has come to its end, and not before.
func (c *counter) Data(_ context.Context, content io.Reader) []smtp.Reply {
	b, err := io.ReadAll(content)
	if err != nil {
		return nil // 451 4.3.0, if the client is still there: it comes again
	}
	fmt.Printf("from %s: %q\n", c.from, b)
	return []smtp.Reply{{Code: 250, Status: smtp.Status{Class: 2}, Text: "7K3 queued"}}
}

func (*counter) Reset() {}
func (*counter) Close() {}

// listen serves on a free port until stop is called, which waits for the end.
func listen(s *smtpd.Server) (addr string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	return l.Addr().String(), func() {
		cancel()
		<-done
	}
}

// A server is a Handler that makes a Session for each connection. Here net/smtp is
// the client.
func Example() {
	server := &smtpd.Server{Handler: postOffice{}, Hostname: "mx.example.org", MaxSize: 1 << 20}
	addr, stop := listen(server)
	defer stop()

	letter := []byte("Subject: Hello\r\n\r\nIt works.\r\n")
	fmt.Println(netsmtp.SendMail(addr, nil, "alice@example.com", []string{"bob@example.org"}, letter))
	fmt.Println(netsmtp.SendMail(addr, nil, "alice@example.com", []string{"carol@example.org"}, letter))
	// Output:
	// from alice@example.com: "Subject: Hello\r\n\r\nIt works.\r\n"
	// <nil>
	// 550 "5.1.1 No such mailbox here"
}

// A memberCounter is a counter for those who have said who they are.
type memberCounter struct {
	counter
	user string
}

func (*memberCounter) Mechanisms() []string { return []string{"PLAIN"} }

func (c *memberCounter) Auth(context.Context, string) (smtp.SASLServer, smtp.Reply) {
	return smtp.PlainServer(func(_, user, password string) smtp.Reply {
		if password != "open sesame" {
			return smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "Wrong password"}
		}
		c.user = user
		return smtp.Reply{Code: 235, Status: smtp.Status{Class: 2, Subject: 7}, Text: "Welcome"}
	}), smtp.Reply{}
}

func (c *memberCounter) Mail(ctx context.Context, from smtp.Path, p smtp.MailParams) smtp.Reply {
	if c.user == "" {
		return smtp.Reply{Code: 530, Status: smtp.Status{Class: 5, Subject: 7}, Text: "Authentication required"}
	}
	fmt.Println("this is", c.user)
	return c.counter.Mail(ctx, from, p)
}

type members struct{}

func (members) Open(context.Context, smtpd.Client) (smtpd.Session, smtp.Reply) {
	return &memberCounter{}, smtp.Reply{}
}

// STARTTLS is offered where there is a certificate. AUTH is offered under TLS alone, by a
// Session that is an Authenticator too.
func ExampleServer_tls() {
	pair := certificate()
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	server := &smtpd.Server{Handler: members{}, TLS: func() *tls.Config { return config }}
	addr, stop := listen(server)
	defer stop()

	c, err := netsmtp.Dial(addr)
	if err != nil {
		panic(err)
	}
	defer c.Close()
	auth, _ := c.Extension("AUTH")
	fmt.Println("AUTH in the clear:", auth)
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	if err := c.StartTLS(&tls.Config{ServerName: "mx.example.org", RootCAs: roots}); err != nil {
		panic(err)
	}
	fmt.Println(c.Mail("alice@example.com"))
	fmt.Println(c.Auth(netsmtp.PlainAuth("", "alice", "open sesame", "127.0.0.1")))
	fmt.Println(c.Mail("alice@example.com"))
	// Output:
	// AUTH in the clear: false
	// 530 "5.7.0 Authentication required"
	// <nil>
	// this is alice
	// <nil>
}

// A reporter is a counter that promises reports of delivery.
type reporter struct{ counter }

func (*reporter) Offer() smtpd.Offer { return smtpd.Offer{Extensions: smtp.ExtDSN} }

type reporters struct{}

func (reporters) Open(context.Context, smtpd.Client) (smtpd.Session, smtp.Reply) {
	return &reporter{}, smtp.Reply{}
}

// An extension whose effect is the program's to bring about is offered by its Sessions,
// which are Offerers. What no Session offers is not listed, and its parameters are refused.
func ExampleOfferer() {
	for _, handler := range []smtpd.Handler{postOffice{}, reporters{}} {
		addr, stop := listen(&smtpd.Server{Handler: handler})
		c, err := netsmtp.Dial(addr)
		if err != nil {
			panic(err)
		}
		dsn, _ := c.Extension("DSN")
		fmt.Println("DSN:", dsn)
		_ = c.Mail("alice@example.com")
		id, _ := c.Text.Cmd("RCPT TO:<bob@example.org> NOTIFY=SUCCESS,FAILURE")
		c.Text.StartResponse(id)
		code, _, _ := c.Text.ReadResponse(0)
		c.Text.EndResponse(id)
		fmt.Println(code)
		c.Close()
		stop()
	}
	// Output:
	// DSN: false
	// 555
	// DSN: true
	// bob@example.org with NOTIFY SUCCESS,FAILURE
	// 250
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

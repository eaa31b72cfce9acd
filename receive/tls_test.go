package receive

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/account"
	"github.com/postrider/postrider/policy"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/smtpd"
	"github.com/postrider/postrider/vfs"
)

var connectionState = tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}

// certificate makes a certificate for mx.our.example, signed by itself.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.our.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// A talk is a client of a server with accounts, by a real Router and the checks
// of a role.
type talk struct {
	t     *testing.T
	conn  net.Conn
	in    *bufio.Reader
	roots *x509.CertPool
	spool *memSpool

	mu      sync.Mutex
	refused []postrider.Event
}

// turnedAway returns what was refused since it was asked before.
func (c *talk) turnedAway() []postrider.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.refused
	c.refused = nil
	return all
}

func newTalk(t *testing.T, role policy.Role, implicit bool) *talk {
	t.Helper()
	router, err := route.New(route.Table{Hostname: "mx.our.example", Domains: []route.Domain{{Name: "our.example",
		Mailboxes: []string{"alice", "bob"}, Deliver: postrider.Route{Via: postrider.ViaMaildir, Dir: "/m/{user}"}}}})
	if err != nil {
		t.Fatal(err)
	}
	store, err := account.Open(vfs.NewMem(), "accounts", account.Options{Exempt: netip.Addr.IsLoopback})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Add("alice@our.example", "open sesame", "*@lists.example"); err != nil {
		t.Fatal(err)
	}
	chains := policy.Standard(policy.Options{Role: role})
	cert := certificate(t)
	c := &talk{t: t, roots: x509.NewCertPool(), spool: &memSpool{}}
	c.roots.AddCert(cert.Leaf)
	server := &smtpd.Server{Hostname: "mx.our.example", Implicit: implicit, LMTP: role == policy.RoleLMTP,
		TLS: func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{cert}} },
		Handler: New(Options{Spool: c.spool, Router: router, Accounts: store, Submission: role == policy.RoleSubmission,
			Refused: func(e postrider.Event) {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.refused = append(c.refused, e)
			},
			Mail: chains.Mail, Rcpt: chains.Rcpt, Data: chains.Data, Hostname: "mx.our.example", Listener: string(role)})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), l) }()
	if c.conn, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		<-done
	})
	c.conn.SetDeadline(time.Now().Add(20 * time.Second))
	c.in = bufio.NewReader(c.conn)
	if implicit {
		c.secure()
	}
	c.hear("220")
	return c
}

// secure goes over to TLS.
func (c *talk) secure() {
	c.t.Helper()
	tc := tls.Client(c.conn, &tls.Config{RootCAs: c.roots, ServerName: "mx.our.example"})
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.in = tc, bufio.NewReader(tc)
}

// hear reads a reply whose last line begins with want, and returns all of it.
func (c *talk) hear(want string) string {
	c.t.Helper()
	var all strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("reading a reply: %v", err)
		}
		all.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			if !strings.HasPrefix(line, want) {
				c.t.Fatalf("the server says %q, want %q", line, want)
			}
			return all.String()
		}
	}
}

// say sends a line and hears what it is answered.
func (c *talk) say(line, want string) string {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(line + "\r\n")); err != nil {
		c.t.Fatal(err)
	}
	return c.hear(want)
}

// plain is the initial response of PLAIN.
func plain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

func TestSubmissionDialogue(t *testing.T) {
	c := newTalk(t, policy.RoleSubmission, false)
	if ext := c.say("EHLO laptop.example", "250"); strings.Contains(ext, "AUTH") || !strings.Contains(ext, "STARTTLS") {
		t.Errorf("in the clear it offers %q", ext)
	}
	c.say("MAIL FROM:<alice@our.example>", "530 5.7.0")
	c.say("AUTH PLAIN "+plain("alice@our.example", "open sesame"), "5")
	c.say("MAIL FROM:<alice@our.example>", "530 5.7.0")
	c.say("STARTTLS", "220")
	c.secure()
	c.say("MAIL FROM:<alice@our.example>", "5") // the EHLO is forgotten
	if ext := c.say("EHLO laptop.example", "250"); !strings.Contains(ext, "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\r\n") {
		t.Errorf("under TLS it offers %q", ext)
	}
	c.say("MAIL FROM:<alice@our.example>", "530 5.7.0")
	c.say("MAIL FROM:<>", "530 5.7.0")
	wrong := c.say("AUTH PLAIN "+plain("alice@our.example", "open barley"), "535 5.7.8")
	if unknown := c.say("AUTH PLAIN "+plain("nobody@our.example", "open barley"), "535 5.7.8"); unknown != wrong {
		t.Errorf("a wrong password hears %q, an unknown user %q", wrong, unknown)
	}
	c.say("MAIL FROM:<alice@our.example>", "530 5.7.0")
	c.say("AUTH PLAIN "+plain("alice@our.example", "open sesame"), "235 2.7.0")
	c.say("AUTH PLAIN "+plain("alice@our.example", "open sesame"), "503")
	c.say("MAIL FROM:<bob@our.example>", "550 5.7.1")
	c.say("MAIL FROM:<team@lists.example>", "250")
	c.say("RSET", "250")
	c.say("MAIL FROM:<ALICE@our.example>", "250")
	c.say("RCPT TO:<x@sales>", "554 5.1.2")
	c.say("RCPT TO:<nobody@our.example>", "550 5.1.1")
	c.say("RCPT TO:<friend@far.example>", "250")
	c.say("RCPT TO:<secret@far.example>", "250")
	c.say("DATA", "354")
	c.say("From: alice@our.example\r\nBcc: secret@far.example\r\n\r\nhello\r\n.", "250")
	k, n := c.spool.last()
	if n != 1 || string(k.content) != "From: alice@our.example\r\n\r\nhello\r\n" || strings.Contains(string(k.head), "secret") {
		t.Fatalf("%d messages, %q, %q", n, k.head, k.content)
	}
	src := k.message.Source
	if src.Account != "alice@our.example" || src.Protocol != "ESMTPSA" || !strings.HasPrefix(src.TLS, "TLS 1.3 TLS_") || len(k.message.Recipients) != 2 {
		t.Errorf("%+v", k.message)
	}
	if k.message.HeaderID != "00000000000000000001@mx.our.example" {
		t.Errorf("it is called %q", k.message.HeaderID)
	}
}

func TestLoginDialogue(t *testing.T) {
	c := newTalk(t, policy.RoleSubmission, true)
	b64 := base64.StdEncoding.EncodeToString
	c.say("EHLO laptop.example", "250")
	c.say("AUTH LOGIN", "334 ")
	c.say("*", "501")
	c.say("AUTH LOGIN", "334 ")
	c.say(b64([]byte("alice@our.example")), "334 ")
	c.say(b64([]byte("wrong")), "535 5.7.8")
	c.say("AUTH LOGIN", "334 ")
	c.say(b64([]byte("alice@our.example")), "334 ")
	c.say(b64([]byte("open sesame")), "235 2.7.0")
	c.say("MAIL FROM:<alice@our.example>", "250")
}

// A stranger at a listener of an MX gets in what is ours; an account also gets
// out, from its own address.
func TestMXDialogue(t *testing.T) {
	c := newTalk(t, policy.RoleMX, false)
	c.say("EHLO far.example", "250")
	c.say("STARTTLS", "220")
	c.secure()
	c.say("EHLO far.example", "250")
	c.say("MAIL FROM:<alice@our.example>", "250")
	c.say("RCPT TO:<friend@far.example>", "550 5.7.1")
	c.say("RCPT TO:<alice@our.example>", "250")
	c.say("RSET", "250")
	c.say("AUTH PLAIN "+plain("alice@our.example", "open sesame"), "235")
	c.say("MAIL FROM:<someone@far.example>", "550 5.7.1")
	c.say("MAIL FROM:<alice@our.example>", "250")
	c.say("RCPT TO:<friend@far.example>", "250")
}

// RFC 2033 4.2: a reply for each recipient.
func TestLMTPDialogue(t *testing.T) {
	c := newTalk(t, policy.RoleLMTP, false)
	if ext := c.say("LHLO mda.example", "250"); strings.Contains(ext, "AUTH") {
		t.Errorf("it offers %q", ext)
	}
	c.say("MAIL FROM:<someone@far.example>", "250")
	c.say("RCPT TO:<alice@our.example>", "250")
	c.say("RCPT TO:<friend@far.example>", "550 5.7.1")
	c.say("RCPT TO:<bob@our.example>", "250")
	c.say("DATA", "354")
	first := c.say("Subject: x\r\nBcc: y\r\n\r\nhello\r\n.", "250 2.0.0")
	if second := c.hear("250 2.0.0"); second != first {
		t.Errorf("%q, then %q", first, second)
	}
	k, n := c.spool.last()
	if n != 1 || len(k.message.Recipients) != 2 || k.message.Source.Protocol != "LMTP" || !strings.Contains(string(k.content), "Bcc") {
		t.Errorf("%d messages, %+v", n, k.message)
	}
	c.say("QUIT", "221")
}

// A login that fails is told, with the name where that is an address, and never
// with the password; an unknown user and a wrong password look alike.
func TestFailedLoginIsTold(t *testing.T) {
	c := newTalk(t, policy.RoleSubmission, true)
	c.say("EHLO laptop.example", "250")
	for _, tt := range []struct{ user, told string }{
		{"alice@our.example", "alice@our.example"},
		{"nobody@our.example", "nobody@our.example"},
		{"hunter2", ""},
		{"hunter2 x@y", ""},
		{"@our.example", ""},
	} {
		c.say("AUTH PLAIN "+plain(tt.user, "hunter2"), "535 5.7.8")
		all := c.turnedAway()
		if len(all) != 1 || all[0].Kind != postrider.EventRefused || all[0].Source.Account != tt.told || all[0].From.String() != tt.told ||
			all[0].Reply.Code != 535 || len(all[0].Tos) != 0 || all[0].Source.Listener != "submission" || !all[0].Source.Peer.IsValid() {
			t.Errorf("%s: %+v", tt.user, all)
		}
		if text := fmt.Sprintf("%+v", all); strings.Contains(text, "hunter2") {
			t.Errorf("%s: %s", tt.user, text)
		}
	}
	c.say("AUTH PLAIN "+plain("alice@our.example", "open sesame"), "235")
	if all := c.turnedAway(); len(all) != 0 {
		t.Errorf("a login that succeeds: %+v", all)
	}
}

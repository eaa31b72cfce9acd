package smtpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtp"
)

// secure is a server with implicit TLS.
func secure(h *recorder) *Server {
	return &Server{Handler: h, TLS: testConfig, Implicit: true}
}

// handshake puts TLS over the connection of a peer.
func (p *peer) handshake(config *tls.Config) *tls.Conn {
	p.t.Helper()
	if config == nil {
		config = &tls.Config{InsecureSkipVerify: true}
	}
	c := tls.Client(p.Conn, config)
	if err := c.Handshake(); err != nil {
		p.t.Fatalf("handshake: %v", err)
	}
	p.Conn, p.in = c, bufio.NewReader(c)
	return c
}

// hello says EHLO.
func (p *peer) hello() {
	p.t.Helper()
	p.say("EHLO x")
	p.expect("250")
}

// Whatever a configuration says, TLS 1.2 is the least and there are no tickets,
// also where it chooses another for a client; and it is not changed itself.
func TestHarden(t *testing.T) {
	calls := 0
	given := &tls.Config{MinVersion: tls.VersionTLS10}
	given.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		calls++
		switch calls {
		case 1:
			return given, nil
		case 2:
			return nil, nil
		}
		return given, io.EOF
	}
	got := harden(given)
	chosen, err := got.GetConfigForClient(nil)
	if err != nil || chosen == given {
		t.Fatal(chosen, err)
	}
	for _, c := range []*tls.Config{got, chosen} {
		if c.MinVersion != tls.VersionTLS12 || !c.SessionTicketsDisabled {
			t.Errorf("least version %s, tickets disabled %v", tls.VersionName(c.MinVersion), c.SessionTicketsDisabled)
		}
	}
	if c, err := got.GetConfigForClient(nil); c != nil || err != nil {
		t.Error(c, err)
	}
	if c, err := got.GetConfigForClient(nil); c != nil || err != io.EOF {
		t.Error(c, err)
	}
	if given.MinVersion != tls.VersionTLS10 || given.SessionTicketsDisabled {
		t.Error("the configuration that was given has changed")
	}
	if c := harden(&tls.Config{MinVersion: tls.VersionTLS13}); c.MinVersion != tls.VersionTLS13 {
		t.Error("a higher version became a lower one")
	}
}

// A client that keeps sessions gets none to keep.
func TestNoSessionIsResumed(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, t.Context(), secure(&recorder{}))
			defer r.stop()
			config := &tls.Config{InsecureSkipVerify: true, ServerName: "x", ClientSessionCache: tls.NewLRUClientSessionCache(4),
				MinVersion: version, MaxVersion: version}
			for i := range 2 {
				p := r.dial("192.0.2.1:1")
				c := p.handshake(config)
				p.expect("220")
				p.say("QUIT")
				p.expect("221")
				p.ended()
				if s := c.ConnectionState(); s.DidResume || s.Version != version {
					t.Errorf("connection %d: %s, resumed %v", i, tls.VersionName(s.Version), s.DidResume)
				}
				c.Close()
			}
			if _, found := config.ClientSessionCache.Get("x"); found {
				t.Errorf("%s: a session can be resumed", tls.VersionName(version))
			}
		})
	}
}

// What a session offers adds nothing that is the server's to offer: neither a handshake nor
// AUTH in the clear, nor the right to speak for others, nor their parameters.
func TestOffersOfTheServerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, t.Context(), &Server{Handler: &recorder{offer: Offer{Extensions: ^smtp.Extensions(0)}}})
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		p.say("EHLO x")
		got, err := smtp.ReadReply(p.in)
		if err != nil || got.Code != 250 || !strings.Contains(got.Text, "\nDSN") {
			t.Fatal(got, err)
		}
		for line := range strings.SplitSeq(got.Text, "\n") {
			switch word, _, _ := strings.Cut(line, " "); word {
			case "STARTTLS", "AUTH", "XCLIENT", "VRFY", "EXPN":
				t.Errorf("EHLO lists %s", word)
			}
		}
		p.say("MAIL FROM:<a@b> AUTH=<>")
		p.expect("555")
		p.say("STARTTLS")
		p.expect("502")
		p.say("XCLIENT ADDR=192.0.2.9")
		p.expect("502")
		p.say("QUIT")
		p.expect("221")
	})
}

// Each handshake asks for the configuration, so that a new certificate is used
// from then on; and when there is none, the connection ends with an alarm.
func TestConfigIsAskedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		name, alarms := "one", 0
		s := secure(&recorder{})
		s.Alarm = func(err error) {
			if !errors.Is(err, errNoTLS) {
				t.Error(err)
			}
			alarms++
		}
		s.TLS = func() *tls.Config {
			mu.Lock()
			defer mu.Unlock()
			if name == "" {
				return nil
			}
			c := testConfig()
			c.NextProtos = []string{name}
			return c
		}
		r := run(t, t.Context(), s)
		defer r.stop()
		for _, want := range []string{"one", "two"} {
			mu.Lock()
			name = want
			mu.Unlock()
			p := r.dial("192.0.2.1:1")
			c := p.handshake(&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"one", "two"}})
			if got := c.ConnectionState().NegotiatedProtocol; got != want {
				t.Errorf("the configuration is %q, want %q", got, want)
			}
			p.expect("220")
			p.Close()
		}
		mu.Lock()
		name = ""
		mu.Unlock()
		r.dial("192.0.2.1:1").ended()
		synctest.Wait()
		if alarms != 1 {
			t.Errorf("%d alarms", alarms)
		}
	})
}

// Who is turned away from a listener with implicit TLS hears nothing in the clear.
func TestTurnedAwayFromTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := secure(&recorder{})
		s.MaxConns = 1
		r := run(t, t.Context(), s)
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.handshake(nil)
		p.expect("220")
		r.dial("192.0.2.1:2").ended()
		p.Close()
	})
}

// All that was read ahead is thrown away at STARTTLS, also what a content before it
// has left behind in its larger buffer.
func TestNothingReadAheadSurvivesSTARTTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &recorder{}
		r := run(t, t.Context(), &Server{Handler: h, TLS: testConfig})
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		line := strings.Repeat("x", 70) + "\r\n"
		group := "HELO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + strings.Repeat(line, 2*readSize/len(line)) +
			".\r\nSTARTTLS\r\n" + strings.Repeat("HELO injected\r\n", 2*readSize/len("HELO injected\r\n"))
		if len(group) > contentSize {
			t.Fatal("the group does not fit into one read")
		}
		wrote := make(chan error, 1)
		go func() {
			_, err := io.WriteString(p.Conn, group)
			wrote <- err
		}()
		for _, want := range []string{"250", "250", "250", "354", "250", "220"} {
			p.expect(want)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
		p.handshake(nil)
		p.say("QUIT")
		p.expect("221")
		p.ended()
		if log := strings.Join(h.log(), "\n"); strings.Contains(log, "injected") {
			t.Errorf("the sessions saw\n%s", log)
		}
		p.Close()
	})
}

// A goodbye ends with a close_notify, whose record is not hidden in TLS 1.2.
func TestCloseNotify(t *testing.T) {
	for say, code := range map[string]string{"QUIT": "221", "GET / HTTP/1.0": "421"} {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, t.Context(), secure(&recorder{}))
			defer r.stop()
			p := r.dial("192.0.2.1:1")
			tap := &tapConn{Conn: p.Conn}
			p.Conn = tap
			p.handshake(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
			p.expect("220")
			p.say("%s", say)
			p.expect(code)
			p.ended()
			const alert = 21
			if n := len(tap.last); n < 5 || tap.last[0] != alert {
				t.Errorf("%s: the last words were % x", say, tap.last)
			}
			tap.Close()
		})
	}
}

// A tapConn keeps what was read last.
type tapConn struct {
	net.Conn
	last []byte
}

func (c *tapConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.last = append([]byte(nil), p[:n]...)
	}
	return n, err
}

func TestShutdownUnderTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &recorder{auth: []string{"PLAIN"}}
		r := run(t, t.Context(), secure(h))
		mute, idle, busy, asked := r.dial("192.0.2.1:1"), r.dial("192.0.2.1:2"), r.dial("192.0.2.1:3"), r.dial("192.0.2.1:4")
		for _, p := range []*peer{idle, busy, asked} {
			p.handshake(nil)
			p.expect("220")
			p.hello()
		}
		busy.transaction()
		asked.say("AUTH PLAIN")
		if line, err := asked.in.ReadString('\n'); line != "334 \r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		synctest.Wait()
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- r.s.Shutdown(context.Background()) }()
		for _, p := range []*peer{idle, asked} {
			p.expect("421 4.3.2")
			p.ended()
		}
		mute.ended()
		if waited := time.Since(began); waited > 2*lingerTime {
			t.Errorf("a client in its handshake held up the end for %v", waited)
		}
		busy.say("DATA")
		busy.expect("354")
		busy.say("whole\r\n.")
		busy.expect("250")
		busy.expect("421 4.3.2")
		busy.ended()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-r.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if log := strings.Join(h.log(), "\n"); !strings.Contains(log, `data "whole\r\n"`) || strings.Contains(log, "verify") {
			t.Errorf("the sessions saw\n%s", log)
		}
	})
}

func TestHardStopUnderTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &recorder{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := run(t, ctx, secure(h))
		mute, p, deaf := r.dial("192.0.2.1:1"), r.dial("192.0.2.1:2"), r.dial("192.0.2.1:3")
		for _, c := range []*peer{p, deaf} {
			c.handshake(nil)
			c.expect("220")
		}
		p.transaction()
		p.say("DATA")
		p.expect("354")
		p.say("half")
		deaf.say("NOOP") // and never reads the reply
		synctest.Wait()
		began := time.Now()
		cancel()
		p.expect("421 4.3.2")
		p.ended()
		mute.ended()
		if err := <-r.served; err != nil || time.Since(began) > 3*lingerTime {
			t.Errorf("Serve: %v after %v", err, time.Since(began))
		}
		if log := strings.Join(h.log(), "\n"); !strings.Contains(log, "data lost true") {
			t.Errorf("the sessions saw\n%s", log)
		}
	})
}

// RFC 4954 4: "Clients and servers MUST be able to handle the maximum encoded size
// of challenges and responses"; a longer line "fails the AUTH command with the 500
// reply", 5.5.6, and leaves the connection in step.
func TestLongAuthLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := secure(&recorder{auth: []string{"PLAIN", "LOGIN", "LOOP"}})
		r := run(t, t.Context(), s)
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.handshake(nil)
		p.expect("220")
		// Before AUTH is offered its lines are like all others.
		p.say("AUTH PLAIN %s", strings.Repeat("A", lineMax))
		p.expect("500 5.5.2")
		p.hello()
		long := smtp.EncodeSASL([]byte("\x00test\x00" + strings.Repeat("x", 9210)))
		if len(long) != authMax-len("\r\n") {
			t.Fatalf("%d octets", len(long))
		}
		p.say("AUTH PLAIN")
		p.expect("334")
		p.say("%s", long)
		p.expect("535 5.7.8")
		p.say("AUTH PLAIN")
		p.expect("334")
		p.say("%sAAAA", long)
		p.expect("500 5.5.6")
		p.say("auth plain %s", smtp.EncodeSASL([]byte("\x00test\x00"+strings.Repeat("x", 9000))))
		p.expect("535 5.7.8")
		p.say("AUTH PLAIN %s", long)
		p.expect("500 5.5.6")
		p.say("AUTHPLAIN %s", long)
		p.expect("500 5.5.2")
		// A challenge is one line, however long, and they have an end.
		p.say("AUTH LOOP")
		want := "334 " + smtp.EncodeSASL([]byte(strings.Repeat("again", 200))) + "\r\n"
		for range authRounds {
			if line, err := p.in.ReadString('\n'); line != want {
				t.Fatalf("%q, %v", line, err)
			}
			p.say("AAAA")
		}
		p.expect("535 5.7.8")
		p.say("AUTH PLAIN")
		p.expect("334")
		go func() {
			for range 64 {
				if _, err := io.WriteString(p, strings.Repeat("A", 1<<20)); err != nil {
					return
				}
			}
			t.Error("64 MiB without a line end were read")
		}()
		p.expect("421 4.7.0")
		p.ended()
	})
}

// Over TCP: the addresses of both ends, a certificate that is verified, a message
// each way of TLS, and a connection that breaks in the middle of one.
func TestTLSOverTCP(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h := &clients{}
		s := &Server{Handler: h, TLS: testConfig, Implicit: implicit}
		served := make(chan error, 1)
		go func() { served <- s.Serve(context.Background(), l) }()
		content := strings.Repeat("a line of the content\r\n", 10_000)
		for _, whole := range []bool{true, false} {
			p := dialTLS(t, l.Addr().String(), implicit)
			p.transaction()
			p.say("DATA")
			p.expect("354")
			if !whole {
				p.say("half a message\r\n.\r")
				p.Conn.(*tls.Conn).NetConn().Close()
				continue
			}
			p.say("%s.", content)
			p.expect("250")
			p.say("QUIT")
			p.expect("221")
			p.ended()
			own, _ := netip.ParseAddrPort(p.LocalAddr().String())
			seen := h.all()
			last := seen[len(seen)-1]
			if last.Peer != own || last.Local.String() != l.Addr().String() || last.TLS == nil || !last.TLS.HandshakeComplete {
				t.Errorf("the client was seen as %+v", last)
			}
			if (len(seen) == 2) == implicit || seen[0].TLS != nil != implicit {
				t.Errorf("implicit %v: %d sessions", implicit, len(seen))
			}
			p.Close()
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		log := strings.Join(h.log(), "\n")
		if strings.Count(log, "data \"") != 1 || !strings.Contains(log, "data lost") || strings.Contains(log, "data refused") {
			t.Errorf("the sessions saw\n%.500s", log)
		}
	}
}

// dialTLS connects, and comes to the point of the greeting or of STARTTLS.
func dialTLS(t *testing.T, addr string, implicit bool) *peer {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	p := &peer{c, t, bufio.NewReader(c)}
	leaf, err := x509.ParseCertificate(testCertificate().Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	config := &tls.Config{RootCAs: roots, ServerName: "foo.com"}
	if implicit {
		p.handshake(config)
		p.expect("220")
		return p
	}
	p.expect("220")
	p.say("STARTTLS")
	p.expect("220 2.0.0")
	p.handshake(config)
	return p
}

// clients is a recorder that keeps who came.
type clients struct {
	recorder
	seen []Client
}

func (h *clients) all() []Client {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Client(nil), h.seen...)
}

func (h *clients) Open(ctx context.Context, c Client) (Session, smtp.Reply) {
	h.mu.Lock()
	h.seen = append(h.seen, c)
	h.mu.Unlock()
	return h.recorder.Open(ctx, c)
}

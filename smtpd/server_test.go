package smtpd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtp"
)

// running is a server in a bubble.
type running struct {
	t      *testing.T
	s      *Server
	l      *pipeListener
	served chan error
}

// run starts s in the present bubble.
func run(t *testing.T, ctx context.Context, s *Server) *running {
	r := &running{t, s, newPipeListener(), make(chan error, 1)}
	go func() { r.served <- s.Serve(ctx, r.l) }()
	return r
}

// stop wants the server to end in peace.
func (r *running) stop() {
	r.t.Helper()
	if err := r.s.Shutdown(context.Background()); err != nil {
		r.t.Errorf("Shutdown: %v", err)
	}
	if err := <-r.served; err != nil {
		r.t.Errorf("Serve: %v", err)
	}
}

// A peer is a client that a test drives.
type peer struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func (r *running) dial(from string) *peer {
	c := r.l.dial(from)
	_ = c.SetReadDeadline(time.Now().Add(24 * time.Hour))
	return &peer{c, r.t, bufio.NewReader(c)}
}

// expect reads one reply and compares the front of its String.
func (p *peer) expect(want string) {
	p.t.Helper()
	got, err := smtp.ReadReply(p.in)
	if err != nil || !strings.HasPrefix(got.String(), want) {
		p.t.Fatalf("got %v, %v; want %s", got, err, want)
	}
}

func (p *peer) say(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p, format+"\r\n", args...); err != nil {
		p.t.Fatalf("say: %v", err)
	}
}

// ended wants nothing more to come.
func (p *peer) ended() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.in); len(rest) > 0 || err != nil && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Errorf("got %q, %v; want the end", rest, err)
	}
}

// transaction begins one, up to its first recipient.
func (p *peer) transaction() {
	p.t.Helper()
	p.say("HELO x")
	p.expect("250")
	p.say("MAIL FROM:<a@b>")
	p.expect("250")
	p.say("RCPT TO:<c@d>")
	p.expect("250")
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, t.Context(), &Server{Handler: &recorder{}, MaxConns: 4, MaxConnsPerPeer: 2,
			Exempt: func(a netip.Addr) bool { return a.IsLoopback() }})
		defer r.stop()
		a1 := r.dial("192.0.2.1:1")
		a1.expect("220")
		a2 := r.dial("[::ffff:192.0.2.1]:2")
		a2.expect("220")
		a3 := r.dial("192.0.2.1:3")
		a3.expect("421 4.7.0")
		a3.ended()
		// One IPv6 network is one peer.
		b1 := r.dial("[2001:db8::1]:1")
		b1.expect("220")
		a1.Close()
		synctest.Wait()
		b2 := r.dial("[2001:db8::ffff:1]:1")
		b2.expect("220")
		r.dial("[2001:db8::2]:1").expect("421 4.7.0")
		// What an exempt peer has is counted in all only.
		b2.say("QUIT")
		b2.expect("221")
		b2.ended()
		synctest.Wait()
		l1, l2 := r.dial("127.0.0.1:1"), r.dial("127.0.0.1:2")
		l1.expect("220")
		l2.expect("220")
		full := r.dial("127.0.0.1:3")
		full.expect("421 4.3.2")
		full.ended()
		l1.Close()
		l2.Close()
		synctest.Wait()
		a4 := r.dial("192.0.2.1:4")
		a4.expect("220")
		r.dial("192.0.2.1:5").expect("421 4.7.0") // a2 is still there
		if n := len(r.s.conns); n != 3 {
			t.Errorf("%d connections are counted, want 3", n)
		}
		a2.Close()
		a4.Close()
		b1.Close()
		synctest.Wait()
		if len(r.s.conns) != 0 || len(r.s.peers) != 0 {
			t.Errorf("%v %v are counted when nobody is there", r.s.conns, r.s.peers)
		}
	})
}

// A peer that is turned away and does not read holds up nobody, nor do more of
// them than hear a 421.
func TestTurnedAwayWithoutReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, t.Context(), &Server{Handler: &recorder{}, MaxConns: 1})
		defer r.stop()
		first := r.dial("192.0.2.1:1")
		first.expect("220")
		for range 3 * turnedMax {
			r.dial("192.0.2.2:1")
		}
		first.say("NOOP")
		first.expect("250")
		time.Sleep(2 * turnedTime)
		if n := r.s.turned.Load(); n != 0 {
			t.Errorf("%d connections are still being turned away", n)
		}
		first.Close()
		synctest.Wait()
		again := r.dial("192.0.2.1:1")
		again.expect("220")
		again.Close()
	})
}

func TestShutdownDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &recorder{}
		r := run(t, t.Context(), &Server{Handler: h})
		fresh, idle, busy, data := r.dial("192.0.2.1:1"), r.dial("192.0.2.1:2"), r.dial("192.0.2.1:3"), r.dial("192.0.2.1:4")
		for _, p := range []*peer{fresh, idle, busy, data} {
			p.expect("220")
		}
		idle.say("HELO x")
		idle.expect("250")
		busy.transaction()
		data.transaction()
		data.say("DATA")
		data.expect("354")
		data.say("half")
		synctest.Wait()

		done := make(chan error, 1)
		go func() { done <- r.s.Shutdown(context.Background()) }()
		for _, p := range []*peer{fresh, idle} {
			p.expect("421 4.3.2")
			p.ended()
		}
		time.Sleep(time.Minute)
		select {
		case err := <-done:
			t.Fatalf("Shutdown returned %v before the transactions ended", err)
		default:
		}
		data.say(".")
		data.expect("250")
		data.expect("421 4.3.2")
		data.ended()
		busy.say("RCPT TO:<e@f>")
		busy.expect("250")
		busy.say("RSET")
		busy.expect("250")
		busy.expect("421 4.3.2")
		busy.ended()
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-r.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := r.s.Serve(t.Context(), newPipeListener()); err != nil {
			t.Errorf("Serve after Shutdown: %v", err)
		}
		if !strings.Contains(strings.Join(h.log(), "\n"), `data "half\r\n"`) {
			t.Errorf("the message was not taken: %q", h.log())
		}
		if err := r.s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown, a second time: %v", err)
		}
	})
}

func TestShutdownCutsOff(t *testing.T) {
	for _, how := range []string{"Shutdown", "the context of Serve"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &recorder{}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				r := run(t, ctx, &Server{Handler: h})
				p := r.dial("192.0.2.1:1")
				p.expect("220")
				p.transaction()
				p.say("DATA")
				p.expect("354")
				p.say("half")
				synctest.Wait()
				if how == "Shutdown" {
					brief, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if err := r.s.Shutdown(brief); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Shutdown: %v", err)
					}
				} else {
					cancel()
				}
				p.expect("421 4.3.2")
				p.ended()
				if err := <-r.served; err != nil {
					t.Errorf("Serve: %v", err)
				}
				if log := strings.Join(h.log(), "\n"); !strings.Contains(log, "data lost true\nclose") {
					t.Errorf("the session saw\n%s", log)
				}
			})
		})
	}
}

// The context of a session ends with a hard stop, also in the middle of a call.
func TestHardStopEndsTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &blocking{entered: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		r := run(t, ctx, &Server{Handler: h})
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		p.say("HELO x")
		<-h.entered
		cancel()
		p.expect("451 4.3.0")
		p.expect("421 4.3.2")
		p.ended()
		if err := <-r.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// blocking is a Handler whose Hello waits for the end of its context.
type blocking struct {
	recorder
	entered chan struct{}
}

func (h *blocking) Open(context.Context, Client) (Session, smtp.Reply) {
	return blockingSession{recorderSession{&h.recorder}, h.entered}, smtp.OK
}

type blockingSession struct {
	recorderSession
	entered chan struct{}
}

func (s blockingSession) Hello(ctx context.Context, _ string, _ bool) smtp.Reply {
	close(s.entered)
	<-ctx.Done()
	return smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 3, Detail: 0}}
}

// A client that pipelines and never reads is given up, and not buffered for.
func TestClientThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, t.Context(), &Server{Handler: &recorder{}})
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		begin := time.Now()
		n := 0
		for {
			if _, err := io.WriteString(p, "RSET\r\n"); err != nil {
				break
			}
			n++
		}
		if waited := time.Since(begin); n > 4*gatherMax || waited < 2*time.Minute || waited > 3*time.Minute {
			t.Errorf("%d commands were taken, and the end came after %v", n, waited)
		}
	})
}

func TestLongLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, t.Context(), &Server{Handler: &recorder{}, MaxErrors: 100})
		defer r.stop()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		for _, c := range []struct {
			octets int // of the line, with its CRLF
			want   string
		}{{512, "250"}, {1036, "250"}, {lineMax, "250"}, {lineMax + 1, "500 5.5.2"}, {4096, "500 5.5.2"}, {4097, "500 5.5.2"},
			{4098, "500 5.5.2"}, {8192, "500 5.5.2"}, {swallowMax, "500 5.5.2"}} {
			p.say("NOOP %s", strings.Repeat("x", c.octets-len("NOOP \r\n")))
			p.expect(c.want)
			p.say("NOOP") // still in step
			p.expect("250")
		}
		// A line end cannot hide behind the limit, and an LF alone does not make the
		// count begin again.
		p.say("NOOP %s\nRSET", strings.Repeat("x", 5000))
		p.expect("500 5.5.2 Command line too long")
		p.say("NOOP %s", strings.Repeat("x\n", lineMax))
		p.expect("500 5.5.2 Command line too long")
		p.say("NOOP %s", strings.Repeat("x\n", 100))
		p.expect("500 5.5.2 A line ends in CR LF")
		go func() {
			for range 64 {
				if _, err := io.WriteString(p, strings.Repeat("x", 1<<20)); err != nil {
					return
				}
			}
			t.Error("64 MiB without a line end were read")
		}()
		p.expect("421 4.7.0")
		p.ended()
	})
}

// A failingListener fails to accept for a while.
type failingListener struct {
	*pipeListener
	fails atomic.Int32
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.fails.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.pipeListener.Accept()
}

// A lack of file descriptors is waited out, without a spin, and told once.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alarms := 0
		s := &Server{Handler: &recorder{}, Alarm: func(err error) {
			if !errors.Is(err, syscall.EMFILE) {
				t.Errorf("alarm: %v", err)
			}
			alarms++
		}}
		l := &failingListener{pipeListener: newPipeListener()}
		l.fails.Store(20)
		begin := time.Now()
		r := &running{t, s, l.pipeListener, make(chan error, 1)}
		go func() { r.served <- s.Serve(t.Context(), l) }()
		p := r.dial("192.0.2.1:1")
		p.expect("220")
		if waited := time.Since(begin); waited < 10*time.Second || alarms != 1 {
			t.Errorf("20 failures took %v and gave %d alarms", waited, alarms)
		}
		p.Close()
		synctest.Wait()
		// A listener that somebody else closes is the end, and an error.
		l.Close()
		if err := <-r.served; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

// A halfConn can close one direction, as TCP can.
type halfConn struct {
	net.Conn
	halfClosed atomic.Bool
}

func (c *halfConn) CloseWrite() error {
	c.halfClosed.Store(true)
	return nil
}

// A client that is given up in the middle of what it sends is read from for a
// moment more: the kernel would answer unread input with a reset, and the reset
// may destroy the 421 that is on its way. The moment has bounds.
func TestLastWords(t *testing.T) {
	for _, c := range []struct {
		name    string
		say     string
		lingers bool
	}{{"421", "FOO\r\n", true}, {"QUIT", "QUIT\r\n", false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, t.Context(), &Server{Handler: &recorder{}, MaxErrors: 1})
				client, server := net.Pipe()
				half := &halfConn{Conn: server}
				r.l.conns <- half
				go func() { _, _ = io.Copy(io.Discard, client) }()
				_, _ = io.WriteString(client, c.say)
				begin, n := time.Now(), 0
				for ; n < 1000; n++ {
					if _, err := client.Write(make([]byte, 1<<10)); err != nil {
						break
					}
				}
				if half.halfClosed.Load() != c.lingers || c.lingers != (n > 0) || n > lingerMax>>10 {
					t.Errorf("half closed: %v, then %d KiB read", half.halfClosed.Load(), n)
				}
				if time.Since(begin) > lingerTime {
					t.Errorf("closed after %v", time.Since(begin))
				}
				client.Close()
				r.stop()
			})
		})
	}
}

// Over TCP, whole transactions at the same time.
func TestOverTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &recorder{}
	s := &Server{Handler: h}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), l) }()
	content := strings.Repeat("..a line of the content\r\n", 10_000)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			group := "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n" + content + ".\r\n"
			go func() { _, _ = io.WriteString(c, "HELO x\r\n"+group+group+"QUIT\r\n") }()
			in := bufio.NewReader(c)
			for _, want := range []int{220, 250, 250, 250, 354, 250, 250, 250, 354, 250, 221} {
				if r, err := smtp.ReadReply(in); err != nil || r.Code != want {
					t.Errorf("%v, %v; want %d", r, err, want)
					return
				}
			}
		})
	}
	clients.Wait()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	want := fmt.Sprintf("data %q", strings.ReplaceAll(content, "..", "."))
	n := 0
	for _, call := range h.log() {
		if call == want {
			n++
		}
	}
	if n != 16 {
		t.Errorf("%d of 16 messages came whole", n)
	}
}

// A writeCounter counts how often its connection is written to.
type writeCounter struct {
	net.Conn
	n *atomic.Int32
}

func (c writeCounter) Write(p []byte) (int, error) {
	c.n.Add(1)
	return c.Conn.Write(p)
}

// RFC 2920 3.2: a server "SHOULD elect to store responses to grouped RSET, MAIL
// FROM [...] and RCPT TO commands in an internal buffer so they can sent as a
// unit", and "MUST NOT buffer responses to EHLO, DATA, VRFY, EXPN, TURN, QUIT, and
// NOOP", nor "to unrecognized commands".
func TestRepliesGather(t *testing.T) {
	for group, want := range map[string]int32{
		"RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<unknown@d>\r\nRSET\r\n": 1,
		"RSET\r\nNOOP\r\nRSET\r\n":                                          2,
		"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\n":                 2,
		"NOOP\r\nNOOP\r\nNOOP\r\n":                                          3,
		"RSET\r\nFOO\r\nRSET\r\n":                                           2,
		strings.Repeat("RSET\r\n", 500):                                     2, // the bound of what is gathered
		"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nRSET\r\nQUIT\r\n": 3,
		// The replies to chunks wait for the last.
		"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 2\r\n\r\nBDAT 2\r\n\r\nBDAT 0 LAST\r\n":                        1,
		"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 2\r\n\r\nBDAT 2\r\n\r\n":                                       1,
		"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 0 LAST\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 0 LAST\r\n": 2,
	} {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, t.Context(), &Server{Handler: &recorder{}, MaxIdle: 1000})
			client, server := net.Pipe()
			writes := &atomic.Int32{}
			r.l.conns <- writeCounter{server, writes}
			go func() { _, _ = io.Copy(io.Discard, client) }()
			_, _ = io.WriteString(client, "EHLO x\r\n")
			synctest.Wait()
			writes.Store(0)
			_, _ = io.WriteString(client, group)
			synctest.Wait()
			if got := writes.Load(); got != want {
				t.Errorf("%.60q: answered in %d writes, want %d", group, got, want)
			}
			client.Close()
			r.stop()
		})
	}
}

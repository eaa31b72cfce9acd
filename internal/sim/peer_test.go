package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A peerTalk is a client that speaks to one peer by hand.
type peerTalk struct {
	t    *testing.T
	n    *Network
	p    *Peer
	h    *Host
	conn net.Conn
	r    *bufio.Reader
}

// withPeer runs f against a peer with a habit.
func withPeer(t *testing.T, h Habit, f func(c *peerTalk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(3)
		c := &peerTalk{t: t, n: n, p: NewPeer(n, 3, "mx.b.example", "10.0.0.2", h), h: n.Host("10.0.0.1", "a 1")}
		if err := c.p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		f(c)
		if c.conn != nil {
			c.conn.Close()
		}
		time.Sleep(time.Second)
		c.p.Stop()
	})
}

// dial connects anew.
func (c *peerTalk) dial() *peerTalk {
	c.t.Helper()
	if c.conn != nil {
		c.conn.Close()
	}
	conn, err := c.h.DialContext(c.t.Context(), "tcp", "10.0.0.2:25")
	if err != nil {
		c.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(30 * time.Minute))
	c.conn, c.r = conn, bufio.NewReader(conn)
	return c
}

// read reads one reply, of any number of lines.
func (c *peerTalk) read() (string, error) {
	for {
		line, err := c.r.ReadString('\n')
		if err != nil || len(line) < 4 || line[3] != '-' {
			return strings.TrimSpace(line), err
		}
	}
}

// say sends lines, and wants the beginnings of their replies.
func (c *peerTalk) say(pairs ...string) *peerTalk {
	c.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != "" {
			fmt.Fprintf(c.conn, "%s\r\n", pairs[i])
		}
		if got, err := c.read(); err != nil || !strings.HasPrefix(got, pairs[i+1]) {
			c.t.Errorf("%q: %q %v, want %s", pairs[i], got, err, pairs[i+1])
		}
	}
	return c
}

// mail makes one message ready up to its content.
func (c *peerTalk) mail() *peerTalk {
	c.t.Helper()
	return c.dial().say("", "220", "EHLO a", "250", "MAIL FROM:<a@a>", "250", "RCPT TO:<b@b>", "250", "DATA", "354")
}

func (c *peerTalk) fired(kind string, want int) {
	c.t.Helper()
	if got := c.n.Fired()["peer_"+kind]; got != want {
		c.t.Errorf("%s fired %d times, want %d", kind, got, want)
	}
}

func TestPeerHonest(t *testing.T) {
	withPeer(t, Habit{}, func(c *peerTalk) {
		c.mail().say("Subject: x\r\n\r\n..\r\n..two\r\nend\r\n.", "250")
		time.Sleep(time.Second)
		c.say("QUIT", "221")
		m := c.p.Taken()
		if len(m) != 1 || string(m[0].Content) != "Subject: x\r\n\r\n.\r\n.two\r\nend\r\n" || m[0].From != "a@a" ||
			m[0].Rcpts[0] != "b@b" || m[0].Final != 250 || !m[0].Sent || !m[0].Heard {
			t.Errorf("%+v", m)
		}
		if len(c.n.Fired())+len(c.p.Breaches()) > 0 || c.p.Peak() != 1 {
			t.Error(c.n.Fired(), c.p.Breaches(), c.p.Peak())
		}
	})
}

// What no client may do is written down.
func TestPeerBreaches(t *testing.T) {
	withPeer(t, Habit{Plain: 1, SevenBit: 1}, func(c *peerTalk) {
		c.dial().say("", "220", "EHLO a", "250", "MAIL FROM:<a@a> SIZE=5", "555", "MAIL FROM:a", "501", "MAIL FROM:<a@a>\r\nRCPT TO:<b@b>", "250", "", "250",
			"DATA", "354", "bare\nlf \xff\r\n"+strings.Repeat("x", 2000)+"\r\n.", "250")
		fmt.Fprintf(c.conn, "QUIT\n")
		time.Sleep(time.Second)
		if b := c.p.Breaches(); len(b) != 6 {
			t.Errorf("%q", b)
		}
	})
}

func TestPeerGreylist(t *testing.T) {
	withPeer(t, Habit{Greylist: 2, GreyTime: time.Hour}, func(c *peerTalk) {
		c.dial().say("", "220", "EHLO a", "250", "MAIL FROM:<a@a>", "250", "RCPT TO:<b@b>", "451", "RCPT TO:<b@b>", "451",
			"RCPT TO:<c@b>", "451", "RCPT TO:<b@b>", "250")
		time.Sleep(2 * time.Hour)
		c.dial().say("", "220", "EHLO a", "250", "MAIL FROM:<a@a>", "250", "RCPT TO:<b@b>", "451")
		c.fired("greylist", 4)
		c.p.Calm()
		c.say("RCPT TO:<d@b>", "250")
	})
}

func TestPeerPolicies(t *testing.T) {
	withPeer(t, Habit{Refuse: []string{"no-"}, RcptMax: 1, SizeMax: 100}, func(c *peerTalk) {
		c.p.Calm()
		c.dial().say("", "220", "EHLO a", "250", "MAIL FROM:<a@a> SIZE=101", "552", "MAIL FROM:<a@a>", "250",
			"RCPT TO:<no-one@b>", "550", "RCPT TO:<b@b>", "250", "RCPT TO:<c@b>", "452", "DATA", "354", strings.Repeat("line\r\n", 50)+".", "552")
		if r := c.p.Refusals(); len(r) != 3 || r[1].To != "no-one@b" || r[1].Code != 550 || r[2].To != "b@b" || r[2].Code != 552 {
			t.Errorf("%+v", r)
		}
		if len(c.p.Taken()) > 0 {
			t.Error("it took what it refused")
		}
	})
}

// What a peer does at the final dot.
func TestPeerAtTheDot(t *testing.T) {
	for _, c := range []struct {
		kind  string
		habit Habit
		reply string
		err   error
		taken bool
		sent  bool
	}{
		{"drop_early", Habit{DropEarly: 1}, "", io.EOF, false, false},
		{"drop_late", Habit{DropLate: 1}, "", io.EOF, true, false},
		{"lie_later", Habit{LieLater: 1}, "451", nil, true, true},
		{"reset_late", Habit{ResetLate: 1}, "250", syscall.ECONNRESET, true, true},
		{"refuse_late", Habit{RefuseLate: 1}, "554", nil, false, false},
		{"defer_late", Habit{DeferLate: 1}, "451", nil, false, false},
		{"silence_late", Habit{SilenceLate: 1}, "", errTimeout, true, false},
	} {
		withPeer(t, c.habit, func(talk *peerTalk) {
			talk.mail()
			fmt.Fprintf(talk.conn, "%s.\r\n", strings.Repeat("line\r\n", 100))
			got, err := talk.read()
			var nerr net.Error
			if errors.As(err, &nerr) && nerr.Timeout() {
				err = errTimeout
			}
			heard := err == nil && got[:3] == c.reply
			if !heard && !errors.Is(err, c.err) && !(c.err == io.EOF && errors.Is(err, syscall.ECONNRESET)) {
				t.Errorf("%s: %q, %v", c.kind, got, err)
			}
			talk.fired(c.kind, 1)
			m := talk.p.Taken()
			if len(m) == 1 != c.taken || c.taken && (m[0].Sent != c.sent || m[0].Heard != (heard && c.taken)) {
				t.Errorf("%s: %+v", c.kind, m)
			}
		})
	}
}

var errTimeout = errors.New("timeout")

func TestPeerConnections(t *testing.T) {
	withPeer(t, Habit{Busy: 1}, func(c *peerTalk) { c.dial().say("", "421"); c.fired("busy", 1) })
	withPeer(t, Habit{HeloOnly: 1}, func(c *peerTalk) {
		c.dial().say("", "220", "EHLO a", "502", "HELO a", "250", "MAIL FROM:<>", "250")
		c.fired("helo_only", 1)
	})
	withPeer(t, Habit{CloseFirst: 1}, func(c *peerTalk) {
		c.dial().say("", "220")
		if _, err := c.read(); err != io.EOF {
			t.Error(err)
		}
	})
	withPeer(t, Habit{Tarpit: 1, TarpitMax: time.Minute}, func(c *peerTalk) {
		start := time.Now()
		c.dial().say("", "220", "EHLO a", "250")
		if d := time.Since(start); d < 100*time.Millisecond || d > 2*time.Minute {
			t.Error(d)
		}
		c.fired("tarpit", 1)
	})
	withPeer(t, Habit{Connections: 2, Messages: 1}, func(c *peerTalk) {
		c.dial().say("", "220").dial().say("", "220").dial().say("", "421")
		time.Sleep(time.Minute)
		c.mail().say(".", "250", "MAIL FROM:<a@a>", "421")
		c.fired("connection_rate", 1)
		c.fired("message_rate", 1)
	})
	withPeer(t, Habit{}, func(c *peerTalk) {
		for range 3 {
			c.dial()
			c.conn = nil
		}
		c.dial()
		time.Sleep(time.Second)
		if c.p.Peak() != 4 {
			t.Error(c.p.Peak())
		}
		time.Sleep(peerIdle + time.Minute)
		if c.dial().p.Peak() != 4 {
			t.Error(c.p.Peak())
		}
	})
}

// Every form of garbage comes at every step.
func TestPeerGarbage(t *testing.T) {
	steps, forms := map[string]bool{}, map[uint64]bool{}
	for luck := range uint64(junkForms * 256) {
		j := newJunk(luck * 0x9e3779b97f4a7c15)
		if steps[j.step], forms[j.form] = true, true; j.instead("250 ok\r\n") == "250 ok\r\n" {
			t.Errorf("form %d is no garbage", j.form)
		}
	}
	if len(steps) != len(junkSteps) || len(forms) != junkForms {
		t.Error(steps, forms)
	}
	withPeer(t, Habit{Garbage: 1}, func(c *peerTalk) {
		for range 20 {
			conn := c.dial().conn
			go io.Copy(io.Discard, conn)
			for _, line := range []string{"", "EHLO a\r\n", "MAIL FROM:<a@a>\r\n", "RCPT TO:<b@b>\r\n", "DATA\r\n", ".\r\n"} {
				io.WriteString(c.conn, line)
				time.Sleep(time.Second)
			}
		}
		spoilt := c.n.Fired()["peer_garbage"]
		if spoilt != 20 {
			t.Error(spoilt)
		}
		for _, m := range c.p.Taken() {
			spoilt += map[bool]int{false: 1}[m.Sent]
		}
		if spoilt == 20 || len(c.p.Taken()) < 20 {
			t.Error(spoilt, len(c.p.Taken()))
		}
	})
}

// A peer that stops resets its connections, and has what it had after a start.
func TestPeerRestart(t *testing.T) {
	withPeer(t, Habit{}, func(c *peerTalk) {
		c.mail().say("x\r\n.", "250")
		c.p.Stop()
		if _, err := c.read(); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		if err := c.p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c.mail().say("y\r\n.", "250"); len(c.p.Taken()) != 2 {
			t.Error(c.p.Taken())
		}
	})
}

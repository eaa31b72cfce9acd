package smtpd

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtp"
)

// only is the one connection of a server.
func (r *running) only() *conn {
	r.t.Helper()
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for c := range r.s.conns {
		return c
	}
	r.t.Fatal("there is no connection")
	return nil
}

// A connection that waits has nothing in hand, whatever it waits for: a command, the
// rest of one, the next command of a transaction. What it waits for it takes as ever,
// also in one octet after the other.
func TestConnectionAtRest(t *testing.T) {
	for _, lead := range []string{"", "N", "NOOP", "NOOP\r", "NOOP " + strings.Repeat("x", firstSize-6)} {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, t.Context(), &Server{Handler: &recorder{}})
			defer r.stop()
			p := r.dial("192.0.2.1:1")
			p.expect("220")
			p.say("EHLO x")
			p.expect("250")
			p.say("MAIL FROM:<a@b>")
			p.expect("250")
			for i, b := range []byte(lead) {
				if i < 3 {
					time.Sleep(time.Second)
				}
				_, _ = p.Write([]byte{b})
			}
			time.Sleep(2 * briefly)
			synctest.Wait()
			if c := r.only(); c.desk != nil || string(c.first[:c.have]) != lead {
				t.Errorf("at %q: a desk %v, %q is kept", lead, c.desk != nil, c.first[:c.have])
			}
			line := lead + "\r\n"
			if len(lead) < len("NOOP") {
				line = "NOOP\r\n"
			} else if strings.HasSuffix(lead, "\r") {
				line = lead + "\n"
			}
			_, _ = io.WriteString(p, line[len(lead):])
			p.expect("250")
			p.say("RCPT TO:<c@d>")
			p.expect("250")
			p.say("QUIT")
			p.expect("221")
		})
	}
}

// A client at rest is cut off when its time is over, to the second, and one that
// sends an octet now and then is too.
func TestTimeoutAtRest(t *testing.T) {
	for _, every := range []time.Duration{0, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, t.Context(), &Server{Handler: &recorder{}})
			defer r.stop()
			p := r.dial("192.0.2.1:1")
			p.expect("220")
			begin := time.Now()
			var dripping sync.WaitGroup
			dripping.Go(func() {
				for every > 0 {
					time.Sleep(every)
					if _, err := p.Write([]byte("x")); err != nil {
						return
					}
				}
			})
			p.expect("421 4.4.2")
			if waited := time.Since(begin).Round(time.Second); waited != 5*time.Minute {
				t.Errorf("after %v", waited)
			}
			p.Close()
			dripping.Wait()
		})
	}
}

// A line has one deadline, also where the connection was at rest between its octets and
// took up work again with as many as are kept at rest. The next line has one of its own.
func TestOneDeadlineOfALine(t *testing.T) {
	for _, first := range []int{1, firstSize - 4, firstSize - 1, firstSize} {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, t.Context(), &Server{Handler: &recorder{}})
			defer r.stop()
			p := r.dial("192.0.2.1:1")
			p.expect("220")
			line := "NOOP " + strings.Repeat("x", firstSize-len("NOOP "))
			half := func() {
				_, _ = io.WriteString(p, line[:first])
				time.Sleep(4*time.Minute + 50*time.Second)
				_, _ = io.WriteString(p, line[first:])
			}
			half()
			p.say("")
			p.expect("250")
			begin := time.Now()
			half()
			p.expect("421 4.4.2")
			if waited := time.Since(begin).Round(time.Second); waited != 5*time.Minute {
				t.Errorf("%d octets first: after %v", first, waited)
			}
			p.Close()
		})
	}
}

// A content that comes slowly is the same content, in whatever pieces, and its
// connection has no buffer while it waits for more of it. What comes with its end is
// the next command, whole.
func TestContentAtRest(t *testing.T) {
	wire := strings.Repeat("Subject: x\r\n\r\n..a\r\n..\r\nb\r\n", 5)
	for _, by := range []string{"DATA", "BDAT"} {
		for _, piece := range []int{1, firstSize - 1, firstSize, firstSize + 1, 2 * firstSize} {
			synctest.Test(t, func(t *testing.T) { contentAtRest(t, by, wire, piece) })
		}
	}
}

func contentAtRest(t *testing.T, by, wire string, piece int) {
	h := &keeper{}
	r := run(t, t.Context(), &Server{Handler: h, MinRate: -1})
	defer r.stop()
	p := r.dial("192.0.2.1:1")
	p.expect("220")
	p.say("EHLO x")
	p.expect("250")
	p.say("MAIL FROM:<a@b>")
	p.expect("250")
	p.say("RCPT TO:<c@d>")
	p.expect("250")
	content, want := wire+".\r\nNOOP\r\n", strings.ReplaceAll(wire, "\r\n..", "\r\n.")
	if by == "BDAT" {
		content, want = wire+"NOOP\r\n", wire
		p.say("BDAT %d LAST", len(wire))
	} else {
		p.say("DATA")
		p.expect("354")
	}
	ahead := len("NOOP\r\n") // comes in one piece with what is before it
	for i := 0; i < len(content); {
		time.Sleep(time.Second)
		synctest.Wait()
		if c := r.only(); c.buf != nil {
			t.Fatalf("%s in pieces of %d: a buffer of %d octets waits for octet %d", by, piece, len(c.buf), i)
		}
		end := min(i+piece, len(content))
		if end >= len(content)-ahead {
			end = len(content)
		}
		_, _ = io.WriteString(p, content[i:end])
		i = end
	}
	p.expect("250")
	if h.String() != want {
		t.Errorf("%s in pieces of %d: kept %q, want %q", by, piece, h.String(), want)
	}
	p.expect("250 2.0.0 OK") // to NOOP
	p.say("QUIT")
	p.expect("221")
	p.Close()
}

// A keeper is a Handler and Session that keeps the content.
type keeper struct {
	quietSession
	bytes.Buffer
}

func (k *keeper) Open(context.Context, Client) (Session, smtp.Reply) { return k, smtp.Reply{} }
func (k *keeper) Reset()                                             {}
func (k *keeper) Data(_ context.Context, content io.Reader) []smtp.Reply {
	if _, err := io.Copy(&k.Buffer, content); err != nil {
		return nil
	}
	return []smtp.Reply{smtp.OK}
}

package relay

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
)

// RFC 5321 3.8 has 421 for a server that closes for want of room: a host that said so to
// each of many has one connection at a time until it takes mail again.
func TestLessAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 8
		w, p := single()
		p.wait = time.Minute
		p.replies = map[string]string{"RCPT": "421 4.7.0 too many connections"}
		r := w.relay(Options{})
		var wg sync.WaitGroup
		all := func(want string) {
			for range many {
				wg.Go(func() {
					if got := deliver(t, r, "b@example.org")[0]; got != want {
						t.Errorf("%s, want %s", got, want)
					}
				})
			}
			synctest.Wait()
		}
		all("deferred/dest 421 4.7.0 too many connections (example.org)")
		if n := w.holds(mx1); n != many {
			t.Errorf("%d connections at first, want %d", n, many)
		}
		wg.Wait()
		synctest.Wait()
		p.replies = nil
		all(delivered + " (example.org)")
		if n := w.holds(mx1); n != 1 {
			t.Errorf("%d connections after so many times 421, want 1", n)
		}
		wg.Wait()
		w.done(t, r)
	})
}

// A host that let us wait, and to which the call that finds out comes through, is called
// again by the next attempt, whatever it says then: it answers calls.
func TestTurnedAwayAfterSilence(t *testing.T) {
	for _, greeting := range []string{"421 4.3.2 busy", "450 4.3.2 busy", "<close>", "what is this", "<silence>"} {
		t.Run(greeting, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, p := single()
				w.hung[mx1] = true
				r := w.relay(Options{})
				try := func() string { return deliver(t, r, "b@example.org")[0] }
				if got := try(); !strings.HasSuffix(got, "timed out") {
					t.Errorf("when nobody answers: %s", got)
				}
				time.Sleep(downMin)
				delete(w.hung, mx1)
				p.replies = map[string]string{"": greeting} // nobody has asked yet
				for i := range 2 {
					if got := try(); !strings.HasPrefix(got, "deferred/") || len(w.dials) != i+2 {
						t.Errorf("call %d after that: %s; %d calls in all", i, got, len(w.dials))
					}
				}
				synctest.Wait()
				p.replies = nil
				wantDelivered(t, []string{try()})
				w.done(t, r)
			})
		})
	}
}

// A line is a network that carries so many octets in a second.
type line struct {
	*world
	rate int
}

func (l line) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := l.world.DialContext(ctx, network, addr)
	if err == nil {
		c = lineConn{c, l.rate}
	}
	return c, err
}

type lineConn struct {
	net.Conn
	rate int
}

func (c lineConn) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * time.Second / time.Duration(c.rate))
	return c.Conn.Write(p)
}

// RFC 5321 4.5.3.2: "the overall timeout is inherently proportional to the size of the
// message": long mail over a slow line arrives, though it takes longer than an attempt at
// a short one may.
func TestLongMailOverASlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		r := New(Options{Hello: "us.example", Resolver: w.zone, Network: line{w, rateMin}})
		text := strings.Repeat(strings.Repeat("x", 1022)+"\r\n", int(3*timeMax/2/time.Second))
		d := delivery(t, postrider.ViaMX, "b@example.org")
		d.Message.Size, d.Content = int64(len(text)), &content{m: d.Message, text: text}
		began := time.Now()
		wantDelivered(t, []string{describe(r.Deliver(t.Context(), d)[0])})
		if took := time.Since(began); took < timeMax+timePerRcpt {
			t.Errorf("it took %v, which short mail may take as well", took)
		}
		w.done(t, r)
		if len(p.contents) != 1 || p.contents[0] != text {
			t.Errorf("%d contents came", len(p.contents))
		}
	})
}

package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// pipes are the network of a bubble: listeners by their address, and one host beyond, if any.
type pipes struct {
	mu     sync.Mutex
	all    map[string]*pipeDoor
	beyond func(net.Conn) // serves a connection to wherever; nil: there is nothing
}

// A pipeDoor is a listener whose connections are in memory.
type pipeDoor struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Listen(_ context.Context, _, addr string) (net.Listener, error) {
	d := &pipeDoor{conns: make(chan net.Conn), done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[addr] = d
	return d, nil
}

func (p *pipes) DialContext(context.Context, string, string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.beyond == nil {
		return nil, errors.New("there is nothing beyond")
	}
	ours, theirs := net.Pipe()
	go p.beyond(theirs)
	return ours, nil
}

// dial connects to one of the listeners.
func (p *pipes) dial(addr string) net.Conn {
	p.mu.Lock()
	d := p.all[addr]
	p.mu.Unlock()
	client, server := net.Pipe()
	d.conns <- server
	return client
}

func (d *pipeDoor) Accept() (net.Conn, error) {
	select {
	case c := <-d.conns:
		return c, nil
	case <-d.done:
		return nil, net.ErrClosed
	}
}

func (d *pipeDoor) Close() error {
	d.once.Do(func() { close(d.done) })
	return nil
}

func (d *pipeDoor) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// startPiped starts a node that holds the mail of our.example, with all its
// listeners in a bubble.
func startPiped(t *testing.T, disk vfs.FS, change func(*config.Config)) (*still, *pipes) {
	t.Helper()
	cfg := config.Builtin("data")
	cfg.Listeners, cfg.TLS = cfg.Listeners[:1], config.TLS{}
	cfg.Listeners[0].TLS = config.TLSNone
	cfg.Domains[0].Name, cfg.Domains[0].Deliver = "our.example", postrider.Route{Via: postrider.ViaHold}
	if change != nil {
		change(cfg)
	}
	s, network := &still{t: t}, &pipes{all: map[string]*pipeDoor{}}
	var err error
	s.Node, err = New(cfg, Env{FS: disk, DNS: dns.NewZone(), Now: time.Now, Net: network,
		Control: func(ctx context.Context, _ string) (net.Listener, error) {
			return network.Listen(ctx, "unix", "control:80")
		},
		Rand: func(string) *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }, Log: slog.New(slog.NewJSONHandler(s, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, network
}

// A pipeClient says one line after the other.
type pipeClient struct {
	net.Conn
	in *bufio.Reader
}

func (p *pipes) client() (pipeClient, smtp.Reply) {
	c := p.dial("127.0.0.1:2525")
	client := pipeClient{c, bufio.NewReader(c)}
	return client, client.reply()
}

func (c pipeClient) say(line string) smtp.Reply {
	if _, err := io.WriteString(c, line+"\r\n"); err != nil {
		return smtp.Reply{Code: 421, Text: err.Error()}
	}
	return c.reply()
}

func (c pipeClient) reply() smtp.Reply {
	r, err := smtp.ReadReply(c.in)
	if err != nil {
		return smtp.Reply{Code: 421, Text: err.Error()}
	}
	return r
}

// send sends a message, and returns the first reply that was not positive, or the last.
func (c pipeClient) send() (r smtp.Reply) {
	for _, line := range []string{"MAIL FROM:<s@x.example>", "RCPT TO:<r@our.example>", "DATA", "Subject: x\r\n\r\nx\r\n."} {
		if r = c.say(line); !r.Positive() && !r.Intermediate() {
			return r
		}
	}
	return r
}

// While the disk takes two seconds for a flush, whoever waits for one waits; what
// needs none is answered at once: commands, the queue, metrics.
func TestSlowFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s, network := startPiped(t, disk, nil)
		disk.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind == vfs.OpSync {
				return 2 * time.Second
			}
			return 0
		})
		began := time.Now()
		sent := make(chan time.Duration, 1)
		busy, r := network.client()
		if busy.say("EHLO busy.example"); r.Code != 220 {
			t.Fatal(r)
		}
		go func() {
			if r := busy.send(); !r.Positive() {
				t.Errorf("the message: %v", r)
			}
			sent <- time.Since(began)
		}()
		time.Sleep(500 * time.Millisecond) // amid the flush
		at := time.Now()
		c, r := network.client()
		if r.Code != 220 {
			t.Fatal(r)
		}
		for _, line := range []string{"EHLO x.example", "NOOP", "MAIL FROM:<s@x.example>", "RCPT TO:<r@our.example>", "RSET", "VRFY r", "QUIT"} {
			if r := c.say(line); !r.Positive() {
				t.Errorf("%s: %v", line, r)
			}
		}
		web := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			return network.dial(addr), nil
		}}}
		for _, url := range []string{"http://control/api/v1/queue/stat", "http://control/api/v1/queue", "http://127.0.0.1:8025/metrics", "http://127.0.0.1:8025/healthz"} {
			res, err := web.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("%s: %s, %v", url, res.Status, err)
			}
			res.Body.Close()
		}
		if took := time.Since(at); took > 100*time.Millisecond {
			t.Errorf("what needs no flush took %v", took)
		}
		if took := <-sent; took < 2*time.Second || took > 7*time.Second {
			t.Errorf("the message took %v", took)
		}
		busy.Close()
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// More clients than may connect, with more messages than may wait, on a slow disk:
// each hears 250, late, or a reply by which it comes again; what was said 250 to is
// there, and nothing else.
func TestOverload(t *testing.T) {
	const conns, most, clients, each = 10, 60, 40, 3
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s, network := startPiped(t, disk, func(cfg *config.Config) {
			cfg.Limits.Connections, cfg.Queue.MaxRecipients = conns, most
		})
		disk.SetDelay(func(op vfs.Op) time.Duration {
			if op.Kind == vfs.OpSync {
				return 300 * time.Millisecond
			}
			return 0
		})
		var mu sync.Mutex
		heard := map[string]int{}
		note := func(r smtp.Reply) {
			mu.Lock()
			defer mu.Unlock()
			heard[fmt.Sprintf("%d %s", r.Code, r.Status)]++
		}
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				time.Sleep(time.Duration(i/20) * 10 * time.Second) // twenty at a time
				for left := each; left > 0; {
					c, r := network.client()
					if r.Code != 220 {
						note(r)
						c.Close()
						time.Sleep(time.Second) // and comes again
						continue
					}
					c.say("EHLO x.example")
					for ; left > 0; left-- {
						note(c.send())
					}
					c.say("QUIT")
					c.Close()
				}
			})
		}
		wg.Wait()
		took, n := heard["250 2.0.0"], 0
		for reply, times := range heard {
			if n += times; !strings.HasPrefix(reply, "250 ") && !strings.HasPrefix(reply, "421 4.") && reply != "452 4.3.1" {
				t.Errorf("%d times %s", times, reply)
			}
		}
		if took != most || n-heard["421 4.3.2"] != clients*each || heard["421 4.3.2"] == 0 {
			t.Errorf("heard %v, want %d taken of %d, and some that were turned away", heard, most, clients*each)
		}
		if st := s.store.Stat(); st.Recipients != took {
			t.Errorf("%d wait, and %d were taken", st.Recipients, took)
		}
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

// A peer is a server at one address. It takes everything, but for what its
// replies say: by command line, by verb, "." for the final dot, "" for the
// greeting. A reply of several lines is joined by "\n"; "<close>" hangs up, and
// "<silence>" says nothing more.
type peer struct {
	replies map[string]string
	exts    []string
	worn    string // what MAIL is answered on a connection that has brought a message

	mu       sync.Mutex
	dials    int
	commands []string
	contents []string
}

func (p *peer) reply(used bool, line string) string {
	verb, _, _ := strings.Cut(line, " ")
	if used && verb == "MAIL" && p.worn != "" {
		return p.worn
	}
	for _, key := range []string{line, verb} {
		if r, ok := p.replies[key]; ok {
			return r
		}
	}
	switch verb {
	case "":
		return "220 ready"
	case "EHLO":
		return strings.Join(append([]string{"250-hello"}, p.exts...), "\n250-") + "\n250 HELP"
	case "DATA":
		return "354 go ahead"
	case "QUIT":
		return "221 bye"
	}
	return "250 ok"
}

func (p *peer) serve(conn net.Conn) {
	defer conn.Close()
	p.mu.Lock()
	p.dials++
	p.mu.Unlock()
	used := false
	r := bufio.NewReaderSize(conn, 64<<10)
	for line := ""; ; {
		reply := p.reply(used, line)
		switch reply {
		case "<close>":
			return
		case "<silence>":
			io.Copy(io.Discard, r)
			return
		}
		if _, err := io.WriteString(conn, strings.ReplaceAll(reply, "\n", "\r\n")+"\r\n"); err != nil {
			return
		}
		if line == "DATA" && strings.HasPrefix(reply, "354") {
			if !p.content(r) {
				return
			}
			line, used = ".", true
			continue
		}
		s, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(s, "\r\n")
		p.mu.Lock()
		p.commands = append(p.commands, line)
		p.mu.Unlock()
	}
}

// content reads up to the dot.
func (p *peer) content(r *bufio.Reader) bool {
	var b strings.Builder
	for {
		s, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if s == ".\r\n" {
			break
		}
		b.WriteString(s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contents = append(p.contents, b.String())
	return true
}

// said returns the commands that begin with a verb.
func (p *peer) said(verb string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.commands), func(s string) bool { return !strings.HasPrefix(s, verb) })
}

// A world is a network of peers and the zone that names them.
type world struct {
	zone  *dns.Zone
	peers map[string]*peer // by address and port
	hung  map[string]bool  // addresses where nobody answers at all
	own   map[string]bool  // addresses that are ours
	mu    sync.Mutex
	dials []string
	wg    sync.WaitGroup
}

func newWorld() *world {
	return &world{zone: dns.NewZone(), peers: map[string]*peer{}, hung: map[string]bool{}, own: map[string]bool{}}
}

func (w *world) Listen(context.Context, string, string) (net.Listener, error) {
	return nil, errors.New("nobody listens here")
}

func (w *world) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	w.dials = append(w.dials, addr)
	w.mu.Unlock()
	if w.hung[addr] {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	}
	p := w.peers[addr]
	if p == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	client, server := net.Pipe()
	w.wg.Go(func() { p.serve(server) })
	return client, nil
}

func (w *world) relay(o Options) *Relay {
	o.Hello, o.Resolver, o.Network = "us.example", w.zone, w
	o.Local = func(a netip.AddrPort) bool { return w.own[a.String()] }
	return New(o)
}

// done closes a relay, and shows that nothing of it stays.
func (w *world) done(t *testing.T, r *Relay) {
	t.Helper()
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	w.wg.Wait()
}

// A content is a Content held in memory; err comes in place of its end.
type content struct {
	m    *postrider.Message
	text string
	err  error
}

func (c *content) Message() *postrider.Message { return c.m }
func (c *content) Head() []byte                { return nil }
func (c *content) Close() error                { return nil }

func (c *content) Reader() io.Reader {
	if c.err != nil {
		return io.MultiReader(strings.NewReader(c.text), failing{c.err})
	}
	return strings.NewReader(c.text)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// delivery is one attempt at a message of that many octets to some recipients.
func delivery(t *testing.T, via postrider.Via, to ...string) *postrider.Delivery {
	t.Helper()
	m := &postrider.Message{ID: "m", From: smtp.Path{Local: "a", Domain: "example.net"}, Size: 12}
	d := &postrider.Delivery{Message: m, Route: postrider.Route{Via: via}}
	for i, s := range to {
		p, err := smtp.ParsePath(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		m.Recipients = append(m.Recipients, postrider.Recipient{To: p})
		d.Rcpts = append(d.Rcpts, i)
	}
	d.Content = &content{m: m, text: "Subject: x\r\n"}
	return d
}

// describe writes an outcome in one line.
func describe(o postrider.Outcome) string {
	scope := [...]string{"recipient", "message", "dest"}[o.Scope]
	s := fmt.Sprintf("%s/%s %d %s %s", o.Result, scope, o.Reply.Code, o.Reply.Status, o.Reply.Text)
	if o.Remote != "" {
		s += " (" + o.Remote + ")"
	}
	if o.Uncertain {
		s += " uncertain"
	}
	if o.PeerHasDSN {
		s += " dsn"
	}
	return s
}

func seeded() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

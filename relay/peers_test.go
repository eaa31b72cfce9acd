package relay

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
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
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

// A peer is a server at one address. It takes everything, but for what its
// replies say: by command line, by verb, "." for the final dot, "" for the
// greeting; under TLS with "tls:" before it, and over LMTP ".<recipient>" too. A
// reply of several lines is joined by "\n"; "<close>" hangs up, "<silence>" says
// nothing more, and "<tls>" in a reply shakes hands after the text before it.
type peer struct {
	replies map[string]string
	exts    []string
	secured []string    // exts under TLS
	tls     *tls.Config // spoken after "<tls>"
	lmtp    bool
	rcptMax int           // recipients of one transaction; 0: any number
	worn    string        // what MAIL is answered on a connection that has brought a message
	wait    time.Duration // before each reply

	mu       sync.Mutex
	dials    int
	commands []string
	contents []string
	secure   []bool // whether each of the contents came over TLS
}

func (p *peer) reply(used, secure bool, line string) string {
	verb, _, _ := strings.Cut(line, " ")
	if used && verb == "MAIL" && p.worn != "" {
		return p.worn
	}
	keys := []string{line, verb}
	if secure {
		keys = []string{"tls:" + line, "tls:" + verb, line, verb}
	}
	for _, key := range keys {
		if r, ok := p.replies[key]; ok {
			return r
		}
	}
	exts := p.exts
	if secure {
		exts = p.secured
	}
	switch verb {
	case "":
		return "220 ready"
	case "EHLO", "LHLO":
		if p.lmtp != (verb == "LHLO") {
			return "500 5.5.1 what"
		}
		return strings.Join(append([]string{"250-hello"}, exts...), "\n250-") + "\n250 HELP"
	case "AUTH":
		return "235 2.7.0 welcome"
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
	used, secure := false, false
	r := bufio.NewReaderSize(conn, 64<<10)
	var rcpts []string // accepted ones
	for line := ""; ; {
		if p.wait > 0 {
			<-time.After(p.wait)
		}
		reply := p.reply(used, secure, line)
		switch {
		case line == "." && p.lmtp:
			reply = p.finals(rcpts)
		case strings.HasPrefix(line, "RCPT") && p.rcptMax > 0 && len(rcpts) >= p.rcptMax:
			reply = "452 4.5.3 too many"
		}
		switch reply {
		case "<close>":
			return
		case "<silence>":
			io.Copy(io.Discard, r)
			return
		}
		reply, shake := strings.CutSuffix(reply, "<tls>")
		if reply != "" {
			if _, err := io.WriteString(conn, strings.ReplaceAll(reply, "\n", "\r\n")+"\r\n"); err != nil {
				return
			}
		}
		if strings.Contains(reply, "<hangs up>") {
			return
		}
		if shake {
			over := tls.Server(conn, p.tls)
			if over.Handshake() != nil {
				return
			}
			defer over.Close()
			conn, r, secure, used = over, bufio.NewReaderSize(over, 64<<10), true, false
			if line == "" {
				line = " " // the greeting, under TLS
				io.WriteString(conn, "220 ready\r\n")
			}
		}
		switch {
		case line == "DATA" && strings.HasPrefix(reply, "354"):
			if !p.content(r, secure) {
				return
			}
			line, used = ".", true
			continue
		case strings.HasPrefix(line, "MAIL"):
			rcpts = nil
		case strings.HasPrefix(line, "RCPT") && reply[0] == '2':
			rcpts = append(rcpts, line[len("RCPT TO:"):])
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

// finals are the replies of LMTP to the final dot.
func (p *peer) finals(rcpts []string) string {
	var replies []string
	for _, to := range rcpts {
		to, _, _ = strings.Cut(to, " ")
		reply, ok := p.replies["."+to]
		if !ok {
			reply = "250 2.0.0 ok"
		}
		replies = append(replies, reply)
		if reply == "<hangs up>" {
			break
		}
	}
	return strings.Join(replies, "\n")
}

// content reads up to the dot.
func (p *peer) content(r *bufio.Reader, secure bool) bool {
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
	p.contents, p.secure = append(p.contents, b.String()), append(p.secure, secure)
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
	open  map[string]int // connections that we have not closed, by address
	most  map[string]int // of them at a time
	wg    sync.WaitGroup
}

func newWorld() *world {
	return &world{
		zone: dns.NewZone(), peers: map[string]*peer{}, hung: map[string]bool{}, own: map[string]bool{}, open: map[string]int{}, most: map[string]int{},
	}
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
	w.count(addr, 1)
	return &counted{Conn: client, closed: sync.OnceFunc(func() { w.count(addr, -1) })}, nil
}

// count takes down that we have opened or closed a connection.
func (w *world) count(addr string, more int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[addr] += more
	w.most[addr] = max(w.most[addr], w.open[addr])
}

// holds is how many connections to an address we have open.
func (w *world) holds(addr string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open[addr]
}

// A counted is a connection that says when we close it.
type counted struct {
	net.Conn
	closed func()
}

func (c *counted) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

func (w *world) relay(o Options) *Relay {
	o.Hello, o.Resolver, o.Network = cmp.Or(o.Hello, "us.example"), w.zone, w
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
	for addr, n := range w.open {
		if n != 0 {
			t.Errorf("%d connections to %s are left", n, addr)
		}
	}
	for s, g := range r.pool.gates {
		if !g.idle() {
			t.Errorf("the gate of %v is left with %+v", s, g)
		}
	}
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
	if o.Uncertain != "" {
		s += " uncertain"
	}
	if o.PeerHasBy {
		s += " by"
	}
	if o.PeerHasDSN {
		s += " dsn"
	}
	if o.Final {
		s += " final"
	}
	return s
}

func seeded() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

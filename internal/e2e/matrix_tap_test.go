package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A tap stands between a client and a server and keeps what they say to each other,
// in the clear after STARTTLS too: it has a certificate of its own and answers for
// the server. It can take keywords out of the answer to EHLO, so that the client
// meets a server that lacks them.
type tap struct {
	addr string
	to   string
	lack smtp.Extensions // taken out
	cert tls.Certificate

	l     net.Listener
	wait  sync.WaitGroup
	mu    sync.Mutex
	wires []*wire
	open  map[net.Conn]bool
}

// newTap listens until the test ends.
func newTap(t *testing.T, to string, lack smtp.Extensions) *tap {
	t.Helper()
	c := newCertificate(t, "tap.example", "127.0.0.1")
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", freeIP()+":0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{addr: l.Addr().String(), to: to, lack: lack, cert: pair, l: l, open: map[net.Conn]bool{}}
	p.wait.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for c := range p.open {
			c.Close()
		}
		p.mu.Unlock()
		p.wait.Wait()
	})
	return p
}

func (p *tap) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		w := &wire{}
		p.mu.Lock()
		p.wires = append(p.wires, w)
		p.open[client], p.open[server] = true, true
		p.mu.Unlock()
		p.wait.Go(func() {
			p.pass(w, client, server)
			client.Close()
			server.Close()
		})
	}
}

// heard returns the transactions of all connections so far, and what was wrong with
// what the client sent.
func (p *tap) heard() (all []transaction, wrong []string) {
	p.mu.Lock()
	wires := slices.Clone(p.wires)
	p.mu.Unlock()
	for _, w := range wires {
		f := w.follow()
		all, wrong = append(all, f.done...), append(wrong, f.wrong...)
	}
	return all, wrong
}

// A wire is what went over one connection, in the order in which the tap saw it.
type wire struct {
	mu     sync.Mutex
	client []byte
	server []byte
	after  []mark // of the client: how much of the server's words had gone out before
}

type mark struct{ client, server int }

func (w *wire) fromClient(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.after = append(w.after, mark{len(w.client), len(w.server)})
	w.client = append(w.client, b...)
}

func (w *wire) fromServer(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.server = append(w.server, b...)
}

// pass carries both directions until one ends.
func (p *tap) pass(w *wire, client, server net.Conn) {
	for {
		secure := p.carry(w, client, server)
		if !secure {
			return
		}
		c := tls.Server(client, &tls.Config{Certificates: []tls.Certificate{p.cert}})
		s := tls.Client(server, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
		if c.Handshake() != nil || s.Handshake() != nil {
			return
		}
		client, server = c, s
	}
}

// carry is pass up to the answer to STARTTLS, and reports whether that is 220.
func (p *tap) carry(w *wire, client, server net.Conn) (secure bool) {
	asked := make(chan string, 1) // EHLO or STARTTLS was the last line of the client
	done := make(chan struct{})
	var up sync.WaitGroup
	up.Go(func() {
		defer server.SetReadDeadline(time.Now()) // ends the other direction
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			w.fromClient(buf[:n])
			verb := ""
			if line := buf[:n]; n < 600 && bytes.HasSuffix(line, []byte("\r\n")) {
				verb = strings.ToUpper(string(line[:min(4, n)]))
			}
			if verb == "EHLO" || verb == "STAR" {
				asked <- verb
			}
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
			if verb == "STAR" {
				<-done
				return
			}
		}
	})
	secure = p.down(w, client, server, asked)
	close(done)
	if !secure {
		client.SetReadDeadline(time.Now())
	}
	up.Wait()
	server.SetReadDeadline(time.Time{})
	return secure
}

// down carries what the server says.
func (p *tap) down(w *wire, client, server net.Conn, asked <-chan string) (secure bool) {
	buf := make([]byte, 64<<10)
	var held []byte // of an answer that is looked at
	verb := ""
	for {
		n, err := server.Read(buf)
		if err != nil {
			return false
		}
		select {
		case verb = <-asked:
		default:
		}
		b := buf[:n]
		if verb != "" {
			held = append(held, b...)
			if !wholeReply(held) {
				continue
			}
			secure = verb == "STAR" && bytes.HasPrefix(held, []byte("220"))
			if b = held; verb == "EHLO" {
				b = without(held, p.lack)
			}
			held, verb = nil, ""
		}
		w.fromServer(b)
		if _, err := client.Write(b); err != nil || secure {
			return secure && err == nil
		}
	}
}

// wholeReply reports whether b ends with the last line of a reply.
func wholeReply(b []byte) bool {
	lines := bytes.Split(b, []byte("\r\n"))
	n := len(lines)
	return n >= 2 && len(lines[n-1]) == 0 && len(lines[n-2]) >= 3 && (len(lines[n-2]) == 3 || lines[n-2][3] == ' ')
}

// noSCRAM takes the mechanisms away by which both ends would find out the tap.
var noSCRAM = strings.NewReplacer(" SCRAM-SHA-256-PLUS", "", " SCRAM-SHA-256", "")

// without takes the lines of extensions out of an answer to EHLO.
func without(b []byte, lack smtp.Extensions) []byte {
	lines := strings.Split(strings.TrimSuffix(string(b), "\r\n"), "\r\n")
	var out []string
	for i, l := range lines {
		if ext, _ := smtp.ParseExtension(l[min(4, len(l)):]); i > 0 && ext != 0 && lack.Has(ext) {
			continue
		}
		out = append(out, l[:3]+"-"+noSCRAM.Replace(l[min(4, len(l)):]))
	}
	last := len(out) - 1
	out[last] = out[last][:3] + " " + out[last][4:]
	return []byte(strings.Join(out, "\r\n") + "\r\n")
}

// A transaction is what a client sent for one message, and how it ended.
type transaction struct {
	offered   smtp.Extensions
	rcptMax   int // that was announced
	used      smtp.Extensions
	mail      string   // the line
	rcpts     []string // the lines
	taken     int      // recipients
	content   []byte
	final     smtp.Reply
	tls, auth bool
}

// A reading follows a wire from both ends.
type reading struct {
	w          *wire
	c, s       int // how far
	now        transaction
	open       bool
	hello      smtp.Extensions
	rcptMax    int
	tls, auth  bool
	done       []transaction
	wrong      []string
	pipelining bool // the command that is read came before the reply to the last one
}

func (f *reading) blame(format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

// reply is the next one; Code 0: there is none yet.
func (f *reading) reply() smtp.Reply {
	var text []string
	for at := f.s; ; {
		n := bytes.Index(f.w.server[at:], []byte("\r\n"))
		if n < 3 {
			return smtp.Reply{}
		}
		line := string(f.w.server[at : at+n])
		at += n + 2
		text = append(text, line[min(4, n):])
		if n == 3 || line[3] == ' ' {
			f.s = at
			var r smtp.Reply
			fmt.Sscan(line[:3], &r.Code)
			r.Text = strings.Join(text, "\n")
			return r
		}
	}
}

// follow reads what a client has said so far against the replies to it.
func (w *wire) follow() *reading {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := &reading{w: w}
	f.reply()
	for f.c < len(w.client) {
		n := bytes.Index(w.client[f.c:], []byte("\r\n"))
		if n < 0 {
			break
		}
		f.pipelining = f.early(f.c)
		line := string(w.client[f.c : f.c+n])
		f.c += n + 2
		if strings.ContainsAny(line, "\r\n\x00") {
			f.blame("a command with a bare CR or LF, or a NUL: %q", line)
		}
		f.command(line)
	}
	return f
}

// early reports whether the octet at c went out before the replies read so far were
// all there.
func (f *reading) early(c int) bool {
	i, _ := slices.BinarySearchFunc(f.w.after, c, func(m mark, c int) int { return m.client - c })
	if i == len(f.w.after) || f.w.after[i].client > c {
		i--
	}
	return f.w.after[i].server < f.s
}

func (f *reading) command(line string) {
	verb, arg, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	if f.pipelining && !f.hello.Has(smtp.ExtPipelining) {
		f.blame("%q came before the last reply, without PIPELINING", line)
	}
	switch verb {
	case "BDAT":
		f.chunk(arg)
		return
	case "MAIL":
		f.begin(line)
	case "RCPT":
		f.now.rcpts = append(f.now.rcpts, line)
		f.params(line)
	}
	if f.pipelining {
		f.now.used |= smtp.ExtPipelining
	}
	r := f.reply()
	switch {
	case verb == "EHLO" || verb == "HELO":
		f.greeted(r)
	case verb == "STARTTLS" && r.Code == 220:
		if !f.hello.Has(smtp.ExtStartTLS) {
			f.blame("STARTTLS that is not offered")
		}
		f.tls, f.hello = true, 0
	case verb == "AUTH":
		f.login(r)
	case verb == "RCPT" && r.Code/100 == 2:
		f.now.taken++
	case verb == "DATA" && r.Code == 354:
		f.content()
	}
}

// greeted reads what is offered.
func (f *reading) greeted(r smtp.Reply) {
	f.hello, f.rcptMax = 0, 0
	for i, l := range strings.Split(r.Text, "\n") {
		ext, params := smtp.ParseExtension(l)
		if i > 0 {
			f.hello |= ext
		}
		if i > 0 && ext == smtp.ExtLimits {
			f.rcptMax = smtp.ParseLimits(params).RcptMax
		}
	}
}

// login reads the lines of a SASL exchange.
func (f *reading) login(r smtp.Reply) {
	if !f.hello.Has(smtp.ExtAuth) {
		f.blame("AUTH that is not offered")
	}
	for r.Code == 334 {
		n := bytes.Index(f.w.client[f.c:], []byte("\r\n"))
		if n < 0 {
			return
		}
		f.c += n + 2
		r = f.reply()
	}
	f.auth = f.auth || r.Code == 235
}

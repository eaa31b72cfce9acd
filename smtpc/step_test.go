package smtpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// A lane carries octets one way, as many as are written, as a network with room does.
type lane struct {
	mu     sync.Mutex
	more   sync.Cond
	b      bytes.Buffer
	closed bool
}

func newLane() *lane {
	l := &lane{}
	l.more.L = &l.mu
	return l
}

func (l *lane) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.b.Len() == 0 && !l.closed {
		l.more.Wait()
	}
	return l.b.Read(p) // io.EOF where it is closed and empty
}

func (l *lane) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.more.Broadcast()
	if l.closed {
		return 0, io.ErrClosedPipe
	}
	return l.b.Write(p)
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.more.Broadcast()
}

// A road is one end of two lanes. It knows no deadlines.
type road struct {
	halfConn
	in, out *lane
}

func newRoads() (client, server *road) {
	a, b := newLane(), newLane()
	return &road{in: a, out: b}, &road{in: b, out: a}
}

func (r *road) Read(p []byte) (int, error)  { return r.in.Read(p) }
func (r *road) Write(p []byte) (int, error) { return r.out.Write(p) }
func (r *road) Close() error                { r.in.close(); r.out.close(); return nil }

// A gate is a listener for one connection.
type gate struct {
	conn chan net.Conn
	done chan struct{}
	once sync.Once
}

func newGate(c net.Conn) *gate {
	g := &gate{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	g.conn <- c
	return g
}

func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.conn:
		return c, nil
	case <-g.done:
		return nil, net.ErrClosed
	}
}
func (g *gate) Close() error   { g.once.Do(func() { close(g.done) }); return nil }
func (g *gate) Addr() net.Addr { return &net.TCPAddr{} }

// A diary is a server's Handler that keeps what it has answered 250 for.
type diary struct {
	verdict func(local string) smtp.Reply // for MAIL and RCPT
	data    []smtp.Reply                  // for the contents, in their order; then 250
	early   bool                          // a refusal comes before the content was read

	mu   sync.Mutex
	kept []string
	told int
}

func (d *diary) Open(context.Context, smtpd.Client) (smtpd.Session, smtp.Reply) {
	return diarySession{d}, smtp.Reply{}
}

type diarySession struct{ d *diary }

func (diarySession) Offer() smtpd.Offer {
	return smtpd.Offer{Extensions: smtp.ExtBinaryMIME | smtp.ExtSMTPUTF8}
}
func (diarySession) Hello(context.Context, string, bool) smtp.Reply { return smtp.OK }
func (s diarySession) Mail(_ context.Context, from smtp.Path, _ smtp.MailParams) smtp.Reply {
	return s.d.verdict(from.Local)
}
func (s diarySession) Rcpt(_ context.Context, to smtp.Path, _ smtp.RcptParams) smtp.Reply {
	return s.d.verdict(to.Local)
}

func (s diarySession) Data(_ context.Context, content io.Reader) []smtp.Reply {
	d := s.d
	d.mu.Lock()
	answer := smtp.OK
	if d.told < len(d.data) {
		answer = d.data[d.told]
	}
	d.told++
	d.mu.Unlock()
	if d.early && !answer.Positive() {
		return []smtp.Reply{answer}
	}
	b, err := io.ReadAll(content)
	if err != nil {
		return []smtp.Reply{{}}
	}
	if answer.Positive() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.kept = append(d.kept, string(b))
	}
	return []smtp.Reply{answer}
}
func (diarySession) Reset() {}
func (diarySession) Close() {}

// serve runs our server for one connection, and returns how to wait for its end.
func (d *diary) serve(t *testing.T, conn net.Conn) (wait func()) {
	g := newGate(conn)
	s := &smtpd.Server{Handler: d, Hostname: "mx.example", MaxErrors: 1000}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), g) }()
	return func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// verdicts are what a letter of the script makes of a command or a content.
var verdicts = []smtp.Reply{{Code: 250, Text: "x"}, {Code: 550, Text: "x"}, {Code: 451, Text: "x"}, {Code: 552, Text: "x"}, {Code: 250, Text: "two\nlines"}}

// FuzzInStep: our client and our server stay in step whatever is sent and whatever
// is answered. The script has transactions, cut by 0xff: how MAIL, two RCPT and the
// content are answered, in which form it goes, and the content. What the client takes
// for taken is what the server has kept, octet for octet, and the other way round.
func FuzzInStep(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00Subject: x\r\n\r\n.\r\n..\xff\x00\x01\x00\x02\x01abc\r\n"), uint8(7), false)
	f.Add([]byte("\x01\x00\x00\x00\x00x\xff\x00\x01\x01\x00\x02y\n.\n\xff\x00\x00\x04\x00\x03\x00\r\r\n.\r\n"), uint8(1), true)
	f.Add([]byte("\x00\x00\x00\x01\x01"+strings.Repeat("line\r\n.", 50)+"\xff\x00\x00\x00\x00\x02z"), uint8(30), true)
	f.Fuzz(func(t *testing.T, script []byte, chunk uint8, early bool) {
		if len(script) > 1<<14 {
			return
		}
		d := &diary{early: early, verdict: func(local string) smtp.Reply {
			n, _ := strconv.Atoi(local[1:])
			return verdicts[n%len(verdicts)]
		}}
		client, server := newRoads()
		defer d.serve(t, server)()
		defer client.Close()
		c, err := NewConn(t.Context(), client, Options{Hello: "x", ChunkSize: int(chunk)%64 + 1})
		if err != nil {
			t.Fatal(err)
		}
		for part := range bytes.SplitSeq(script, []byte{0xff}) {
			if len(part) < 5 || !c.Usable() {
				break
			}
			inStep(t, c, d, part)
		}
	})
}

// inStep makes a transaction of a script.
func inStep(t *testing.T, c *Conn, d *diary, part []byte) {
	content := part[5:]
	answer := verdicts[int(part[3])%len(verdicts)]
	d.mu.Lock()
	d.data = append(d.data[:d.told:d.told], answer)
	before := len(d.kept)
	d.mu.Unlock()
	name := func(b byte) smtp.Path { return smtp.Path{Local: fmt.Sprintf("n%d", b), Domain: "example.org"} }
	tx := Transaction{From: name(part[0]), Rcpts: []Rcpt{{To: name(part[1])}, {To: name(part[2])}}, Content: bytes.NewReader(content)}
	switch part[4] % 3 {
	case 1:
		tx.Params.Size = 1 << 20 // so that it goes in chunks
	case 2:
		tx.Params.Body = smtp.BodyBinaryMIME
	}
	res := c.Send(t.Context(), tx)
	var bad *ContentError
	if res.Err != nil && !errors.As(res.Err, &bad) {
		t.Fatalf("%q: %v, %s", part, res.Err, describe(&res))
	}
	want := string(content)
	if tx.Params.Body != smtp.BodyBinaryMIME && want != "" && !strings.HasSuffix(want, "\r\n") {
		want += "\r\n"
	}
	d.mu.Lock()
	kept := d.kept[before:]
	d.mu.Unlock()
	if taken := res.Final.Positive(); taken != (len(kept) == 1) || taken && kept[0] != want || taken && res.Accepted() == 0 {
		t.Fatalf("%q: the client knows of %s, and the server has %q", part, describe(&res), kept)
	}
	for i, b := range part[1:3] {
		said := verdicts[int(b)%len(verdicts)].Code
		if said == 552 {
			said = 452 // RFC 5321 4.5.3.1.10
		}
		if res.Mail.Positive() && res.Rcpts[i].Code != said {
			t.Fatalf("%q: recipient %d was answered %v", part, i, res.Rcpts[i])
		}
	}
	if !c.Usable() {
		return
	}
	if err := c.Noop(t.Context()); err != nil {
		t.Fatalf("%q: out of step: %v", part, err)
	}
}

// FuzzTwoReaders: what our server takes, by DATA or in chunks, the server of
// github.com/emersion/go-smtp takes for the same content, and both then stand at the
// same command. (It takes more: bare CRs and LFs.)
func FuzzTwoReaders(f *testing.F) {
	for _, s := range []string{"a\r\n..b\r\n.\r\n", ".\r\n", "..\r\n.x\r\n\r\n", "a\n.\nb", "a\r\n.\rb\r\n", strings.Repeat("0123456789\r\n..", 90)} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		const long = 1500 // it takes no longer lines
		if len(in) > long {
			return
		}
		wire := twoWire(in, int(chunk))
		d := &diary{verdict: func(string) smtp.Reply { return smtp.OK }}
		client, server := newRoads()
		wait := d.serve(t, server)
		ours := converse(t, client, wire)
		wait()
		if len(d.kept) == 0 {
			return // it may wait for an end that we have seen, or end before we do
		}

		k := &keeper{}
		client, server = newRoads()
		s := gosmtp.NewServer(k)
		s.Domain, s.EnableBINARYMIME, s.ReadTimeout, s.WriteTimeout = "mx.example", true, time.Minute, time.Minute
		done := make(chan struct{})
		go func() { defer close(done); s.Serve(newGate(server)) }()
		theirs := converse(t, client, wire)
		s.Close()
		<-done
		if ours != theirs {
			t.Fatalf("%q: we say %s, they say %s", wire, ours, theirs)
		}
		if _, got, _ := strings.Cut(k.mail[0], "\n"); len(k.mail) != 1 || got != d.kept[0] {
			t.Fatalf("%q: we have %q, they have %q", wire, d.kept, got)
		}
	})
}

// twoWire is a session with in as it stands behind DATA, up to its end, or in chunks.
func twoWire(in []byte, chunk int) string {
	wire := "EHLO x\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n"
	if chunk > 0 {
		for len(in) > chunk {
			wire += fmt.Sprintf("BDAT %d\r\n%s", chunk, in[:chunk])
			in = in[chunk:]
		}
		return wire + fmt.Sprintf("BDAT %d LAST\r\n%sNOOP\r\nQUIT\r\n", len(in), in)
	}
	s := "\r\n" + string(in) + "\r\n.\r\n"
	s, _, _ = strings.Cut(s, "\r\n.\r\n")
	s = strings.TrimPrefix(s+"\r\n.\r\n", "\r\n")
	return wire + "DATA\r\n" + s + "NOOP\r\nQUIT\r\n"
}

// converse sends all of a session and returns the codes of the replies.
func converse(t *testing.T, c *road, wire string) string {
	t.Helper()
	if _, err := io.WriteString(c, wire); err != nil {
		t.Fatal(err)
	}
	c.out.close() // whoever waits for more is not left waiting
	said, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	var codes []string
	for line := range strings.Lines(string(said)) {
		if len(line) > 3 && line[3] == ' ' {
			codes = append(codes, line[:3])
		}
	}
	return strings.Join(codes, " ")
}

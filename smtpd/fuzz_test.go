package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider/smtp"
)

// converse gives all of in to a server in pieces of n octets (0: at once), and
// returns what the server said and what its sessions were asked. The connection
// is taken for one under TLS, so that AUTH is served, without the cost of it.
func converse(t *testing.T, in []byte, n int, lmtp bool) (out []byte, calls []string) {
	h := &recorder{auth: []string{"PLAIN", "LOGIN", "LOOP", "WEAK", "NONE"}}
	s := &Server{Handler: h, Hostname: "foo.com", MaxSize: 200, MaxRcpts: 3, MaxErrors: 10, LMTP: lmtp}
	s.init()
	client, server := net.Pipe()
	var served sync.WaitGroup
	served.Add(1)
	c := &conn{server: s, raw: server, nc: server, base: context.Background(), ended: &served, state: state{lmtp: lmtp},
		client: Client{LMTP: lmtp, TLS: &tls.ConnectionState{Version: tls.VersionTLS13}}}
	go c.run()
	// The server takes in before it gives out only what it has room for, so the
	// two directions run beside each other.
	said := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(client)
		said <- b
	}()
	if n == 0 {
		n = max(1, len(in))
	}
	for rest := in; len(rest) > 0; {
		k := min(n, len(rest))
		if _, err := client.Write(rest[:k]); err != nil {
			break
		}
		rest = rest[k:]
	}
	// A client that says no more, rather than one that is gone: what it sent is
	// answered before it closes. One that has announced a chunk and does not send it
	// runs into a timeout.
	if _, err := client.Write([]byte("\r\n.\r\nQUIT\r\n\r\n.\r\nQUIT\r\n")); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
	out = <-said
	client.Close()
	served.Wait()
	return out, h.log()
}

// inStep follows the input by the replies: one for each line, and after a 354
// one for the content up to its true end; with LMTP one for each recipient. The
// octets of a chunk are no lines.
func inStep(t *testing.T, in, out []byte, lmtp bool) {
	f := &follower{t: t, r: bufio.NewReader(bytes.NewReader(out)), lmtp: lmtp}
	if f.reply().Code != 220 {
		t.Fatal("no greeting")
	}
	for !f.over {
		line, rest, ok := bytes.Cut(in, []byte("\r\n"))
		if !ok {
			f.timeout()
			break
		}
		in = f.command(string(line), rest)
	}
	if rest, _ := io.ReadAll(f.r); len(rest) > 0 {
		t.Fatalf("said %q after the goodbye", rest)
	}
}

// A follower knows of a connection what a client knows.
type follower struct {
	t       *testing.T
	r       *bufio.Reader
	lmtp    bool
	over    bool // a goodbye was said
	mail    bool // a transaction is open, chunks included
	rcpts   int
	chunks  bool
	excused int // how many commands may still depend on a MAIL that was refused
}

func (f *follower) reply() smtp.Reply {
	f.t.Helper()
	r, err := smtp.ReadReply(f.r)
	if err != nil {
		f.t.Fatal(err)
	}
	f.over = f.over || r.Code == 421 || r.Code == 221
	return r
}

// timeout reads the reply to a client that has not sent all that it began, because
// what it said at the end was taken for a part of it.
func (f *follower) timeout() {
	f.t.Helper()
	if r := f.reply(); r.Code != 421 {
		f.t.Fatalf("%v to what has not come", r)
	}
}

// command reads the replies to a line, and returns what comes after it.
func (f *follower) command(line string, in []byte) []byte {
	cmd, bad := smtp.ParseCommand([]byte(line))
	if cmd.Verb == "BDAT" && bad == nil && len(line)+2 <= lineMax {
		return f.chunk(cmd.Arg, in)
	}
	verb, r := cmd.Verb, f.reply()
	switch {
	case f.over:
	case verb == "MAIL" && r.Code == 250:
		f.mail, f.rcpts, f.excused = true, 0, 0
	case verb == "MAIL" && !f.mail && r.Code != 503 && r.Code != 500:
		f.excused = 4
	case verb == "RCPT" && r.Code == 250:
		f.rcpts++
	case r.Code == 354:
		in = f.content(in)
	case r.Code == 250 && (verb == "RSET" || verb == "EHLO" || verb == "HELO" || verb == "LHLO"):
		f.end()
	case r.Code == 503 && f.excused > 0:
		f.excused--
	}
	return in
}

func (f *follower) end() { f.mail, f.chunks, f.rcpts, f.excused = false, false, 0, 0 }

// content reads the replies to what follows a 354.
func (f *follower) content(in []byte) []byte {
	ok := true
	if bytes.HasPrefix(in, []byte(".\r\n")) {
		in = in[3:]
	} else if _, in, ok = bytes.Cut(in, []byte("\r\n.\r\n")); !ok {
		f.timeout()
		return nil
	}
	f.verdicts()
	return in
}

func (f *follower) verdicts() {
	for i := range f.rcpts {
		if i == 0 || f.lmtp {
			f.reply()
		}
	}
	f.end()
}

// chunk reads the replies to a BDAT.
func (f *follower) chunk(arg string, in []byte) []byte {
	c, sized, _ := smtp.ParseChunk(arg)
	if !sized {
		if r := f.reply(); !f.over && (r.Code != 501 || f.reply().Code != 421) {
			f.t.Fatalf("it goes on after BDAT %q: %v", arg, r)
		}
		return nil
	}
	if c.Size > int64(len(in)) {
		f.timeout()
		return nil
	}
	switch {
	case !c.Last:
		if r := f.reply(); f.rcpts > 0 && r.Code != 503 {
			f.chunks = true
		}
	case f.rcpts > 0:
		f.verdicts()
	case f.lmtp && (f.mail || f.excused > 0):
	default:
		f.reply()
	}
	return in[c.Size:]
}

// inOrder checks what the sessions were asked against RFC 5321 4.1.4.
func inOrder(t *testing.T, calls []string) {
	hello, mail, closed, authed := false, false, false, false
	for _, c := range calls {
		word, _, _ := strings.Cut(c, " ")
		switch {
		case closed:
			t.Fatalf("%s after close", c)
		case word == "auth" && (!hello || authed):
			t.Fatalf("%s out of order in %q", c, calls)
		case word == "mail" && !hello, (word == "rcpt" || word == "data" || word == "reset") && !mail:
			t.Fatalf("%s out of order in %q", c, calls)
		}
		switch word {
		case "hello":
			hello = true
		case "mail":
			mail = true
		case "data":
			mail = false
		case "verify":
			authed = c == `verify "" "test" "test"` || authed
		case "close":
			closed = true
		}
	}
	if !closed {
		t.Fatalf("the session was not closed: %q", calls)
	}
}

// FuzzServer: any octets leave the server in step, with its sessions asked in
// order, and it does not matter in which pieces they come.
func FuzzServer(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txt")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		var in strings.Builder
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			if rest, ok := strings.CutPrefix(line, "C: "); ok {
				in.WriteString(rest + "\r\n")
			} else if rest, ok := strings.CutPrefix(line, "R: "); ok {
				s, _ := strconv.Unquote(`"` + rest + `"`)
				in.WriteString(s)
			}
		}
		f.Add([]byte(in.String()), uint8(3))
		f.Add([]byte(in.String()), uint8(131))
	}
	f.Fuzz(func(t *testing.T, in []byte, n uint8) {
		if len(in) > 1<<14 {
			return
		}
		synctest.Test(t, func(t *testing.T) { fuzzServer(t, in, int(n)) })
	})
}

func fuzzServer(t *testing.T, in []byte, n int) {
	lmtp := n >= 128
	out, calls := converse(t, in, 0, lmtp)
	inStep(t, append(bytes.Clone(in), "\r\n.\r\nQUIT\r\n\r\n.\r\nQUIT\r\n"...), out, lmtp)
	inOrder(t, calls)
	out2, calls2 := converse(t, in, n, lmtp)
	if !bytes.Equal(out, out2) || strings.Join(calls, "\n") != strings.Join(calls2, "\n") {
		t.Fatalf("at once:\n%s%s\nin pieces of %d:\n%s%s", out, calls, n, out2, calls2)
	}
}

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
	"testing"

	"github.com/postrider/postrider/smtp"
)

// converse gives all of in to a server in pieces of n octets (0: at once), and
// returns what the server said and what its sessions were asked. The connection
// is taken for one under TLS, so that AUTH is served, without the cost of it.
func converse(t *testing.T, in []byte, n int, lmtp bool) (out []byte, calls []string) {
	h := &recorder{auth: []string{"PLAIN", "LOGIN", "LOOP", "WEAK", "NONE"}}
	s := &Server{Handler: h, Hostname: "foo.com", MaxSize: 200, MaxRcpts: 3, MaxErrors: 10, LMTP: lmtp}
	client, server := net.Pipe()
	c := &conn{server: s, raw: server, nc: server, base: context.Background(), state: state{lmtp: lmtp},
		client: Client{LMTP: lmtp, TLS: &tls.ConnectionState{Version: tls.VersionTLS13}}}
	c.in = bufio.NewReaderSize(c, readSize)
	served := make(chan struct{})
	go func() { defer close(served); c.serve(context.Background()) }()
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
	// answered before it closes.
	if _, err := client.Write([]byte("\r\n.\r\nQUIT\r\n\r\n.\r\nQUIT\r\n")); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
	out = <-said
	client.Close()
	<-served
	return out, h.log()
}

// inStep follows the input by the replies: one for each line, and after a 354
// one for the content up to its true end; with LMTP one for each recipient.
func inStep(t *testing.T, in, out []byte, lmtp bool) {
	rcpts := 0
	r := bufio.NewReader(bytes.NewReader(out))
	first := true
	for {
		reply, err := smtp.ReadReply(r)
		if err != nil {
			t.Fatalf("after %q: %v", in, err)
		}
		switch {
		case reply.Code == 421 || reply.Code == 221:
			if rest, _ := io.ReadAll(r); len(rest) > 0 {
				t.Fatalf("said %q after the goodbye", rest)
			}
			return
		case first:
			first = false
			continue
		}
		line, after, ok := bytes.Cut(in, []byte("\r\n"))
		if !ok {
			t.Fatalf("reply %v to nothing", reply)
		}
		in = after
		if verb, _, _ := strings.Cut(strings.ToUpper(string(line)), " "); reply.Code == 250 && verb == "MAIL" {
			rcpts = 0
		} else if reply.Code == 250 && verb == "RCPT" {
			rcpts++
		}
		if reply.Code == 354 {
			if !bytes.HasPrefix(in, []byte(".\r\n")) {
				if _, in, ok = bytes.Cut(in, []byte("\r\n.\r\n")); !ok {
					t.Fatal("the content has no end")
				}
			} else {
				in = in[3:]
			}
			end := false
			for i := range rcpts {
				if i > 0 && !lmtp {
					break
				}
				if reply, err = smtp.ReadReply(r); err != nil {
					t.Fatalf("after the content: %v", err)
				}
				end = end || reply.Code == 421
			}
			if end {
				if rest, _ := io.ReadAll(r); len(rest) > 0 {
					t.Fatalf("said %q after the goodbye", rest)
				}
				return
			}
		}
	}
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
		lmtp := n >= 128
		out, calls := converse(t, in, 0, lmtp)
		inStep(t, append(bytes.Clone(in), "\r\n.\r\nQUIT\r\n\r\n.\r\nQUIT\r\n"...), out, lmtp)
		inOrder(t, calls)
		out2, calls2 := converse(t, in, int(n), lmtp)
		if !bytes.Equal(out, out2) || strings.Join(calls, "\n") != strings.Join(calls2, "\n") {
			t.Fatalf("at once:\n%s%s\nin pieces of %d:\n%s%s", out, calls, n, out2, calls2)
		}
	})
}

package smtpc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtp"
)

// hello is what a server says until the first transaction.
const hello = "220 mx.example\r\n250-mx.example\r\n250 PIPELINING\r\n"

// answer reads commands from a connection and answers each with the reply that
// fn gives it; the empty reply hangs up. It ends with the connection.
func answer(conn net.Conn, fn func(line string) string) {
	defer conn.Close()
	conn.Write([]byte(fn("")))
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		reply := fn(strings.TrimSuffix(line, "\r\n"))
		if reply == "" {
			return
		}
		conn.Write([]byte(reply))
	}
}

// polite answers every command of an envelope with success.
func polite(line string) string {
	switch {
	case line == "":
		return "220 mx.example\r\n"
	case strings.HasPrefix(line, "EHLO"):
		return "250-mx.example\r\n250 PIPELINING\r\n"
	case line == "DATA":
		return "354 Go ahead\r\n"
	}
	return "250 Ok\r\n"
}

func transaction(t *testing.T, n int) Transaction {
	tx := Transaction{From: path(t, "a@example.net"), Content: strings.NewReader("x\r\n")}
	for i := range n {
		tx.Rcpts = append(tx.Rcpts, Rcpt{To: path(t, fmt.Sprintf("r%d@example.org", i))})
	}
	return tx
}

// TestReplyBounds: a peer that talks without end loses the connection, and the
// message is not lost by it.
func TestReplyBounds(t *testing.T) {
	for name, reply := range map[string]string{
		"60,000 lines":        strings.Repeat("250-x\r\n", 60_000) + "250 x\r\n",
		"a line of 200 KB":    "250 " + strings.Repeat("x", 200<<10) + "\r\n",
		"no end of line":      strings.Repeat("x", 200<<10),
		"another code inside": "250-x\r\n550 x\r\n",
		"NUL":                 "\x00\x00\x00\r\n",
		"code 000":            "000 x\r\n",
		"a bare LF":           "250 x\n",
		"nothing":             "",
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				answer(server, func(line string) string {
					if strings.HasPrefix(line, "MAIL") {
						server.Write([]byte(reply))
						return ""
					}
					return polite(line)
				})
			}()
			c, err := NewConn(t.Context(), client, Options{Hello: "c.example"})
			if err != nil {
				t.Fatal(err)
			}
			res := c.Send(t.Context(), transaction(t, 1))
			if res.Err == nil || c.Usable() {
				t.Errorf("the connection goes on: %s", describe(&res))
			}
			if reply, _ := res.Decides(0); !reply.Temporary() {
				t.Errorf("decided by %v", reply)
			}
			<-done
		})
	}
}

// TestContentFails: when the content cannot be read to its end, no dot goes out
// and the peer sees the connection end.
func TestContentFails(t *testing.T) {
	broken := errors.New("a block is damaged")
	for name, content := range map[string]io.Reader{
		"at once":         errReader{broken},
		"in the middle":   io.MultiReader(strings.NewReader("half a li"), errReader{broken}),
		"after a line":    io.MultiReader(strings.NewReader(strings.Repeat("line\r\n", 50_000)), errReader{broken}),
		"a bare LF":       strings.NewReader("x\n.\r\n"),
		"a bare CR":       strings.NewReader("x\r.\r\n"),
		"a CR at the end": strings.NewReader("x\r"),
	} {
		t.Run(name, func(t *testing.T) {
			client, server := pair(t)
			got := make(chan string, 1)
			go func() {
				defer server.Close()
				server.Write([]byte(polite("")))
				r := bufio.NewReader(server)
				for line := "."; line != "DATA"; {
					line, _ = r.ReadString('\n')
					line = strings.TrimSuffix(line, "\r\n")
					server.Write([]byte(polite(line)))
				}
				b, _ := io.ReadAll(r)
				got <- string(b)
			}()
			c, err := NewConn(t.Context(), client, Options{Hello: "c.example"})
			if err != nil {
				t.Fatal(err)
			}
			tx := transaction(t, 1)
			tx.Content = content
			res := c.Send(t.Context(), tx)
			var ce *ContentError
			if !errors.As(res.Err, &ce) || res.Uncertain || res.Final.Code != 0 || c.Usable() {
				t.Errorf("%s, usable %v", describe(&res), c.Usable())
			}
			if s := <-got; strings.HasSuffix(s, ".\r\n") {
				t.Errorf("the content ended as if it were whole: %q", s[max(0, len(s)-20):])
			}
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestManyRecipients sends more commands than a window holds to a server that
// answers each at once and at length.
//
// RFC 2920 3.1: "Failure to perform this check can lead to deadlock conditions."
func TestManyRecipients(t *testing.T) {
	const n = 3000
	client, server := pair(t)
	server.(*net.TCPConn).SetWriteBuffer(4 << 10)
	client.(*net.TCPConn).SetReadBuffer(4 << 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		answer(server, func(line string) string {
			if strings.HasPrefix(line, "RCPT") {
				return "250 " + strings.Repeat("x", 500) + "\r\n"
			}
			return polite(line)
		})
	}()
	c, err := NewConn(t.Context(), client, Options{Hello: "c.example"})
	if err != nil {
		t.Fatal(err)
	}
	res := c.Send(t.Context(), transaction(t, n))
	if res.Err != nil || res.Accepted() != n || !res.Final.Positive() {
		t.Errorf("accepted %d, final %v, %v", res.Accepted(), res.Final, res.Err)
	}
	c.Close()
	<-done
}

func TestGroupLen(t *testing.T) {
	const start = 50 // what was sent before
	steps := make([]step, 100)
	for i := range steps {
		steps[i].end = start + 100*(i+1)
	}
	if n := groupLen(steps, start); n != groupMax/100 {
		t.Errorf("a group of %d commands, want %d", n, groupMax/100)
	}
	if n := groupLen(steps[:3], start); n != 3 {
		t.Errorf("a group of %d commands, want 3", n)
	}
	for i := range steps {
		steps[i].end += 2 * groupMax // of the first line
	}
	if n := groupLen(steps, start); n != 1 {
		t.Errorf("a group of %d commands, want 1", n)
	}
}

// TestTimeouts: each wait ends after its own time (RFC 5321 4.5.3.2).
func TestTimeouts(t *testing.T) {
	for _, test := range []struct {
		silent string // the command that is not answered
		want   time.Duration
		stage  Stage
	}{
		{"", 5 * time.Minute, StageGreeting},
		{"EHLO", 5 * time.Minute, StageHello},
		{"MAIL", 5 * time.Minute, StageMail},
		{"RCPT", 5 * time.Minute, StageRcpt},
		{"DATA", 2 * time.Minute, StageData},
		{"x", 3 * time.Minute, StageContent},
		{".", 10 * time.Minute, StageFinal},
	} {
		t.Run(test.stage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				defer server.Close()
				go answer(server, func(line string) string {
					switch {
					case strings.HasPrefix(line, test.silent) && (line != "" || test.silent == ""):
						time.Sleep(24 * time.Hour)
						return ""
					case strings.HasPrefix(line, "EHLO"):
						return "250 mx.example\r\n"
					case strings.HasPrefix(line, "xx"):
						return "\r\n"
					}
					return polite(line)
				})
				start := time.Now()
				var stage Stage
				c, err := NewConn(t.Context(), client, Options{Hello: "c.example"})
				var res Result
				if err == nil {
					tx := transaction(t, 1)
					if test.silent == "." {
						tx.Content = strings.NewReader("")
					} else if test.silent == "x" {
						tx.Content = strings.NewReader(strings.Repeat("x\r\n", 1<<20))
					}
					res = c.Send(t.Context(), tx)
					err = res.Err
				}
				e, ok := errors.AsType[*Error](err)
				if !ok {
					t.Fatalf("%v", err)
				}
				stage = e.Stage
				waited := time.Since(start).Truncate(time.Minute)
				if stage != test.stage || waited != test.want {
					t.Errorf("gave up after %v while %v, want %v while %v", waited, stage, test.want, test.stage)
				}
				if res.Uncertain != (test.stage == StageFinal) {
					t.Errorf("uncertain %v", res.Uncertain)
				}
				time.Sleep(25 * time.Hour)
			})
		})
	}
}

// TestRefusedWhileSending: a peer that says no in the middle of the content and
// hangs up has said no, however the content goes.
func TestRefusedWhileSending(t *testing.T) {
	for reply, want := range map[string]string{
		"552 5.3.4 Too big\r\n":    "final 552/5.3.4 552/5.3.4 sending the content",
		"421 4.3.2 Going down\r\n": "final 421/4.3.2 421/4.3.2 sending the content",
		"":                         "final - broke sending the content",
	} {
		for _, chunking := range []bool{false, true} {
			t.Run(fmt.Sprint(want, ", in chunks ", chunking), func(t *testing.T) {
				// Each read returns one reply, as each comes when it is asked for.
				var replies []io.Reader
				said := []string{"220 mx.example\r\n", "250-mx.example\r\n250 PIPELINING\r\n", "250 Ok\r\n", "250 Ok\r\n", "354 Go\r\n", reply}
				want := "mail 250 rcpt 250 data 354 " + want
				if chunking {
					said = []string{"220 mx.example\r\n", "250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n", "250 Ok\r\n", "250 Ok\r\n", reply}
					want = strings.Replace(want, "data 354", "data -", 1)
				}
				for _, r := range said {
					replies = append(replies, strings.NewReader(r))
				}
				conn := &halfConn{r: io.MultiReader(replies...), w: io.Discard, writeMax: 50_000}
				c, err := NewConn(t.Context(), conn, Options{Hello: "c.example"})
				if err != nil {
					t.Fatal(err)
				}
				tx := transaction(t, 1)
				tx.Params.Size = 2 << 20
				tx.Content = strings.NewReader(strings.Repeat("line\r\n", 100_000))
				res := c.Send(t.Context(), tx)
				if got := describe(&res); got != want {
					t.Errorf("%q: got  %s\nwant %s", reply, got, want)
				}
			})
		}
	}
}

// What stands in the reply to HELO below its first line offers nothing: RFC 5321 4.1.1.1
// has extensions in that to EHLO alone.
func TestHELOOffersNothing(t *testing.T) {
	said := strings.NewReader("220 mx.example\r\n502 5.5.1 What\r\n250-mx.example\r\n250-PIPELINING\r\n250 STARTTLS\r\n")
	c, err := NewConn(t.Context(), &halfConn{r: iotest.OneByteReader(said), w: io.Discard, writeMax: 1000}, Options{Hello: "c.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{"PIPELINING", "STARTTLS"} {
		if _, ok := c.Ext(ext); ok {
			t.Errorf("%s is offered", ext)
		}
	}
	if c.Name() != "mx.example" || c.Extended() {
		t.Errorf("%q, extended %v", c.Name(), c.Extended())
	}
}

// A halfConn reads what was written down before, and takes so many octets.
type halfConn struct {
	r        io.Reader
	w        io.Writer
	writeMax int
}

func (c *halfConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *halfConn) Write(p []byte) (int, error) {
	if c.writeMax -= len(p); c.writeMax < 0 {
		return 0, io.ErrClosedPipe
	}
	return c.w.Write(p)
}

func (c *halfConn) Close() error                     { return nil }
func (c *halfConn) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)} }
func (c *halfConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *halfConn) SetDeadline(time.Time) error      { return nil }
func (c *halfConn) SetReadDeadline(time.Time) error  { return nil }
func (c *halfConn) SetWriteDeadline(time.Time) error { return nil }

func TestLiteral(t *testing.T) {
	for want, addr := range map[string]net.Addr{
		"[192.0.2.7]":        &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)},
		"[IPv6:2001:db8::1]": &net.TCPAddr{IP: net.ParseIP("2001:db8::1")},
		"localhost":          &net.UnixAddr{},
	} {
		if got := literal(addr); got != want {
			t.Errorf("literal(%v) = %s, want %s", addr, got, want)
		}
	}
}

// TestCancelled: the end of the context ends a wait, and closes the connection.
func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer server.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := NewConn(ctx, client, Options{}); err == nil || ctx.Err() == nil {
			t.Fatalf("NewConn: %v", err)
		}
		if _, err := client.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection is open: %v", err)
		}
	})
}

// FuzzReplies lets a peer say anything. The dot goes out only after a 3yz to
// DATA, and a message counts as taken only by a 2yz that came after that.
func FuzzReplies(f *testing.F) {
	f.Add([]byte(hello + "250 Ok\r\n250 Ok\r\n354 Go\r\n250 Ok\r\n"))
	f.Add([]byte(hello + "250 Ok\r\n550 No\r\n354 Go\r\n250 Ok\r\n"))
	f.Add([]byte("220 x\r\n500 What\r\n250 x\r\n250 Ok\r\n552 x\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		var out bytes.Buffer
		conn := &halfConn{r: oneByOne{bytes.NewReader(said)}, w: &out, writeMax: 1 << 20}
		c, err := NewConn(t.Context(), conn, Options{})
		if err != nil {
			return
		}
		for range 3 {
			out.Reset()
			res := c.Send(t.Context(), Transaction{From: smtp.Path{}, Rcpts: []Rcpt{{To: smtp.Path{Local: "b", Domain: "example.org"}}},
				Content: strings.NewReader(".\r\nx")})
			dot := strings.HasSuffix(out.String(), "\r\n.\r\n")
			if dot && !res.Data.Intermediate() {
				t.Fatalf("a dot without leave: %s", describe(&res))
			}
			if res.Final.Positive() && (!dot || res.Accepted() == 0 || !res.Mail.Positive() || res.Uncertain) {
				t.Fatalf("taken without reason: %s", describe(&res))
			}
			if reply, _ := res.Decides(0); res.Uncertain && !reply.Temporary() {
				t.Fatalf("decided by %v, and yet uncertain", reply)
			}
			if (res.Err == nil) != c.Usable() {
				t.Fatalf("usable %v after %v", c.Usable(), res.Err)
			}
		}
	})
}

// oneByOne gives an octet at a time, as a slow network may.
type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

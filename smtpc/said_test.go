package smtpc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtp"
)

// What the last chunk comes to. It goes when all before it were taken, so that a peer
// which refuses one never holds a part of a message as the whole. A peer that says 421
// to the last one has said that it does not have the message.
func TestLastChunk(t *testing.T) {
	envelope := []string{"C: MAIL FROM:<a@example.net>", "C: RCPT TO:<r0@example.org>", "S: 250 ok", "S: 250 ok"}
	first := []string{"C: BDAT 3", "C: a"}
	for _, c := range []struct {
		name   string
		server [][]string
		want   string
	}{
		{"the one before is refused", [][]string{first, {"S: 452 4.3.1 full"}}, "mail 250 rcpt 250 data - final 452/4.3.1"},
		{"421 to the last", [][]string{first, {"S: 250 ok", "C: BDAT 3 LAST", "C: b", "S: 421 4.3.2 going down", "S: <close>"}},
			"mail 250 rcpt 250 data - final - 421/4.3.2 waiting for the reply to the final dot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := against(t, append([][]string{chunking("S: 250-PIPELINING"), envelope}, c.server...)...)
			tx := transaction(t, 1)
			tx.Params.Size = 1 << 20
			tx.Content = strings.NewReader("a\r\nb\r\n")
			if res := conn.Send(t.Context(), tx); describe(&res) != c.want || res.Uncertain {
				t.Errorf("got  %s, uncertain %v\nwant %s", describe(&res), res.Uncertain, c.want)
			}
		})
	}
}

// A reply to the final dot that is none there says nothing of what became of the message:
// the peer may have it.
func TestMoreIsNoFinalReply(t *testing.T) {
	conn := against(t, []string{"S: 220 mx.example", "C: EHLO client.example", "S: 250 mx.example",
		"C: MAIL FROM:<a@example.net>", "S: 250 ok", "C: RCPT TO:<r0@example.org>", "S: 250 ok",
		"C: DATA", "S: 354 go ahead", "C: x", "C: .", "S: 354 go on"})
	res := conn.Send(t.Context(), transaction(t, 1))
	if !res.Uncertain || !errors.Is(res.Err, ErrUnexpected) || conn.Usable() {
		t.Errorf("%s, uncertain %v, %v", describe(&res), res.Uncertain, res.Err)
	}
}

// A peer that does not offer 8BITMIME is not told that a content is 7-bit: it would refuse
// the parameter (RFC 6152 has it with the extension alone), and takes the content.
func TestBodyIsNotSaidToAll(t *testing.T) {
	conn := against(t, []string{"S: 220 mx.example", "C: EHLO client.example", "S: 250 mx.example",
		"C: MAIL FROM:<a@example.net>", "S: 250 ok", "C: RCPT TO:<r0@example.org>", "S: 250 ok",
		"C: DATA", "S: 354 go ahead", "C: x", "C: .", "S: 250 taken"})
	tx := transaction(t, 1)
	tx.Params.Body = smtp.Body7Bit
	if res := conn.Send(t.Context(), tx); !res.Final.Positive() {
		t.Errorf("%s: %v", describe(&res), res.Err)
	}
}

// A peer that hung up while it was sent MAIL has said why: for now that counts. That it
// refuses us for good is no word about the message, of which it has heard nothing.
func TestRefusedBeforeMail(t *testing.T) {
	for reply, want := range map[string]string{
		"450 4.7.1 Come later\r\n": "mail - rcpt - data - final - 450/4.7.1 sending MAIL",
		"554 5.7.1 Go away\r\n":    "mail - rcpt - data - final - broke sending MAIL",
	} {
		var replies []io.Reader
		for _, r := range []string{"220 mx.example\r\n", "250 mx.example\r\n", reply} {
			replies = append(replies, strings.NewReader(r))
		}
		conn := &halfConn{r: io.MultiReader(replies...), w: io.Discard, writeMax: len("EHLO c.example\r\n")}
		c, err := NewConn(t.Context(), conn, Options{Hello: "c.example"})
		if err != nil {
			t.Fatal(err)
		}
		if res := c.Send(t.Context(), transaction(t, 1)); describe(&res) != want {
			t.Errorf("%q: got  %s\nwant %s", reply, describe(&res), want)
		}
	}
}

// takesChunks is a peer that thinks for a while over each chunk.
func takesChunks(conn net.Conn, thinks time.Duration) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	io.WriteString(conn, "220 mx.example\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		reply := "250 ok\r\n"
		switch f := strings.Fields(line); f[0] {
		case "EHLO":
			reply = "250-mx.example\r\n250 CHUNKING\r\n"
		case "BDAT":
			var n int64
			fmt.Sscan(f[1], &n)
			io.CopyN(io.Discard, r, n)
			time.Sleep(thinks)
		}
		io.WriteString(conn, reply)
	}
}

// overChunks hands out a connection to a peer that thinks for a while over each chunk, and
// a transaction that goes in two. It is called in a bubble of synctest.
func overChunks(t *testing.T, thinks time.Duration) (*Conn, Transaction) {
	t.Helper()
	near, far := net.Pipe()
	served := make(chan struct{})
	go func() { defer close(served); takesChunks(far, thinks) }()
	t.Cleanup(func() { near.Close(); <-served })
	c, err := NewConn(t.Context(), near, Options{Hello: "client.example", ChunkSize: 3})
	if err != nil {
		t.Fatal(err)
	}
	tx := transaction(t, 1)
	tx.Params.Size = 1 << 20
	tx.Content = strings.NewReader("a\r\nb\r\n")
	return c, tx
}

// A peer may take as long over each chunk as over a whole content: it may look at what it
// has by then. Who gives up before sends all of it again.
func TestChunkHasItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, tx := overChunks(t, 9*time.Minute)
		if res := c.Send(t.Context(), tx); !res.Final.Positive() {
			t.Errorf("%s: %v", describe(&res), res.Err)
		}
	})
}

// The end of a transaction is not that of the connection: what comes after it has its
// own time.
func TestEndIsOfTheTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, tx := overChunks(t, 0)
		tx.End = time.Now().Add(time.Hour)
		if res := c.Send(t.Context(), tx); !res.Final.Positive() {
			t.Fatal(describe(&res))
		}
		time.Sleep(2 * time.Hour)
		if err := c.Noop(t.Context()); err != nil {
			t.Errorf("NOOP an hour after its end: %v", err)
		}
	})
}

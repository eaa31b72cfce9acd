package smtpc

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// chunking is how a dialogue with a peer begins that offers CHUNKING, after the lines of
// what else it offers.
func chunking(more ...string) []string {
	return slices.Concat([]string{"S: 220 mx.example", "C: EHLO client.example", "S: 250-mx.example"}, more, []string{"S: 250 CHUNKING"})
}

// against plays a peer, and hands out a connection to it that sends chunks of three
// octets. The peer's complaints come at the end of the test.
func against(t *testing.T, server ...[]string) *Conn {
	t.Helper()
	client, far := pair(t)
	served := make(chan error, 1)
	go func() { served <- dialogue{server: slices.Concat(server...)}.serve(far) }()
	t.Cleanup(func() {
		client.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	c, err := NewConn(t.Context(), client, Options{Hello: "client.example", ChunkSize: 3})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A content that cannot be read to its end while it goes in chunks leaves no reply
// behind: on the same connection each command of the next transaction has its own.
//
// RFC 3030 2: "A 250 response MUST be sent to each successful BDAT data block within a
// mail transaction."
func TestChunksOfBrokenContent(t *testing.T) {
	envelope := []string{"C: MAIL FROM:<a@example.net>", "C: RCPT TO:<r0@example.org>", "C: RCPT TO:<r1@example.org>"}
	for _, c := range []struct {
		name   string
		server [][]string
	}{
		{"the replies one chunk behind", [][]string{
			chunking("S: 250-PIPELINING"),
			envelope, {"S: 250 ok", "S: 250 ok", "S: 250 ok"},
			{"C: BDAT 3", "C: a", "C: BDAT 3", "C: b", "S: 250 3 octets", "S: 250 6 octets", "C: RSET"},
			envelope, {"C: DATA", "S: 250 reset", "S: 250 ok", "S: 250 ok", "S: 550 5.1.1 nobody", "S: 354 go ahead"},
			{"C: x", "C: .", "S: 451 4.3.0 not now"},
		}},
		{"a reply for each chunk", [][]string{
			chunking(),
			{envelope[0], "S: 250 ok", envelope[1], "S: 250 ok", envelope[2], "S: 250 ok"},
			{"C: BDAT 3", "C: a", "S: 250 3 octets", "C: BDAT 3", "C: b", "S: 250 6 octets", "C: RSET", "S: 250 reset"},
			{envelope[0], "S: 250 ok", envelope[1], "S: 250 ok", envelope[2], "S: 550 5.1.1 nobody"},
			{"C: DATA", "S: 354 go ahead", "C: x", "C: .", "S: 451 4.3.0 not now"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := against(t, c.server...)
			rotten := errors.New("a block is damaged")
			tx := transaction(t, 2)
			tx.Params.Size = 1 << 20 // long
			tx.Content = io.MultiReader(strings.NewReader("a\r\nb\r\nc\r\n"), errReader{rotten})
			res := conn.Send(t.Context(), tx)
			if _, ok := errors.AsType[*ContentError](res.Err); !ok || res.Uncertain || !errors.Is(res.Err, rotten) {
				t.Errorf("the content that breaks off: %s", describe(&res))
			}
			res = conn.Send(t.Context(), transaction(t, 2))
			if got, want := describe(&res), "mail 250 rcpt 250,550/5.1.1 data 354 final 451/4.3.0"; got != want {
				t.Errorf("and the next one:\ngot  %s\nwant %s", got, want)
			}
		})
	}
}

// Two replies to one RCPT, before the content goes in chunks, end the connection, and no
// chunk goes: the one too many would be taken for that to the first chunk, and so on, until
// a last chunk that is refused counts as taken, and the message is lost.
func TestUnaskedBeforeChunks(t *testing.T) {
	for _, c := range []struct {
		name           string
		more, envelope []string
	}{
		{"pipelined", []string{"S: 250-PIPELINING"},
			[]string{"C: MAIL FROM:<a@example.net>", "C: RCPT TO:<r0@example.org>", "S: 250 ok", "S: 250 ok", "S: 250 ok"}},
		{"one by one", nil,
			[]string{"C: MAIL FROM:<a@example.net>", "S: 250 ok", "C: RCPT TO:<r0@example.org>", "S: 250 ok", "S: 250 ok"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := against(t, chunking(c.more...), c.envelope)
			tx := transaction(t, 1)
			tx.Params.Size = 1 << 20
			tx.Content = strings.NewReader("a\r\nb\r\n")
			res := conn.Send(t.Context(), tx)
			if got, want := describe(&res), "mail 250 rcpt 250 data - final - broke sending the content"; got != want || !errors.Is(res.Err, ErrUnasked) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if conn.Usable() {
				t.Error("the connection goes on")
			}
		})
	}
}

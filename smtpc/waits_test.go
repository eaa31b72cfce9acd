package smtpc

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// RFC 5321 4.5.3.2: a client "MUST use per-command timeouts rather than somehow trying to
// time the entire mail transaction". The wait for a reply has nothing of what came before
// it: neither of the replies to the commands that went with its own, nor of a content that
// took long to send. RFC 5321 4.5.3.2.6: "A spurious timeout at this point would be very
// wasteful and would typically result in delivery of multiple copies of the message".
func TestEachReplyHasItsWait(t *testing.T) {
	for _, c := range []struct {
		name  string
		rcpts int
		lines int // of content
		serve func(conn net.Conn)
		least time.Duration // that the transaction takes: more than the wait for one reply
	}{
		{"many slow replies to a group", 5, 0, func(conn net.Conn) {
			answer(conn, func(line string) string {
				if strings.HasPrefix(line, "RCPT") {
					time.Sleep(4 * time.Minute)
				}
				return polite(line)
			})
		}, 20 * time.Minute},
		{"a slow reply to a content that took long", 1, 1 << 13, func(conn net.Conn) {
			slowly(conn, time.Minute, 100*time.Millisecond)
		}, 13 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				served := make(chan struct{})
				go func() { defer close(served); c.serve(far) }()
				defer func() { near.Close(); <-served }()
				conn, err := NewConn(t.Context(), near, Options{Hello: "client.example"})
				if err != nil {
					t.Fatal(err)
				}
				tx := transaction(t, c.rcpts)
				tx.Content = strings.NewReader(strings.Repeat("a line of the content\r\n", c.lines))
				start := time.Now()
				res := conn.Send(t.Context(), tx)
				if res.Err != nil || res.Accepted() != c.rcpts || !res.Final.Positive() {
					t.Errorf("%s: %v", describe(&res), res.Err)
				}
				if took := time.Since(start); took < c.least {
					t.Errorf("it took %v, which is less than %v", took, c.least)
				}
			})
		})
	}
}

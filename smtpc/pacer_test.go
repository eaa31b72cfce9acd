package smtpc

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Each reply has its whole time, whatever deadline was set for one before it, and not
// more.
func TestPacerTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		go func() {
			defer far.Close()
			r := bufio.NewReader(far)
			io.WriteString(far, "220 mx\r\n")
			for n := 0; ; n++ {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				if n == 4 { // the last has no answer
					r.ReadString('\n')
					return
				}
				time.Sleep(3 * time.Minute)
				io.WriteString(far, "250 mx\r\n")
			}
		}()
		c, err := NewConn(t.Context(), near, Options{Hello: "client.example"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if err := c.Noop(t.Context()); err != nil {
				t.Fatalf("NOOP %d: %v", i, err)
			}
		}
		start := time.Now()
		err = c.Noop(t.Context())
		if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took != 5*time.Minute {
			t.Errorf("%v after %v, want a timeout after 5 minutes", err, took)
		}
	})
}

// So has each write; what had gone when an older deadline passed is not sent again.
func TestPacerWritesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		got := make(chan string, 1)
		go func() {
			b := make([]byte, 4)
			io.ReadFull(far, b) // at once
			time.Sleep(50 * time.Second)
			io.ReadFull(far, b[:2]) // the half of the second
			time.Sleep(30 * time.Second)
			io.ReadFull(far, b[2:])
			got <- string(b)
		}()
		p := newPacer(near)
		p.timeout = time.Minute
		if _, err := p.Write([]byte("1234")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Second)
		if n, err := p.Write([]byte("5678")); n != 4 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if s := <-got; s != "5678" {
			t.Errorf("%q came", s)
		}
		start := time.Now()
		_, err := p.Write([]byte("9"))
		if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took != time.Minute {
			t.Errorf("%v after %v, want a timeout after a minute", err, took)
		}
	})
}

// A transaction is over at its End, in the clear as under TLS, though no single wait was:
// a peer that uses up nearly all of each would hold a slot for as long as it likes. What
// comes after it on the same connection has only the bounds of each wait.
func TestTransactionEnds(t *testing.T) {
	const slow = 100 * time.Second // less than any wait for a reply
	for _, secure := range []bool{false, true} {
		for _, c := range []struct {
			name    string
			rcpts   int
			content int           // lines
			every   time.Duration // between two lines of content
			end     time.Duration // 0: none
			stage   Stage         // 0: it is not over
		}{
			{"no end", 5, 1, 0, 0, 0},
			{"in time", 5, 1, 0, 20 * time.Minute, 0},
			{"amid the recipients", 50, 1, 0, 10 * time.Minute, StageRcpt},
			{"before the first reply", 1, 1, 0, time.Minute, StageMail},
			{"before the verdict", 1, 1, 0, 6 * time.Minute, StageFinal},
			{"amid the content", 1, 1 << 13, 100 * time.Millisecond, 10 * time.Minute, StageContent},
		} {
			t.Run(c.name+map[bool]string{true: ", TLS"}[secure], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					near, far := net.Pipe()
					over := make(chan struct{})
					defer func() { near.Close(); <-over }()
					o := Options{Hello: "client.example"}
					if secure {
						o.TLS, far = clientTLS("mx.example"), tls.Server(far, serverTLS())
					}
					go func() { defer close(over); slowly(far, slow, c.every) }()
					conn, err := NewConn(t.Context(), near, o)
					if err != nil {
						t.Fatal(err)
					}
					start := time.Now()
					tx := transaction(t, c.rcpts)
					tx.Content = strings.NewReader(strings.Repeat("a line of the content\r\n", c.content))
					if c.end > 0 {
						tx.End = start.Add(c.end)
					}
					res := conn.Send(t.Context(), tx)
					took := time.Since(start)
					if c.stage == 0 {
						tx = transaction(t, 20) // takes longer than the end before
						if next := conn.Send(t.Context(), tx); res.Err != nil || next.Err != nil || !next.Final.Positive() {
							t.Errorf("%v, and then %v", res.Err, next.Err)
						}
						return
					}
					e, ok := errors.AsType[*Error](res.Err)
					if !ok || e.Stage != c.stage || !errors.Is(e.Err, os.ErrDeadlineExceeded) || took.Truncate(time.Minute) != c.end {
						t.Errorf("%v after %v, want the end after %v, %v", res.Err, took, c.end, c.stage)
					}
				})
			})
		}
	}
}

// slowly is a peer that answers each command after so long, and reads as slowly what
// is not its end of the content.
func slowly(conn net.Conn, slow, every time.Duration) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 16)
	amid := false // the content
	io.WriteString(conn, "220 mx\r\n")
	for {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return
		case amid && line != ".\r\n":
			time.Sleep(every)
			continue
		case strings.HasPrefix(line, "EHLO"):
			io.WriteString(conn, "250 mx\r\n")
			continue
		}
		time.Sleep(slow)
		amid = line == "DATA\r\n"
		io.WriteString(conn, map[bool]string{true: "354 go\r\n", false: "250 ok\r\n"}[amid])
	}
}

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One transaction in so many is cut off by the sink, before the content came to
// its end and after it; each message at most a few times.
const (
	dropBefore = 40
	dropAfter  = 40
)

// A sink is a next hop that notes what it takes, and now and then drops the
// connection where a sender cannot know what became of its message.
type sink struct {
	lag     time.Duration // that it takes to answer a content, at most
	pending atomic.Int32  // contents begun and not yet answered

	mu     sync.Mutex
	rnd    *rand.Rand
	conns  map[net.Conn]bool // nil: over
	copies map[string][]arrival
	torn   []string
	before int // connections dropped before the end of a content
}

// An arrival is one copy of a message that a sink took for one recipient.
type arrival struct {
	began   time.Time // when the sender was asked for the content
	dropped bool      // and never heard that it was taken
}

// newSink listens at addr until the test ends.
func newSink(t *testing.T, addr string, lag time.Duration, rnd *rand.Rand) *sink {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	k := &sink{lag: lag, rnd: rnd, conns: map[net.Conn]bool{}, copies: map[string][]arrival{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { k.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		k.mu.Lock()
		for conn := range k.conns {
			conn.Close()
		}
		k.conns = nil
		k.mu.Unlock()
		all.Wait()
	})
	return k
}

// enter notes a connection; false: it is too late for one.
func (k *sink) enter(conn net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conns == nil {
		return false
	}
	k.conns[conn] = true
	return true
}

func (k *sink) serve(conn net.Conn) {
	defer conn.Close()
	if !k.enter(conn) {
		return
	}
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.conns, conn)
	}()
	r := bufio.NewReaderSize(conn, 64<<10)
	fmt.Fprintf(conn, "220 sink.example ESMTP\r\n")
	var to []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		answer := "250 2.0.0 OK"
		switch strings.ToUpper(verb) {
		case "EHLO":
			answer = "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES"
		case "MAIL", "RSET":
			to = nil
		case "RCPT":
			addr, _, _ := strings.Cut(strings.TrimPrefix(rest, "TO:<"), ">")
			to = append(to, addr)
		case "DATA":
			if !k.data(conn, r, to) {
				return
			}
			continue
		case "QUIT":
			fmt.Fprintf(conn, "221 2.0.0 Bye\r\n")
			return
		}
		if _, err := fmt.Fprintf(conn, "%s\r\n", answer); err != nil {
			return
		}
	}
}

// data takes a content; false: the connection is over.
func (k *sink) data(conn net.Conn, r *bufio.Reader, to []string) bool {
	k.pending.Add(1)
	defer k.pending.Add(-1)
	early, late, lag := k.dice()
	a := arrival{began: time.Now()}
	if _, err := fmt.Fprintf(conn, "354 Go on\r\n"); err != nil {
		return false
	}
	var content bytes.Buffer
	for {
		line, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			err = nil // the rest of a long line follows
		}
		if err != nil {
			return false
		}
		if string(line) == ".\r\n" {
			break
		}
		if early && content.Len() > 200 {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.before++
			return false
		}
		content.Write(bytes.TrimPrefix(line, []byte(".")))
	}
	if lag > 0 {
		<-time.After(lag)
	}
	if a.dropped = k.take(content.Bytes(), to, a, late); a.dropped {
		return false
	}
	_, err := fmt.Fprintf(conn, "250 2.0.0 Taken\r\n")
	return err == nil
}

// dice says whether to drop a connection, and how long an answer takes.
func (k *sink) dice() (early, late bool, lag time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lag > 0 {
		lag = time.Duration(k.rnd.Int64N(int64(k.lag)))
	}
	return k.rnd.IntN(dropBefore) == 0, k.rnd.IntN(dropAfter) == 0, lag
}

// take notes a message, and returns whether its sender is not to hear of it.
func (k *sink) take(content []byte, to []string, a arrival, drop bool) (dropped bool) {
	n, err := name(content)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.torn = append(k.torn, err.Error())
		return false
	}
	for _, addr := range to {
		key := n + " " + addr
		a.dropped = drop && len(k.copies[key]) < 3
		dropped = dropped || a.dropped
		k.copies[key] = append(k.copies[key], a)
	}
	return dropped
}

package sim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// dial returns the error of a connection to a host that listens.
func dialIn(t *testing.T, w Weather, timeout time.Duration) (after time.Duration, fired map[string]int, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		n.SetWeather(w)
		a, b := n.Host("10.0.0.1", "a 1"), n.Host("10.0.0.2", "b 1")
		l, _ := b.Listen(t.Context(), "tcp", "10.0.0.2:25")
		defer l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		start := time.Now()
		_, err = a.DialContext(ctx, "tcp", "10.0.0.2:25")
		after, fired = time.Since(start), n.Fired()
	})
	return after, fired, err
}

func TestDialFaults(t *testing.T) {
	if after, fired, err := dialIn(t, Weather{Refused: 1}, time.Hour); !errors.Is(err, syscall.ECONNREFUSED) || after > time.Second || fired["refused"] != 1 {
		t.Error(err, after, fired)
	}
	if after, fired, err := dialIn(t, Weather{ConnectTimeout: 1}, time.Minute); !errors.Is(err, context.DeadlineExceeded) || after != time.Minute || fired["connect_timeout"] != 1 {
		t.Error(err, after, fired)
	}
	if after, _, err := dialIn(t, Weather{ConnectTimeout: 1}, time.Hour); !errors.Is(err, syscall.ETIMEDOUT) || after != synMax {
		t.Error(err, after)
	}
}

// A host that is down neither dials nor draws; what a dead process dialed does
// not change what the next one meets.
func TestDialDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(1)
		n.SetWeather(Weather{ConnectTimeout: 1})
		h := n.Host("10.0.0.1", "a 1")
		h.Crash()
		if _, err := h.DialContext(t.Context(), "tcp", "10.0.0.2:25"); !errors.Is(err, syscall.ENETDOWN) {
			t.Error(err)
		}
		if len(n.Fired()) > 0 {
			t.Error(n.Fired())
		}
	})
}

// talk plays a whole SMTP dialogue over a pair of ends. It returns what the
// server saw, what the client read, and how the client ended.
func talk(t *testing.T, w Weather, seed uint64) (saw, read string, fired map[string]int, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(seed)
		n.SetWeather(w)
		_, _, near, far := pair(t, n)
		done := make(chan struct{})
		go func() {
			defer close(done)
			saw = serveTalk(far)
		}()
		near.SetDeadline(time.Now().Add(time.Hour))
		r := bufio.NewReader(near)
		for _, line := range []string{"", "EHLO a", "MAIL FROM:<a@a>", "RCPT TO:<b@b>", "RCPT TO:<c@b>", "RCPT TO:<d@b>", "DATA", "one\r\ntwo\r\nthree\r\nfour\r\n.", "QUIT"} {
			if line != "" {
				if _, err = fmt.Fprintf(near, "%s\r\n", line); err != nil {
					break
				}
			}
			var reply string
			if reply, err = r.ReadString('\n'); err != nil {
				break
			}
			read += reply
		}
		near.Close()
		far.SetReadDeadline(time.Now().Add(time.Hour))
		<-done
		fired = n.Fired()
	})
	return saw, read, fired, err
}

// serveTalk answers each command, and returns what it saw.
func serveTalk(far net.Conn) (saw string) {
	defer far.Close()
	fmt.Fprint(far, "220 hello\r\n")
	r := bufio.NewReader(far)
	content := false
	for {
		line, err := r.ReadString('\n')
		saw += line
		switch {
		case err != nil:
			return saw
		case content && line != ".\r\n":
		case line == "DATA\r\n":
			content = true
			fmt.Fprint(far, "354 go\r\n")
		case line == "QUIT\r\n":
			fmt.Fprint(far, "221 bye\r\n")
			return saw
		default:
			content = false
			fmt.Fprint(far, "250 ok\r\n")
		}
	}
}

func TestTalkCalm(t *testing.T) {
	_, read, fired, err := talk(t, Weather{}, 1)
	if err != nil || !strings.HasSuffix(read, "221 bye\r\n") || len(fired) > 0 {
		t.Error(read, err, fired)
	}
}

// Between the final dot and its reply: the server has the message, and its reply
// is lost. The client hears of a reset, or nothing.
func TestLostReply(t *testing.T) {
	resets, silences := 0, 0
	for seed := range uint64(20) {
		saw, read, fired, err := talk(t, Weather{LostReply: 1}, seed)
		if !strings.HasSuffix(saw, "\r\n.\r\n") || !strings.HasSuffix(read, "354 go\r\n") && !errors.Is(err, syscall.ECONNRESET) || fired["lost_reply"] != 1 {
			t.Errorf("seed %d: server saw %q, client read %q, %v, %v", seed, saw, read, err, fired)
		}
		switch {
		case errors.Is(err, syscall.ECONNRESET):
			resets++
		case errors.Is(err, os.ErrDeadlineExceeded):
			silences++
		}
	}
	if resets == 0 || silences == 0 || resets+silences != 20 {
		t.Errorf("%d resets, %d silences", resets, silences)
	}
}

// A reset at a command comes before the server has seen it, or after.
func TestResetAtCommand(t *testing.T) {
	lines := map[string]string{"ehlo": "EHLO", "mail": "MAIL", "rcpt": "RCPT", "data": "DATA\r\n", "content": "one", "dot": "\r\n.\r\n"}
	seen := map[string]bool{}
	for seed := range uint64(120) {
		for _, w := range []Weather{{ResetBefore: 1}, {ResetAfter: 1}} {
			saw, _, fired, err := talk(t, w, seed)
			for kind := range fired {
				seen[kind] = true
				verb := kind[strings.LastIndex(kind, "_")+1:]
				got := strings.Contains(saw, lines[verb])
				if after := strings.HasPrefix(kind, "reset_after"); got != after && verb != "rcpt" && verb != "content" {
					t.Errorf("seed %d: %s: server saw %q", seed, kind, saw)
				}
			}
			if len(fired) != 1 || err == nil {
				t.Errorf("seed %d: %v %v", seed, err, fired)
			}
		}
	}
	if len(seen) != 2*len(resetVerbs) {
		t.Error(seen)
	}
}

// A cut resets both ends; a half open connection tells neither.
func TestCutAndHalfOpen(t *testing.T) {
	cuts, halves := 0, 0
	for seed := range uint64(40) {
		if _, _, fired, err := talk(t, Weather{Cut: 1}, seed); fired["cut"] > 0 {
			if cuts++; err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		if _, _, fired, err := talk(t, Weather{HalfOpen: 1}, seed); fired["half_open"] > 0 {
			if halves++; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
	}
	if cuts < 10 || halves < 10 {
		t.Error(cuts, halves)
	}
}

// A slow reader takes what it takes, and a spike seconds at least.
func TestSlowAndSpike(t *testing.T) {
	for _, c := range []struct {
		w    Weather
		kind string
	}{{Weather{SlowReader: 1}, "slow_reader"}, {Weather{Spike: 1}, "spike"}} {
		inBubble(t, c.w, func(t *testing.T, n *Network, near, far net.Conn) {
			start := time.Now()
			for range 6 { // one chunk each, of which one meets the spike
				near.Write(make([]byte, 8<<10))
				far.Write(make([]byte, 8<<10))
			}
			near.(*conn).out().fin, far.(*conn).out().fin = near.(*conn).out().last, far.(*conn).out().last
			io.ReadAll(far)
			io.ReadAll(near)
			if d := time.Since(start); d < time.Second || n.Fired()[c.kind] != 1 {
				t.Errorf("%s: %v %v", c.kind, d, n.Fired())
			}
		})
	}
}

func (c *conn) out() *pipe { return &c.link.pipes[c.end] }

// A partition holds back what is said until it ends, and loses nothing.
func TestPartition(t *testing.T) {
	inBubble(t, Weather{}, func(t *testing.T, n *Network, near, far net.Conn) {
		start := time.Now()
		n.Partition([]string{"10.0.0.1", "10.0.0.7"}, []string{"10.0.0.2"}, time.Hour)
		near.Write([]byte("hello"))
		b := make([]byte, 9)
		k, err := far.Read(b)
		if string(b[:k]) != "hello" || err != nil || time.Since(start) < time.Hour || time.Since(start) > time.Hour+time.Second {
			t.Errorf("%q %v after %v", b[:k], err, time.Since(start))
		}
		n.Partition([]string{"10.0.0.2"}, []string{"10.0.0.1"}, time.Minute)
		h := near.(*conn).host
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := h.DialContext(ctx, "tcp", "10.0.0.2:25"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if c, err := h.DialContext(t.Context(), "tcp", "10.0.0.2:25"); err != nil || time.Since(start) < time.Minute {
			t.Error(err)
		} else {
			c.Close()
		}
		if n.Fired()["partition"] != 3 {
			t.Error(n.Fired())
		}
	})
}

// A process that ends resets its connections. A machine without power says
// nothing, until it is up again and knows nothing of them.
func TestCrashAndVanish(t *testing.T) {
	inBubble(t, Weather{}, func(t *testing.T, n *Network, near, far net.Conn) {
		far.(*conn).host.Crash()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		if _, err := far.Write([]byte("x")); err == nil {
			t.Error("a dead process writes")
		}
	})
	inBubble(t, Weather{}, func(t *testing.T, n *Network, near, far net.Conn) {
		far.(*conn).host.Vanish()
		near.Write([]byte("x"))
		near.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		near.SetReadDeadline(time.Now().Add(time.Hour))
		n.Host("10.0.0.2", "b 2")
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

// Calm weather ends what hung over a connection.
func TestCalm(t *testing.T) {
	inBubble(t, Weather{Cut: 1, HalfOpen: 1, Spike: 1, SlowReader: 1}, func(t *testing.T, n *Network, near, far net.Conn) {
		n.SetWeather(Weather{})
		near.Write(make([]byte, 20_000))
		near.Close()
		if got, err := io.ReadAll(far); len(got) != 20_000 || err != nil || len(n.Fired()) > 0 {
			t.Error(len(got), err, n.Fired())
		}
	})
}

// BenchmarkConn is a hundred dialogues, each of ten lines each way and a message
// of 3 KB.
func BenchmarkConn(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() { // each in a bubble, whose clock is not that of the benchmark
		testing.RunTests(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "bubble", F: func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { dialogues(t, 100) })
		}}})
	}
}

func dialogues(t *testing.T, count int) {
	n := NewNetwork(1)
	a, h := n.Host("10.0.0.1", "a 1"), n.Host("10.0.0.2", "b 1")
	l, _ := h.Listen(t.Context(), "tcp", "10.0.0.2:25")
	defer l.Close()
	for range count {
		near, err := a.DialContext(t.Context(), "tcp", "10.0.0.2:25")
		if err != nil {
			t.Fatal(err)
		}
		far, _ := l.Accept()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer far.Close()
			buf := make([]byte, 4096)
			for {
				far.SetDeadline(time.Now().Add(time.Minute))
				if _, err := far.Read(buf); err != nil {
					return
				}
				far.Write(buf[:20])
			}
		}()
		buf := make([]byte, 4096)
		for i := range 11 {
			near.SetDeadline(time.Now().Add(time.Minute))
			near.Write(buf[:20+i/10*3000])
			near.Read(buf)
		}
		near.Close()
		<-done
	}
}

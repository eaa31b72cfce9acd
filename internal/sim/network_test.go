package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// A smallWorld is three clients and three peers. Each client sends what it has
// until every peer has it, or days have passed.
type smallWorld struct {
	net   *Network
	peers [3]*Peer

	mu    sync.Mutex
	lines []string
}

// note writes a line of the trace.
func (w *smallWorld) note(format string, args ...any) {
	line := time.Now().Format("02 15:04:05.000000000 ") + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, line)
}

// digest returns the digest of the trace. What happens in one instant has no order.
func (w *smallWorld) digest() string {
	slices.Sort(w.lines)
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(w.lines, "\n"))))
}

// try is one attempt of a client to bring a message to a peer.
func (w *smallWorld) try(h *Host, addr string, to []string, content string) smtpc.Result {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	conn, err := h.DialContext(ctx, "tcp", addr+":25")
	if err != nil {
		return smtpc.Result{Err: err}
	}
	c, err := smtpc.NewConn(ctx, conn, smtpc.Options{Hello: "client.example"})
	if err != nil {
		return smtpc.Result{Err: err}
	}
	defer c.Close()
	tx := smtpc.Transaction{From: smtp.Path{Local: "sender", Domain: "a.example"}, Content: strings.NewReader(content)}
	for _, local := range to {
		tx.Rcpts = append(tx.Rcpts, smtpc.Rcpt{To: smtp.Path{Local: local, Domain: "b.example"}})
	}
	res := c.Send(ctx, tx)
	if c.Usable() {
		c.Quit(ctx)
	}
	return res
}

// client sends n messages to a peer, each until it is settled.
func (w *smallWorld) client(name string, h *Host, p *Peer, n int) {
	for i := range n {
		content := fmt.Sprintf("Message-ID: <%s-%d-%s>\r\n\r\n.dots\r\n..\r\n%s", name, i, p.name, strings.Repeat("text\r\n", i*i*40))
		to := []string{"ann", "no-one", "ben", "cat"}
		for try := 0; try < 30 && len(to) > 0; try++ {
			res := w.try(h, p.addr, to, content)
			w.note("%s>%s message %d try %d: %v %d err %v", name, p.name, i, try, res.Rcpts, res.Final.Code, res.Err)
			var left []string
			for j, r := range res.Rcpts {
				if !r.Permanent() && !(r.Positive() && (res.Final.Positive() || res.Final.Permanent())) {
					left = append(left, to[j])
				}
			}
			if len(res.Rcpts) == len(to) {
				to = left
			}
			time.Sleep(time.Duration(10+try) * time.Minute)
		}
	}
}

// play runs the whole story.
func (w *smallWorld) play(t *testing.T, seed uint64, clients, messages int) {
	w.net = NewNetwork(seed)
	w.net.Note = func(fault, where string) { w.note("fault %s %s", fault, where) }
	w.net.SetWeather(Weather{Refused: .1, ConnectTimeout: .05, Cut: .15, HalfOpen: .05, ResetBefore: .1,
		ResetAfter: .1, LostReply: .1, SlowReader: .1, Spike: .1, Fragments: .1})
	habits := []Habit{
		{Refuse: []string{"no-"}, Greylist: 2, GreyTime: 24 * time.Hour, LieLater: .2, DropLate: .1, Garbage: .3},
		{Refuse: []string{"no-"}, RcptMax: 2, Tarpit: .5, TarpitMax: 20 * time.Second, Plain: .5, Messages: 2, ResetLate: .2},
		{Refuse: []string{"no-"}, HeloOnly: .3, Busy: .2, CloseFirst: .1, Later: .2, DeferLate: .2, DropEarly: .2, SilenceLate: .1, Connections: 3},
	}
	for i := range w.peers {
		w.peers[i] = NewPeer(w.net, seed, fmt.Sprintf("peer%d", i), fmt.Sprintf("10.0.1.%d", i+1), habits[i])
		if err := w.peers[i].Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for i := range clients {
		name := fmt.Sprintf("client%d", i)
		h := w.net.Host(fmt.Sprintf("10.0.2.%d", i+1), name+" 1")
		for _, p := range w.peers { // all at once, from one host too
			wg.Go(func() { w.client(name, h, p, messages) })
			wg.Go(func() { w.client(name+"'", h, p, messages) })
		}
	}
	wg.Go(func() {
		rng := Stream(seed, "partitions")
		for range 3 {
			time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Hour))))
			w.net.Partition([]string{"10.0.2.1", "10.0.2.2"}, []string{"10.0.1.1", "10.0.1.3"}, 20*time.Minute)
		}
	})
	wg.Wait()
	time.Sleep(2 * time.Hour)
	for _, p := range w.peers {
		p.Stop()
		for _, m := range p.Taken() {
			w.note("%s took from <%s> for %v at %v: %d %v %v, %x", p.name, m.From, m.Rcpts, m.At.UnixNano(), m.Final, m.Sent, m.Heard, sha256.Sum256(m.Content))
		}
		for _, b := range p.Breaches() {
			w.note("%s breach: %s", p.name, b)
		}
		w.note("%s peak %d refusals %v", p.name, p.Peak(), p.Refusals())
	}
}

// The same seed is the same trace, byte for byte.
func TestNetworkRepeats(t *testing.T) {
	runs := 200
	if testing.Short() {
		runs = 10
	}
	for seed := range uint64(2) {
		var first *smallWorld
		for range runs / 2 {
			w := new(smallWorld)
			synctest.Test(t, func(t *testing.T) { w.play(t, seed, 3, 1) })
			switch {
			case first == nil:
				first = w
				w.digest()
				t.Logf("seed %d: %d lines, %v", seed, len(w.lines), w.net.Fired())
			case first.digest() != w.digest():
				t.Fatalf("seed %d has two traces: %s", seed, difference(first.lines, w.lines))
			}
		}
	}
}

// difference returns the first line that differs.
func difference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d:\n%s\n%s", i, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(a), len(b))
}

// A small world of many seeds lets every kind of fault strike, and no client does
// what is forbidden, nor a peer lose what it took.
func TestNetworkFaultsStrike(t *testing.T) {
	seeds := 12
	fired := map[string]int{}
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			w := new(smallWorld)
			w.play(t, seed, 3, 3)
			for kind, n := range w.net.Fired() {
				fired[kind] += n
			}
			for _, p := range w.peers {
				for _, b := range p.Breaches() {
					t.Errorf("seed %d: %s: %s", seed, p.name, b)
				}
				for _, m := range p.Taken() {
					if !bytes.HasPrefix(m.Content, []byte("Message-ID: <client")) || !bytes.Contains(m.Content, []byte("\r\n.dots\r\n..\r\n")) {
						t.Errorf("seed %d: %s took %q", seed, p.name, m.Content)
					}
				}
			}
		})
	}
	for _, kind := range NetworkFaults {
		if fired[kind] == 0 {
			t.Errorf("%s never struck", kind)
		}
	}
	t.Log(fired)
}

// pair connects two hosts in calm weather, and returns both ends.
func pair(t *testing.T, n *Network) (a, b *Host, near, far net.Conn) {
	t.Helper()
	a, b = n.Host("10.0.0.1", "a 1"), n.Host("10.0.0.2", "b 1")
	l, err := b.Listen(t.Context(), "tcp", "10.0.0.2:25")
	if err != nil {
		t.Fatal(err)
	}
	near, err = a.DialContext(t.Context(), "tcp", "10.0.0.2:25")
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b, near, far
}

// inBubble runs a test with a pair of ends.
func inBubble(t *testing.T, w Weather, f func(t *testing.T, n *Network, near, far net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(7)
		n.SetWeather(w)
		_, _, near, far := pair(t, n)
		defer near.Close()
		defer far.Close()
		f(t, n, near, far)
	})
}

func TestConn(t *testing.T) {
	calm := Weather{}
	t.Run("octets arrive in order and in time", func(t *testing.T) {
		inBubble(t, calm, func(t *testing.T, n *Network, near, far net.Conn) {
			start := time.Now()
			for i := range 100 {
				fmt.Fprintf(near, "%d,", i)
			}
			near.Close()
			got, err := io.ReadAll(far)
			if err != nil || !strings.HasPrefix(string(got), "0,1,2,") || !strings.HasSuffix(string(got), ",99,") {
				t.Errorf("%q, %v", got, err)
			}
			if d := time.Since(start); d == 0 || d > 100*time.Millisecond {
				t.Errorf("it took %v", d)
			}
		})
	})
	t.Run("a deadline ends a read, and may be moved", func(t *testing.T) {
		inBubble(t, calm, func(t *testing.T, n *Network, near, far net.Conn) {
			near.SetReadDeadline(time.Now().Add(time.Minute))
			time.AfterFunc(time.Second, func() { near.SetReadDeadline(time.Now().Add(time.Hour)) })
			start := time.Now()
			_, err := near.Read(make([]byte, 1))
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Hour+time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("a writer waits for its reader", func(t *testing.T) {
		inBubble(t, calm, func(t *testing.T, n *Network, near, far net.Conn) {
			near.SetWriteDeadline(time.Now().Add(time.Minute))
			wrote, err := near.Write(make([]byte, 1<<20))
			if wrote != pipeMax || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("wrote %d, %v", wrote, err)
			}
			near.SetWriteDeadline(time.Time{})
			go func() {
				near.Write(make([]byte, 1<<20))
				near.Close()
			}()
			got, err := io.ReadAll(far)
			if len(got) != pipeMax+1<<20 || err != nil {
				t.Errorf("read %d, %v", len(got), err)
			}
		})
	})
}

// To close with octets unread, or to be sent some afterwards, is to reset.
// RFC 1122 4.2.2.13
func TestConnClose(t *testing.T) {
	calm := Weather{}
	t.Run("what is said to a closed end is answered with a reset", func(t *testing.T) {
		inBubble(t, calm, func(t *testing.T, n *Network, near, far net.Conn) {
			far.Close()
			if _, err := near.Write([]byte("hello")); err != nil {
				t.Error("the first write knows nothing of it:", err)
			}
			time.Sleep(time.Second)
			if _, err := near.Write([]byte("hello")); !errors.Is(err, syscall.EPIPE) {
				t.Error("the second:", err)
			}
		})
	})
	t.Run("close with octets unread resets", func(t *testing.T) {
		inBubble(t, calm, func(t *testing.T, n *Network, near, far net.Conn) {
			near.Write([]byte("hello"))
			time.Sleep(time.Second)
			far.Close()
			if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		})
	})
	t.Run("a closed end says so", func(t *testing.T) {
		inBubble(t, calm, func(t *testing.T, n *Network, near, far net.Conn) {
			time.AfterFunc(time.Second, func() { near.Close() })
			if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			if _, err := near.Write(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			if _, err := far.Read(make([]byte, 1)); err != io.EOF {
				t.Error(err)
			}
		})
	})
}

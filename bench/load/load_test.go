package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// start serves a sink until the test ends, or stop is called.
func start(t *testing.T, s *Sink) (addr string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// Whatever the mode, what the source says was taken is what the sink has.
func TestTotalsAgree(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    Source
	}{
		{"one message per connection", Source{Messages: 40}},
		{"reused", Source{Messages: 200, Reuse: true}},
		{"reused so often", Source{Messages: 50, Reuse: true, Uses: 3}},
		{"pipelined", Source{Messages: 200, Reuse: true, Pipeline: true}},
		{"in one group", Source{Messages: 200, Reuse: true, Chunk: true, Rcpts: 3}},
		{"in one group, the longest", Source{Messages: 50, Chunk: true, Size: chunkMax, Rcpts: chunkRcpts}},
		{"many recipients", Source{Messages: 3, Rcpts: 1700, Pipeline: true, To: "r%d@d%d.example", Spread: 10}},
		{"many recipients step by step", Source{Messages: 3, Rcpts: 50}},
		{"large", Source{Messages: 4, Size: 3 << 20, Reuse: true}},
		{"open loop", Source{Messages: 50, Rate: 5000, Reuse: true}},
		{"for a time", Source{For: 20 * time.Millisecond, Reuse: true}},
		{"at a rate for a time", Source{For: 20 * time.Millisecond, Rate: 2000}},
		{"smallest", Source{Messages: 10, Size: SizeMin, Reuse: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := &Sink{Track: 1000}
			s := tt.s
			var stop func()
			s.Server, stop = start(t, sink)
			s.Sessions, s.From = 5, "s%d@bench.example"
			if s.To == "" {
				s.To = "r@b.example"
			}
			sent, err := s.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stop()
			got := sink.Tally()
			if sent.Messages == 0 || s.Messages > 0 && sent.Messages != s.Messages || sent.Errors != 0 {
				t.Errorf("the source counts %+v", sent)
			}
			if got.Messages != sent.Messages || got.Bytes != sent.Bytes || sink.Unique() != min(sent.Messages, sink.Track) {
				t.Errorf("the source has sent %+v, the sink has %+v and %d numbers", sent, got, sink.Unique())
			}
			// One connection is to look whether the server is there.
			if least := sent.Messages / max(1, s.Uses); s.Uses > 0 && sink.Conns() < int64(least+1) {
				t.Errorf("%d connections for %d messages, %d on each", sink.Conns(), sent.Messages, s.Uses)
			}
			if chunked := sink.chunked.Load(); s.Chunk != (chunked > 0) || chunked > int64(got.Messages) {
				t.Errorf("%d of %d messages came by BDAT", chunked, got.Messages)
			}
			if sent.Seconds <= 0 || sent.P99 < sent.P50 || sent.Rate() <= 0 {
				t.Errorf("times: %+v", sent)
			}
		})
	}
}

// What the sink refuses, resets or swallows is an error of the source, told by
// what was said; what the sink has is what it answered, and what got lost on the
// way back.
func TestMishapsAreCounted(t *testing.T) {
	for _, tt := range []struct {
		name string
		sink *Sink
		want string // of the source's errors
		took bool   // the sink has what the source counts as an error
	}{
		{"refused", &Sink{Refuse: 0.3}, "451 4.7.1 Try later, as told", false},
		{"reset", &Sink{Reset: 0.3}, "connection reset", false},
		{"lost", &Sink{Lost: 0.3}, "connection reset", true},
		{"silent", &Sink{Silent: 0.3, Silence: time.Microsecond}, "connection ", false},
		{"refused in one group", &Sink{Refuse: 0.3}, "451 4.7.1 Try later, as told", false},
		{"reset in one group", &Sink{Reset: 0.3}, "connection reset", false},
		{"lost in one group", &Sink{Lost: 0.3}, "connection reset", true},
		{"silent in one group", &Sink{Silent: 0.3, Silence: time.Microsecond}, "connection ", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sink := tt.sink
			addr, stop := start(t, sink)
			s := Source{Server: addr, Messages: 100, Sessions: 3, Reuse: true, From: "s@a.example", To: "r@b.example", Chunk: strings.HasSuffix(tt.name, "group")}
			sent, err := s.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stop()
			got := sink.Tally()
			if sent.Messages+sent.Errors != 100 || sent.Errors < 10 || sent.Errors > 60 {
				t.Errorf("%+v", sent)
			}
			if worst := sent.Worst(); !strings.HasPrefix(worst, tt.want) {
				t.Errorf("the worst error is %q, want %q", worst, tt.want)
			}
			if tt.took && got.Messages != 100 || !tt.took && got.Messages != sent.Messages {
				t.Errorf("the source has sent %d, the sink has %d", sent.Messages, got.Messages)
			}
		})
	}
}

// A slow sink and a late one take all; so does one that stops the clock of an
// open loop: its latencies count from when each message was due.
func TestLatencyCountsFromWhenItWasDue(t *testing.T) {
	const late = 20 * time.Millisecond
	sink := &Sink{Latency: late}
	addr, _ := start(t, sink)
	s := Source{Server: addr, Messages: 10, Sessions: 1, Rate: 1e6, Reuse: true, To: "r@b.example"}
	sent, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// One session, all due at once: the last waits for the nine before it.
	if least := 10 * late.Seconds() * 1000; sent.Messages != 10 || sent.P99 < least {
		t.Errorf("%+v, want a p99 of %v ms or more", sent, least)
	}
	slow := &Sink{Slow: 100 << 10}
	if s.Server, _ = start(t, slow); true {
		s.Messages = 1
	}
	if sent, err = s.Run(t.Context()); err != nil || sent.Messages != 1 || sent.P50 < 30 {
		t.Errorf("4 KiB at 100 KiB a second: %+v, %v", sent, err)
	}
}

// What the sink keeps is octet for octet what was meant: the dots of
// transparency are gone, and only CR LF . CR LF ends it.
func TestSinkKeepsTheContent(t *testing.T) {
	for _, tt := range []struct{ wire, want string }{
		{"Subject: a\r\n\r\nb\r\n.\r\n", "Subject: a\r\n\r\nb\r\n"},
		{".\r\n", ""},
		{"..\r\n.\r\n", ".\r\n"},
		{"..a\r\n...\r\n.\r\n", ".a\r\n..\r\n"},
		{"a\n.\nb\r\n.\n.\r\r\n.\r\n", "a\n.\nb\r\n\n.\r\r\n"},
		{"a.\r\n.\r\n", "a.\r\n"},
		{strings.Repeat("x", guestBuf) + "\r\n.\r\n", strings.Repeat("x", guestBuf) + "\r\n"},
	} {
		for _, step := range []int{1, 3, 1 << 20} { // octets of a write
			var kept bytes.Buffer
			sink := &Sink{Keep: func() (io.WriteCloser, error) { return keeper{&kept}, nil }}
			addr, stop := start(t, sink)
			talk(t, addr, min(step*1000, len(tt.wire)), "MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n", tt.wire[:min(step, len(tt.wire))], tt.wire[min(step, len(tt.wire)):], "QUIT\r\n")
			stop()
			if diff := cmp.Diff(tt.want, kept.String()); diff != "" || sink.Tally().Bytes != int64(len(tt.want)) {
				t.Errorf("%.40q by %d: %d octets, %.400s", tt.wire, step, sink.Tally().Bytes, diff)
			}
		}
	}
}

type keeper struct{ io.Writer }

func (keeper) Close() error { return nil }

// talk sends parts in writes of so many octets, and reads all that comes.
func talk(t *testing.T, addr string, step int, parts ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var said bytes.Buffer
	var reader sync.WaitGroup
	reader.Go(func() { io.Copy(&said, c) })
	for _, p := range parts {
		for len(p) > 0 {
			n := min(max(step, 1), len(p))
			if _, err := io.WriteString(c, p[:n]); err != nil {
				t.Fatal(err)
			}
			p = p[n:]
		}
	}
	reader.Wait()
	return said.String()
}

// What the sink says to what is wrong.
func TestSinkTellsMistakes(t *testing.T) {
	for _, tt := range []struct{ say, want string }{
		{"FLY\r\n", "500 "},
		{"RCPT TO:<a@b>\r\n", "503 "},
		{"DATA\r\n", "503 "},
		{"MAIL FROM:a@b\r\n", "501 "},
		{"MAIL FROM:<>\r\nMAIL FROM:<>\r\n", "503 "},
		{"MAIL FROM:<>\r\nDATA\r\n", "554 "},
		{"MAIL FROM:<>\r\nRSET\r\nRCPT TO:<a@b>\r\n", "503 "},
		{"NOOP\r\nVRFY a\r\n", "252 "},
		{strings.Repeat("x", guestBuf), "500 "},
	} {
		addr, _ := start(t, &Sink{})
		quit := ""
		if strings.HasSuffix(tt.say, "\n") {
			quit = "QUIT\r\n"
		}
		said := strings.Split(strings.TrimSpace(talk(t, addr, 1<<20, tt.say, quit)), "\r\n")
		last := said[len(said)-1]
		if strings.HasPrefix(last, "221") {
			last = said[len(said)-2]
		}
		if !strings.HasPrefix(last, tt.want) {
			t.Errorf("%.40q: %q, want %s", tt.say, said, tt.want)
		}
	}
}

// A sink that ends says so on the connections that it has.
func TestSinkSaysGoodbye(t *testing.T) {
	addr, stop := start(t, &Sink{})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	greeting := make([]byte, 4)
	if _, err := io.ReadFull(c, greeting); err != nil {
		t.Fatal(err)
	}
	stop()
	if rest, err := io.ReadAll(c); err != nil || !strings.Contains(string(rest), "421 ") {
		t.Errorf("%q, %v", rest, err)
	}
}

// Mistakes of the caller are told, with what to do.
func TestSourceTellsMistakes(t *testing.T) {
	ok := Source{Server: "127.0.0.1:1", Messages: 1, To: "r@b.example"}
	for _, tt := range []struct {
		change func(*Source)
		want   string
	}{
		{func(s *Source) { s.Messages = 0 }, "how many"},
		{func(s *Source) { s.Messages = -1 }, "how many"},
		{func(s *Source) { s.Sessions = SessionsMax + 1 }, "sessions"},
		{func(s *Source) { s.Size = 10 }, "256"},
		{func(s *Source) { s.Rcpts = -1 }, "recipients"},
		{func(s *Source) { s.Rate = -1 }, "messages a second"},
		{func(s *Source) { s.To = "" }, "no recipient"},
		{func(s *Source) { s.To = "a>\r\nDATA" }, "one line"},
		{func(*Source) {}, "refused"},
	} {
		s := ok
		tt.change(&s)
		if sent, err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) || sent.Messages != 0 {
			t.Errorf("%+v: %+v, %v, want %q", s, sent, err, tt.want)
		}
	}
}

// A server that goes away in the middle costs some connections of each session,
// and not a connection for each message that is left.
func TestSourceGivesUp(t *testing.T) {
	addr, stop := start(t, &Sink{})
	dialled := 0
	s := Source{Server: addr, Messages: 1000, Sessions: 1, To: "r@b.example", Dial: func(ctx context.Context) (net.Conn, error) {
		if dialled++; dialled == 3 {
			stop()
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	}}
	sent, err := s.Run(t.Context())
	if err == nil || sent.Messages != 1 || sent.Errors != dialsMax || dialled != 2+dialsMax {
		t.Errorf("%+v, %v after %d connections", sent, err, dialled)
	}
}

// A run that is stopped ends, in either loop.
func TestSourceStops(t *testing.T) {
	for _, rate := range []float64{0, 1} {
		addr, _ := start(t, &Sink{})
		ctx, cancel := context.WithCancel(t.Context())
		s := Source{Server: addr, Messages: 1e9, Sessions: 2, Rate: rate, Reuse: true, To: "r@b.example", Dial: func(ctx context.Context) (net.Conn, error) {
			defer time.AfterFunc(time.Millisecond, cancel)
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}}
		if _, err := s.Run(ctx); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}
}

// Each mishap has the share that it was given.
func TestShares(t *testing.T) {
	s := &Sink{Refuse: 0.1, Reset: 0.2, Lost: 0.3, Silent: 0.1, Seed: 3}
	var got [silent + 1]int
	const n = 10_000
	for range n {
		got[s.fate()]++
	}
	for what, share := range map[mishap]float64{none: 0.3, refused: s.Refuse, reset: s.Reset, lost: s.Lost, silent: s.Silent} {
		if d := float64(got[what])/n - share; d < -0.03 || d > 0.03 {
			t.Errorf("mishap %d: %d of %d, want a share of %v", what, got[what], n, share)
		}
	}
}

func TestContents(t *testing.T) {
	for _, size := range []int64{SizeMin, SizeMin + 1, 333, 4096, 4097, 1 << 20} {
		c := newCorpus(7, size, time.Unix(0, 0))
		for n := range 200 {
			b, octets := c.content(nil, n)
			text, ok := strings.CutSuffix(string(b), "\r\n.\r\n")
			if !ok || octets != int64(len(text)+2) || octets > size || octets < size-1 {
				t.Fatalf("size %d, message %d: %d octets, ends with %q", size, n, octets, b[len(b)-20:])
			}
			for line := range strings.SplitSeq(text, "\r\n") {
				if strings.HasPrefix(line, ".") || strings.ContainsAny(line, "\r\n") || len(line) > 998 {
					t.Fatalf("message %d has the line %q", n, line)
				}
			}
			if !strings.Contains(text, fmt.Sprintf(".%012d@", n)) {
				t.Fatalf("message %d does not say its number: %q", n, text)
			}
		}
	}
	a, _ := newCorpus(7, 4096, time.Unix(0, 0)).content(nil, 3)
	b, _ := newCorpus(7, 4096, time.Unix(0, 0)).content(nil, 3)
	d, _ := newCorpus(8, 4096, time.Unix(0, 0)).content(nil, 3)
	if !bytes.Equal(a, b) || bytes.Equal(a, d) {
		t.Error("a content depends on more than its seed, or not on it")
	}
}

func TestHistogram(t *testing.T) {
	var h, o Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("nothing has no quantile")
	}
	for i := 1; i <= 100; i++ {
		(map[bool]*Histogram{true: &h, false: &o})[i%2 == 0].Add(time.Duration(i) * time.Millisecond)
	}
	h.Merge(&o)
	for q, want := range map[float64]float64{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := h.Quantile(q); got < want || got > want*(1+1.0/fine) {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if h.Max() != 100*time.Millisecond {
		t.Error(h.Max())
	}
	h.Add(-time.Second)
	h.Add(1000 * time.Hour)
	last := -1
	for us := uint64(0); us < 1<<20; us++ {
		i := bucket(us)
		if i < last || i > last+1 || ceiling(i) < us || us > 100 && float64(ceiling(i)) > float64(us)*(1+1.0/fine) {
			t.Fatalf("%d is in bucket %d after %d, which ends at %d", us, i, last, ceiling(i))
		}
		last = i
	}
}

func TestErrorsAreFew(t *testing.T) {
	var sum Tally
	for i := range 1000 {
		sum.fail(fmt.Sprint(i), 1)
	}
	if len(sum.Replies) > repliesMax+1 || sum.Errors != 1000 || sum.Worst() != "other" || sum.Sorted()[0] != "other" {
		t.Errorf("%+v", sum)
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:25": "", "127.9.9.9:25": "", "[::1]:25": "", "localhost:25": "",
		"192.0.2.1:25": "not this machine", "0.0.0.0:25": "not this machine", "127.0.0.1": "HOST:PORT", "": "HOST:PORT",
	} {
		err := Loopback(t.Context(), addr)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", addr, err, want)
		}
	}
}

func TestNumberOf(t *testing.T) {
	for a, want := range map[string]int{"s12@a": 12, "7@a": 7, "s@a": -1, "": -1, "s1x@a": -1, "0@b": 0, "12": -1} {
		if got := numberOf([]byte(a)); got != want {
			t.Errorf("%q: %d, want %d", a, got, want)
		}
	}
}

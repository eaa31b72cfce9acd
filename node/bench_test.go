package node

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
)

// benchBody is a message of 4 KiB.
var benchBody = []byte("Subject: bench\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 63) + ".\r\n")

// BenchmarkRelay is a message on its whole way: from one of 20 sessions that are
// used again, command by command, through receive, spool, queue and relay to a
// sink on loopback, until the sink has all. Client and sink are a few lines on a
// socket, so that what is counted is nearly all ours.
func BenchmarkRelay(b *testing.B) {
	sink := newBenchSink(b)
	defer sink.stop()
	cfg := config.Builtin(b.TempDir())
	cfg.Listeners = cfg.Listeners[:1]
	cfg.Listeners[0].Address, cfg.Listeners[0].TLS = "127.0.0.1:0", config.TLSNone
	cfg.Listeners[0].RelayFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.Admin.Address = ""
	at := sink.Addr().(*net.TCPAddr)
	cfg.Routes = []config.Route{{Pattern: "*", To: postrider.Route{
		Via: postrider.ViaSMTP, Host: "127.0.0.1", Port: uint16(at.Port), TLS: postrider.TLSNone, Dest: "smtp:sink",
	}}}
	env := System(cfg)
	env.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	env.DNS = &dns.Zone{}
	n, err := New(cfg, env)
	if err != nil {
		b.Fatal(err)
	}
	if err := n.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := n.Stop(b.Context()); err != nil {
			b.Error(err)
		}
	}()
	to := n.Addr("mx").String()
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range min(20, b.N) {
		wg.Go(func() { benchClient(b, to, &left) })
	}
	wg.Wait()
	sink.wait(int64(b.N))
	b.StopTimer()
}

// benchClient sends messages over one connection while there are some left.
func benchClient(b *testing.B, to string, left *atomic.Int64) {
	conn, err := net.Dial("tcp", to)
	if err != nil {
		b.Error(err)
		return
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	steps := [][]byte{nil, []byte("EHLO client.example\r\n"), []byte("MAIL FROM:<a@src.example>\r\n"),
		[]byte("RCPT TO:<r@sink.example>\r\n"), []byte("DATA\r\n"), benchBody}
	for at := 0; at < 2 || at > 2 || left.Add(-1) >= 0; at++ {
		if at == len(steps) {
			at = 1
			continue
		}
		if _, err := conn.Write(steps[at]); err != nil {
			b.Error(err)
			return
		}
		for more := true; more; {
			line, err := r.ReadSlice('\n')
			if err != nil || line[0] != '2' && line[0] != '3' {
				b.Errorf("the server said %q, %v", line, err)
				return
			}
			more = line[3] == '-'
		}
	}
}

// A benchSink takes every message, and counts them.
type benchSink struct {
	net.Listener
	mu    sync.Mutex
	more  *sync.Cond
	taken int64
	conns sync.WaitGroup
}

func newBenchSink(b *testing.B) *benchSink {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &benchSink{Listener: l}
	s.more = sync.NewCond(&s.mu)
	s.conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Go(func() { s.serve(conn) })
		}
	})
	return s
}

func (s *benchSink) stop() {
	s.Close()
	s.conns.Wait()
}

// wait waits until n messages were taken.
func (s *benchSink) wait(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.taken < n {
		s.more.Wait()
	}
}

// serve answers line by line, and writes when nothing more has come.
func (s *benchSink) serve(conn net.Conn) {
	defer conn.Close()
	r, w := bufio.NewReaderSize(conn, 8<<10), bufio.NewWriter(conn)
	w.WriteString("220 sink\r\n")
	for content := false; ; {
		if r.Buffered() == 0 {
			w.Flush()
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch verb := line[:min(4, len(line))]; {
		case content && string(line) != ".\r\n":
		case content:
			content = false
			w.WriteString("250 2.0.0 taken\r\n")
			s.mu.Lock()
			s.taken++
			s.mu.Unlock()
			s.more.Signal()
		case string(verb) == "EHLO":
			w.WriteString("250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
		case string(verb) == "DATA":
			content = true
			w.WriteString("354 go on\r\n")
		case string(verb) == "QUIT":
			w.WriteString("221 bye\r\n")
			w.Flush()
			return
		default:
			w.WriteString("250 2.1.0 fine\r\n")
		}
	}
}

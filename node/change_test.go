package node

import (
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/policy"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// A stubborn listener fails to accept before each connection.
type stubborn struct {
	row
	errs []error
}

func (s *stubborn) Accept() (net.Conn, error) {
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		return nil, err
	}
	return s.row.Accept()
}

// Whatever keeps a connection from being accepted, the socket hands it on and goes
// on accepting: only to close it ends it.
func TestSocketSurvivesErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs []error
		for _, no := range []syscall.Errno{syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM, syscall.EMFILE, syscall.ECONNABORTED} {
			errs = append(errs, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", no)})
		}
		errs = append(errs, errors.New("something else"))
		l := &stubborn{row{conns: make(chan net.Conn, 1)}, errs}
		s := newSocket(l)
		s.open()
		slot := s.slot()
		for _, want := range errs {
			got := make(chan error, 1)
			go func() {
				_, err := slot.Accept()
				got <- err
			}()
			synctest.Wait()
			select {
			case err := <-got:
				if !errors.Is(err, want) {
					t.Errorf("%v came as %v", want, err)
				}
			default:
				s.Close()
				t.Fatalf("nobody accepts before %v", want)
			}
		}
		ours, _ := net.Pipe()
		l.conns <- ours
		if c, err := slot.Accept(); err != nil || c != ours {
			t.Errorf("after the errors: %v, %v", c, err)
		}
		s.Close()
	})
}

// An answer is a check that refuses one of its calls.
type answer struct {
	calls, at int
	reply     smtp.Reply
}

func (a *answer) Check(context.Context, *postrider.Transaction) postrider.Verdict {
	if a.calls++; a.calls-1 == a.at {
		return postrider.Verdict{Refuse: true, Reply: a.reply}
	}
	return postrider.Verdict{}
}

// A program's letter is taken for all of its recipients or for none: where one is
// refused, for good or for now, the program hears which and why, and nothing waits.
func TestLetterForAllOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStill(t, vfs.NewMem(), nil)
		for _, code := range []int{451, 452, 550} {
			for at := range 3 {
				g := *s.gen.Load()
				g.checks = maps.Clone(g.checks)
				chains := g.checks[localListener]
				chains.Rcpt = policy.Chain{&answer{at: at, reply: smtp.Reply{Code: code, Text: "no"}}, policy.Recipient{}}
				g.checks[localListener] = chains
				s.gen.Store(&g)
				l := admin.Letter{From: mailbox(t, "bob@our.example"), Content: strings.NewReader("Subject: x\r\n\r\nx\r\n")}
				for _, to := range []string{"a@far.example", "b@far.example", "c@far.example"} {
					l.To = append(l.To, mailbox(t, to))
				}
				r, who := s.submit(t.Context(), l)
				if st := s.store.Stat(); r.Code != code || who != at || st.Recipients != 0 {
					t.Errorf("recipient %d is answered with %d: the program hears %v of %d, and %d wait", at, code, r, who, st.Recipients)
				}
			}
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A lobby is a network where one can listen.
type lobby struct {
	postrider.Network
	mu   sync.Mutex
	open map[string]bool
}

func (n *lobby) Listen(_ context.Context, _, addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open[addr] {
		return nil, syscall.EADDRINUSE
	}
	n.open[addr] = true
	return lobbyDoor{row{conns: make(chan net.Conn)}, n, addr}, nil
}

// left counts what is open.
func (n *lobby) left() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.open)
}

type lobbyDoor struct {
	row
	n    *lobby
	addr string
}

func (d lobbyDoor) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25} }

func (d lobbyDoor) Close() error {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	delete(d.n.open, d.addr)
	return d.row.Close()
}

// withListener is a configuration with a listener more.
func withListener(cfg *config.Config) *config.Config {
	next := *cfg
	next.Listeners = config.Builtin("data").Listeners[:1:1]
	next.Listeners[0].Address, next.Listeners[0].TLS = "192.0.2.1:25", config.TLSNone
	return &next
}

// A stop that comes while a reload is under way waits for it, within its time: what
// the reload opens is closed by the stop, and the spool is not closed under it.
func TestStopWaitsForAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *still
		reading := make(chan struct{})
		s = startStill(t, vfs.NewMem(), func() (*config.Config, error) {
			<-reading
			return withListener(s.cfg), nil
		})
		network := &lobby{open: map[string]bool{}}
		s.env.Net = network
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := s.Reload(t.Context()); err != nil {
				t.Errorf("the reload: %v", err)
			}
		})
		synctest.Wait()
		stopped := make(chan struct{})
		both.Go(func() {
			defer close(stopped)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := s.Stop(ctx); err != nil {
				t.Errorf("the stop: %v", err)
			}
		})
		time.Sleep(10 * time.Second)
		select {
		case <-stopped:
			t.Error("stopped, and a reload is under way")
		default:
		}
		close(reading)
		began := time.Now()
		both.Wait()
		if n := network.left(); n != 0 || time.Since(began) > 10*time.Second {
			t.Errorf("%d listeners are open %v after the reload", n, time.Since(began))
		}
	})
}

// A reload that fails closes what it has opened: nobody connects to where nothing
// answers, and the next one can open it.
func TestFailedReloadClosesItsListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *still
		good := false
		s = startStill(t, vfs.NewMem(), func() (*config.Config, error) {
			next := withListener(s.cfg)
			if !good { // the same domain in two spellings
				d := s.cfg.Domains[0]
				a, b := d, d
				a.Name, b.Name = "b\u00fccher.example", "xn--bcher-kva.example"
				next.Domains = []config.Domain{d, a, b}
			}
			return next, nil
		})
		network := &lobby{open: map[string]bool{}}
		s.env.Net = network
		for range 2 {
			if _, err := s.Reload(t.Context()); !errors.Is(err, admin.ErrConfig) {
				t.Errorf("a wrong configuration: %v", err)
			}
			if n := network.left(); n != 0 {
				t.Errorf("%d listeners are open after a reload that failed", n)
			}
		}
		good = true
		if _, err := s.Reload(t.Context()); err != nil || network.left() != 1 {
			t.Errorf("a right one: %v, %d listeners", err, network.left())
		}
		if err := s.Stop(t.Context()); err != nil || network.left() != 0 {
			t.Errorf("stop: %v, %d listeners are open", err, network.left())
		}
	})
}

// Connections from before a reload that put another server behind their listener
// are told of a stop like all others: who waits hears 421 (RFC 5321 3.8), and what is
// under way ends first, with the spool open.
func TestStopTellsConnectionsOfBefore(t *testing.T) {
	dir, f := t.TempDir(), &file{}
	text := conf(dir, mx+`domain "a.example" { mailboxes = ["*"] }`)
	f.write(text)
	cfg, err := f.load()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, cfg, dns.NewZone())
	w.Node.env.Load = f.load
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	idle, busy := talk(t, w.Addr("mx")), talk(t, w.Addr("mx"))
	for _, c := range []*client{idle, busy} {
		c.say("EHLO x.example", "250")
	}
	busy.say("MAIL FROM:<s@x.example>", "250")
	busy.say("RCPT TO:<u@a.example>", "250")
	busy.say("DATA", "354")
	f.write(text + "\nlimits { message_size = \"70KiB\" }\n")
	if _, err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.end()
	}()
	idle.expect("421")
	busy.say("Subject: last\r\n\r\nx\r\n.", "250")
	busy.expect("421")
	<-stopped
}

// Whom a listener trusts is as the configuration says now, and no reload leaves
// anybody who was trusted before with what it took from him.
func TestReloadTakesTrust(t *testing.T) {
	dir := t.TempDir()
	text := func(filter, relay, proxy string) string {
		one := func(name, key string) string {
			return "listener \"" + name + "\" {\n  address = \"127.0.0.1:0\"\n" + key + "}\n"
		}
		return conf(dir, one("filter", filter)+one("relay", relay)+one("proxy", proxy)+`domain "our.example" { mailboxes = ["alice"] }`)
	}
	w, f := reloadable(t, text("xclient_from = [\"127.0.0.1\"]\n", "relay_from = [\"127.0.0.1\"]\n", "proxy_from = [\"127.0.0.1\"]\n"))
	proxied := func() *client {
		c := &client{t, &smtpTalk{conn: dial(t, w.Addr("proxy"))}}
		if _, err := c.conn.Write([]byte("PROXY TCP4 203.0.113.8 198.51.100.1 1 25\r\n")); err != nil {
			t.Fatal(err)
		}
		return c
	}
	hello := func(listener string) *client {
		c := talk(t, w.Addr(listener))
		c.say("EHLO c.example", "250 ")
		return c
	}
	for range 2 { // the second asks what the first may have left
		hello("filter").say("XCLIENT ADDR=203.0.113.7", "220")
		hello("relay").say("ETRN far.example", "251")
		proxied().expect("220")
	}
	f.write(text("", "", ""))
	if _, err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	hello("filter").say("XCLIENT ADDR=203.0.113.7", "550 5.7.1")
	hello("relay").say("ETRN far.example", "459")
	c := proxied()
	c.expect("220")
	c.expect("500")
}

package node

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// A listener that closes by itself, of mail, of HTTP or of control, ends the node with
// an error: better it is started again than to live on deaf.
func TestLostListenerEndsRun(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:2525", "127.0.0.1:8025", "control:80"} {
		synctest.Test(t, func(t *testing.T) {
			s, network := startPiped(t, vfs.NewMem(), nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- s.Wait(ctx) }()
			network.mu.Lock()
			door := network.all[addr]
			network.mu.Unlock()
			door.Close()
			if err := <-ended; err == nil || ctx.Err() != nil {
				t.Errorf("%s is lost, and the node ends with %v", addr, err)
			}
		})
	}
	n := &Node{failed: make(chan error, 1)}
	n.ready.Store(true)
	if n.fail(io.EOF); n.ready.Load() {
		t.Error("ready, and it has failed")
	}
}

// An at is a listener with an address.
type at struct {
	net.Listener
	addr string
}

func (a at) Addr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a.addr)) }

// Mail to an address literal (RFC 5321 4.1.3) of this machine is for us: that of a
// listener, or any of the machine's where a listener takes all; and no other is.
func TestAddressLiteralsOfOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStill(t, vfs.NewMem(), nil)
		s.env.Addrs = func() ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, nil
		}
		cfg := *s.cfg
		cfg.Hostname = cfg.Domains[0].Name
		for bound, want := range map[string][]bool{"[::]:25": {true, true, false}, "0.0.0.0:25": {true, true, false}, "192.0.2.1:25": {false, false, true}} {
			g, err := s.newGeneration(&cfg, []*door{{socket: newSocket(at{addr: bound})}})
			if err != nil {
				t.Fatal(err)
			}
			home := g.router.Route(mailbox(t, "alice@"+cfg.Hostname)).Dest
			for i, literal := range []string{"192.0.2.7", "IPv6:2001:db8::7", "192.0.2.1"} {
				if got := g.router.Route(mailbox(t, "alice@["+literal+"]")).Dest; (got == home) != want[i] {
					t.Errorf("bound to %s: mail to [%s] goes to %s", bound, literal, got)
				}
			}
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A client is in a network by its address, however it is written.
func TestNetworksOfClients(t *testing.T) {
	cfg := &config.Config{Listeners: []config.Listener{{Name: "mx"}}}
	cfg.Limits.Exempt = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("fe80::/10")}
	cfg.Listeners[0].RelayFrom = cfg.Limits.Exempt
	n := &Node{}
	n.gen.Store(&generation{cfg: cfg})
	for addr, want := range map[string]bool{"192.0.2.9": true, "::ffff:192.0.2.9": true, "fe80::1%eth0": true, "192.0.3.9": false, "2001:db8::1": false} {
		client := netip.MustParseAddr(addr)
		if n.exempt(client) != want || n.among("mx", relayFrom)(client) != want || n.among("other", relayFrom)(client) {
			t.Errorf("%s: exempt %v, may relay %v, elsewhere %v", addr, n.exempt(client), n.among("mx", relayFrom)(client), n.among("other", relayFrom)(client))
		}
	}
}

// What programs hand in is bounded as mail of others is: a full queue puts them off,
// before their content is read, and a message that goes in a circle ends.
// RFC 5321 6.3: "servers MUST contain provisions for detecting and stopping trivial loops".
func TestSubmitHasTheChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := startPiped(t, vfs.NewMem(), func(cfg *config.Config) { cfg.Queue.MaxRecipients, cfg.Queue.DelayNotice = 1, 0 })
		to := []smtp.Path{mailbox(t, "alice@our.example")}
		loop := strings.Repeat("Received: from a by b; Tue, 24 Nov 2026 03:00:00 +0000\r\n", 100) + "\r\n"
		if r, _ := s.submit(t.Context(), admin.Letter{To: to, Content: strings.NewReader(loop)}); r.Code != 554 || r.Status.String() != "5.4.6" {
			t.Errorf("a loop: %v", r)
		}
		s.take("alice@our.example")
		if r, who := s.submit(t.Context(), admin.Letter{To: to, Content: unread{t}}); r.Code != 452 || r.Status.String() != "4.3.1" || who != -1 {
			t.Errorf("a full queue: %v of %d", r, who)
		}
		cfg := *s.cfg // what it allows, the memory may not
		cfg.Queue.MaxRecipients = 1000
		g, err := s.newGeneration(&cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, listener := range []string{"mx", localListener} {
			if v := g.checks[listener].Mail.Check(t.Context(), &postrider.Transaction{From: mailbox(t, "s@x.example")}); v.Reply.Code != 452 {
				t.Errorf("%s: a full queue: %+v", listener, v)
			}
		}
		if d := s.gen.Load().plan().DelayNotice; d >= 0 {
			t.Errorf("senders hear after %v that mail is late, and are never to", d)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What goes wrong beside the mail is in the log: an alias file, the accounts, the
// journal, the queue. Accounts without keys of SCRAM are named where they keep it from
// all others.
func TestTroubleIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const old = "alice@our.example:$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA\n"
		disk := vfs.NewMem()
		put := func(name, text string) {
			t.Helper()
			if err := replaceFile(disk, name, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		if err := disk.MkdirAll("data", 0o700); err != nil {
			t.Fatal(err)
		}
		put("data/accounts", old)
		put("aliases", "info: alice\n")
		s, _ := startPiped(t, disk, func(cfg *config.Config) { cfg.Domains[0].Aliases = "aliases" })
		told := func(what string, want int) {
			t.Helper()
			if n := s.said(what); n != want {
				t.Errorf("%q is told %d times, want %d", what, n, want)
			}
		}
		told("SCRAM is not offered: some accounts are older", 1)
		time.Sleep(time.Minute)
		told("an alias file is not taken", 0)
		put("data/accounts", "nonsense\n")
		put("aliases", "nonsense\n")
		for range 3 {
			s.take("info@our.example")
			s.accounts.Has(mailbox(t, "alice@our.example"))
			time.Sleep(time.Minute)
		}
		told("an alias file is not taken", 1)
		told("accounts: what the file held before stays", 1)
		told("journal: ", 0)
		disk.SetHook(func(op vfs.Op) error {
			if strings.Contains(op.Name, "/journal/") && op.Kind.Changes() {
				return syscall.ENOSPC
			}
			return nil
		})
		s.take("info@our.example")
		time.Sleep(time.Hour)
		if s.said("journal: ") == 0 {
			t.Error("the journal cannot be written, and nobody hears of it")
		}
		disk.SetHook(nil)
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The journal keeps what the configuration says: so many days, and so much.
func TestJournalIsBounded(t *testing.T) {
	for _, bound := range []config.Journal{{Keep: 48 * time.Hour, MaxSize: 1 << 30}, {Keep: 1000 * time.Hour, MaxSize: 1}} {
		synctest.Test(t, func(t *testing.T) {
			disk := vfs.NewMem()
			s, _ := startPiped(t, disk, func(cfg *config.Config) { cfg.Journal = bound })
			for range 10 {
				s.take("alice@our.example")
				time.Sleep(24 * time.Hour)
			}
			days := 0
			list, err := disk.ReadDir("data/journal")
			for _, f := range list {
				if strings.HasSuffix(f.Name(), ".jnl") {
					days++
				}
			}
			if err != nil || days == 0 || days > 4 {
				t.Errorf("%+v: %d days are kept, %v", bound, days, err)
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// Other hosts hear our name in EHLO: RFC 5321 4.1.1.1 wants "the fully-qualified domain
// name of the SMTP client".
func TestHostsHearOurName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := make(chan string, 100)
		s, network := startPiped(t, vfs.NewMem(), func(cfg *config.Config) {
			cfg.Hostname = "mx.our.example"
			cfg.Routes[0].To = postrider.Route{Via: postrider.ViaSMTP, Host: "192.0.2.9", Port: 25, Private: true, TLS: postrider.TLSNone}
		})
		network.mu.Lock()
		network.beyond = func(conn net.Conn) {
			defer conn.Close()
			fmt.Fprint(conn, "220 far.example\r\n")
			line, _ := bufio.NewReader(conn).ReadString('\n')
			heard <- line
		}
		network.mu.Unlock()
		s.take("bob@far.example")
		if line := <-heard; line != "EHLO mx.our.example\r\n" {
			t.Errorf("the host hears %q", line)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Reports come from the postmaster of the configuration that holds now. RFC 6531 3.2:
// where a domain can be in A-labels, a report in ASCII has it so.
func TestReportsAreFromThePostmaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := startPiped(t, vfs.NewMem(), func(cfg *config.Config) {
			cfg.Postmaster = mailbox(t, "ops@b\u00fccher.example")
			cfg.Routes[0].To = postrider.Route{Via: postrider.ViaError, Reply: smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 2}, Text: "no"}}
		})
		s.env.Load = func() (*config.Config, error) {
			next := *s.cfg
			next.Postmaster = mailbox(t, "now@our.example")
			return &next, nil
		}
		for _, want := range []string{"<ops@xn--bcher-kva.example>", "<now@our.example>"} {
			s.take("x@far.example")
			time.Sleep(time.Minute)
			var found []string
			for m, err := range s.store.Scan(t.Context()) {
				if err != nil || !m.Null() {
					t.Fatalf("%+v, %v", m, err)
				}
				c, err := s.store.Open(t.Context(), m.ID)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(c.Reader())
				if err != nil {
					t.Error(err)
				}
				c.Close()
				found = append(found, string(text))
			}
			if !slices.ContainsFunc(found, func(report string) bool { return strings.Contains(report, want) }) {
				t.Errorf("no report is from %s: %q", want, found)
			}
			if _, err := s.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A route that wants a certificate that can be trusted trusts those whom the node was
// told to trust.
func TestRelayTrustsTheRoots(t *testing.T) {
	cfg := base(t.TempDir())
	cfg.Hostname, cfg.Domains[0].Name, cfg.TLS = "mx.b.example", "b.example", config.TLS{SelfSigned: true}
	b := start(t, cfg, dns.NewZone())
	text, err := os.ReadFile(filepath.Join(b.dir, SelfSignedFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	cfg = base(t.TempDir())
	cfg.Routes[0].To = postrider.Route{Via: postrider.ViaSMTP, Host: "127.0.0.1", Port: addrPort(b.Addr("mx")).Port(), TLS: postrider.TLSVerify, Private: true}
	w := newWorld(t, cfg, dns.NewZone())
	w.Node.env.Roots = roots
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	if r := send(t, w.Addr("mx"), "s@x.example", content, "bob@b.example"); !r.Positive() {
		t.Fatal(r)
	}
	w.wait(map[string]string{"msg": "recipient", "to": "<bob@b.example>", "status": "delivered"})
}

// A route that leads back to our own listener is not followed, and the sender's mail does
// not go round.
func TestRouteToOurselves(t *testing.T) {
	dir := t.TempDir()
	text := func(route string) string {
		return conf(dir, "listener \"mx\" {\n  address    = \"127.0.0.1:0\"\n  relay_from = [\"127.0.0.1\"]\n}\nroute \"*\" {"+route+"}\n")
	}
	w, f := reloadable(t, text(` via = "hold" `))
	f.write(text(fmt.Sprintf("\n  via = \"smtp://%s\"\n  tls = \"none\"\n", w.Addr("mx"))))
	if _, err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := send(t, w.Addr("mx"), "s@x.example", content, "bob@far.example"); !r.Positive() {
		t.Fatal(r)
	}
	line := w.wait(map[string]string{"msg": "recipient", "to": "<bob@far.example>"})
	if line["dsn"] != "4.3.5" || line["status"] != "deferred" {
		t.Errorf("%v", line)
	}
}

// far is a node in a bubble whose mail to others goes to one host.
func far(t *testing.T, beyond func(net.Conn)) (*still, *vfs.Mem) {
	t.Helper()
	disk := vfs.NewMem()
	s, network := startPiped(t, disk, func(cfg *config.Config) {
		cfg.Routes[0].To = postrider.Route{Via: postrider.ViaSMTP, Host: "192.0.2.9", Port: 25, Private: true, TLS: postrider.TLSNone}
	})
	network.mu.Lock()
	defer network.mu.Unlock()
	network.beyond = beyond
	return s, disk
}

// RFC 1985 5.1: ETRN begins with what waits for a node, whatever the case of its name, and
// with nothing else: not what an operator holds, not what is settled, not what waits for
// another node in the same message. What cannot be read keeps nobody from the rest, and
// where nothing can be begun that is said (RFC 1985 5.3).
func TestETRNChooses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, disk := far(t, nil)
		ids := map[string]postrider.ID{}
		for _, to := range [][]string{{"a@Upper.Example"}, {"a@held.example"}, {"a@settled.example", "b@other.example"}, {"a@two.example"}, {"b@two.example"}} {
			s.take(to...)
			for m, err := range s.store.Scan(t.Context()) {
				if _, domain, _ := strings.Cut(to[0], "@"); err == nil && m.Recipients[0].To.Domain == domain {
					ids[domain] = m.ID
				}
			}
		}
		amend := []postrider.Amendment{{ID: ids["held.example"], Do: postrider.AmendHold}, {ID: ids["settled.example"], Rcpts: []int{0}, Do: postrider.AmendDrop}}
		if err := s.spool.Commit(t.Context(), postrider.Batch{Amend: amend}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		ask := func(node string, code int, says string) {
			t.Helper()
			if r := s.turn(t.Context(), node); r.Code != code || !strings.Contains(r.Text, says) {
				t.Errorf("%s: %v, want %d %s", node, r, code, says)
			}
			synctest.Wait()
		}
		ask("upper.example", 253, "1 pending")
		ask("HELD.example", 251, "no messages")
		ask("settled.example", 251, "no messages")
		ask("other.example", 253, "1 pending")
		ask("per.example", 251, "no messages")
		ask("@per.example", 251, "no messages")
		ask("@example", 253, "4 pending")
		broken := 0
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpRead && strings.HasPrefix(op.Name, "data/spool/seg/") {
				if broken++; broken == 1 {
					return syscall.EIO
				}
			}
			return nil
		})
		ask("two.example", 253, "1 pending")
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind.Changes() {
				return syscall.ENOSPC
			}
			return nil
		})
		ask("two.example", 458, "Unable to queue messages for node two.example")
		if disk.SetHook(nil); s.said("ETRN could not be carried out") != 1 {
			t.Error("the log does not say why")
		}
		_ = s.Stop(t.Context())
	})
}

// What is under way when ETRN comes is not begun again.
func TestETRNLeavesWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &slowPeer{at: make(chan struct{}), answer: make(chan string)}
		s, _ := far(t, func(conn net.Conn) {
			defer conn.Close()
			host.serve(conn)
		})
		s.take("bob@far.example")
		<-host.at
		if r := s.turn(t.Context(), "far.example"); r.Code != 251 {
			t.Errorf("under way: %v", r)
		}
		host.answer <- "250 2.0.0 taken"
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// Who is connected when a socket closes, and is nobody's yet, is told by the end of the
// connection; and a server that has given its place up takes nobody from the next.
func TestSocketCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := row{conns: make(chan net.Conn)}
		s := newSocket(l)
		s.open()
		old, next := s.slot(), s.slot()
		old.Close()
		for range 20 {
			ours, theirs := net.Pipe()
			l.conns <- ours
			synctest.Wait()
			if _, err := old.Accept(); err == nil {
				t.Fatal("who has left takes a connection")
			}
			if conn, err := next.Accept(); err != nil || conn != ours {
				t.Fatalf("the next gets %v, %v", conn, err)
			}
			theirs.Close()
		}
		ours, theirs := net.Pipe()
		l.conns <- ours
		synctest.Wait()
		s.Close()
		_ = theirs.SetDeadline(time.Now().Add(time.Minute))
		if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection that was nobody's: %v", err)
		}
	})
}

// The control socket of a process that died is replaced, and is its owner's alone; a name
// that the system cannot take is told as such.
func TestListenControl(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	for range 2 {
		l, err := listenControl(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("x", socketNameMax))
	if _, err := listenControl(t.Context(), long); err == nil || !strings.Contains(err.Error(), "choose a shorter one") {
		t.Errorf("a long name: %v", err)
	}
}

// Mail that the disk does not take is put off for the client and for the program, and the
// operator hears why.
func TestDiskThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		s, network := startPiped(t, disk, nil)
		disk.SetHook(func(op vfs.Op) error {
			if strings.Contains(op.Name, "/spool/") && op.Kind.Changes() {
				return syscall.EIO
			}
			return nil
		})
		c, _ := network.client()
		c.say("EHLO x.example")
		if r := c.send(); r.Code/100 != 4 {
			t.Errorf("the client hears %v", r)
		}
		c.Close()
		l := admin.Letter{To: []smtp.Path{mailbox(t, "alice@our.example")}, Content: strings.NewReader("x\r\n")}
		if r, _ := s.submit(t.Context(), l); r.Code/100 != 4 {
			t.Errorf("the program hears %v", r)
		}
		for _, what := range []string{"mail could not be taken in", "mail of a program could not be taken in"} {
			if s.said(what) == 0 {
				t.Errorf("the operator does not hear that %s", what)
			}
		}
		_ = s.Stop(t.Context())
	})
}

// All transactions together have so much room for their recipients, and a recipient
// beyond is put off.
func TestEnvelopesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, network := startPiped(t, vfs.NewMem(), nil)
		s.envelopes.Max = 1
		c, _ := network.client()
		for _, line := range []string{"EHLO x.example", "MAIL FROM:<s@x.example>"} {
			c.say(line)
		}
		if r := c.say("RCPT TO:<alice@our.example>"); r.Code/100 != 4 {
			t.Errorf("beyond the room: %v", r)
		}
		c.Close()
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A slowSpool takes a second for each commit, and fails in some.
type slowSpool struct {
	postrider.Spool
	err error
}

func (s slowSpool) Commit(context.Context, postrider.Batch) error {
	time.Sleep(time.Second)
	return s.err
}

// The time that commits take is that of those which somebody waits for, and which are
// carried out.
func TestCommitsAreTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{env: Env{Now: time.Now}, metrics: admin.NewMetrics()}
		for _, tt := range []struct {
			lazy bool
			err  error
		}{{false, nil}, {false, nil}, {true, nil}, {false, io.EOF}} {
			if err := (timedSpool{slowSpool{err: tt.err}, n}).Commit(t.Context(), postrider.Batch{Lazy: tt.lazy}); err != tt.err {
				t.Error(err)
			}
		}
		page := httptest.NewRecorder()
		admin.Public(admin.Options{Metrics: n.metrics}).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for _, want := range []string{"postrider_commit_seconds_count 2", "postrider_commit_seconds_sum 2"} {
			if !strings.Contains(page.Body.String(), want+"\n") {
				t.Errorf("the metrics do not say %s", want)
			}
		}
	})
}

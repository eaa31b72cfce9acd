package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// A world is one node under test and what it says.
type world struct {
	*Node
	t     *testing.T
	dir   string
	lines chan map[string]any // of the log
}

// Write takes one line of the log.
func (w *world) Write(p []byte) (int, error) {
	var line map[string]any
	if err := json.Unmarshal(p, &line); err != nil {
		w.t.Errorf("log: %v: %s", err, p)
	}
	select {
	case w.lines <- line:
	default:
		w.t.Error("the log is longer than any test reads")
	}
	return len(p), nil
}

// wait returns the next line of the log with such values, and passes others
// over.
func (w *world) wait(want map[string]string) map[string]any {
	w.t.Helper()
	late := time.After(patience)
	for {
		select {
		case line := <-w.lines:
			found := true
			for k, v := range want {
				found = found && fmt.Sprint(line[k]) == v
			}
			if found {
				return line
			}
		case <-late:
			w.t.Fatalf("no line of the log with %v", want)
		}
	}
}

// base is a configuration on free ports.
func base(dir string) *config.Config {
	c := config.Builtin(filepath.Join(dir, "data"))
	for i := range c.Listeners {
		c.Listeners[i].Address = "127.0.0.1:0"
	}
	c.Listeners[0].RelayFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c.Admin.Address = "127.0.0.1:0"
	return c
}

func newWorld(t *testing.T, cfg *config.Config, zone dns.Resolver) *world {
	t.Helper()
	w := &world{t: t, dir: cfg.DataDir, lines: make(chan map[string]any, 1000)}
	env := System(cfg)
	env.Log = slog.New(slog.NewJSONHandler(w, nil))
	env.DNS = zone
	var err error
	if w.Node, err = New(cfg, env); err != nil {
		t.Fatal(err)
	}
	return w
}

// start starts the node, and stops it at the end of the test.
func start(t *testing.T, cfg *config.Config, zone dns.Resolver) *world {
	t.Helper()
	w := newWorld(t, cfg, zone)
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.end() })
	return w
}

func (w *world) end() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.Stop(ctx); err != nil {
		w.t.Errorf("stop: %v", err)
	}
}

func mailbox(t *testing.T, s string) smtp.Path {
	t.Helper()
	p, err := smtp.ParsePath(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// send is a client with one message; the reply is that of the first recipient.
func send(t *testing.T, to net.Addr, from string, content string, rcpts ...string) smtp.Reply {
	t.Helper()
	conn, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtpc.NewConn(t.Context(), conn, smtpc.Options{Hello: "client.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tx := smtpc.Transaction{From: mailbox(t, from), Params: smtp.MailParams{Body: smtp.Body8BitMIME}, Content: strings.NewReader(content)}
	for _, r := range rcpts {
		tx.Rcpts = append(tx.Rcpts, smtpc.Rcpt{To: mailbox(t, r)})
	}
	res := c.Send(t.Context(), tx)
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	reply, _ := res.Decides(0)
	return reply
}

// folder returns the files of a Maildir.
func folder(t *testing.T, dir, domain, user string) [][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "mail", domain, user, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

const content = "Subject: caf\xe9\r\n\r\n.\r\n..dots\r\n\xff\xfe\r\nend\r\n"

// Mail that comes in lies in the Maildir, octet for octet under our trace
// fields, and its way is in the log and in the metrics.
func TestIntoMaildir(t *testing.T) {
	w := start(t, base(t.TempDir()), dns.NewZone())
	if r := send(t, w.Addr("mx"), "s@client.example", content, "Anyone+tag@localhost", "held@far.example"); !r.Positive() {
		t.Fatal(r)
	}
	accepted := w.wait(map[string]string{"msg": "accepted", "from": "<s@client.example>", "rcpts": "2", "listener": "mx"})
	line := w.wait(map[string]string{"msg": "recipient", "to": "<Anyone+tag@localhost>"})
	for key, want := range map[string]any{"id": accepted["id"], "from": "<s@client.example>", "relay": "local:localhost", "dsn": "2.0.0", "status": "delivered"} {
		if line[key] != want {
			t.Errorf("the log says %s=%v, want %v", key, line[key], want)
		}
	}
	if _, err := time.ParseDuration(fmt.Sprint(line["delay"])); err != nil {
		t.Errorf("delay: %v", err)
	}
	box := folder(t, w.dir, "localhost", "anyone")
	if len(box) != 1 || !bytes.HasSuffix(box[0], []byte(content)) || !bytes.HasPrefix(box[0], []byte("Return-Path: <s@client.example>\r\n")) {
		t.Errorf("in the mailbox: %q", box)
	}
	page := w.get("/metrics")
	for _, want := range []string{"postrider_accepted_total 1", `postrider_attempts_total{result="delivered"} 1`,
		`postrider_queue_recipients{state="held"} 1`, `postrider_queue_recipients{state="queued"} 0`, "postrider_accept_seconds_count 1"} {
		if !strings.Contains(page, "\n"+want+"\n") {
			t.Errorf("the metrics do not say %q", want)
		}
	}
	if ok := w.get("/healthz"); ok != "ok\n" {
		t.Errorf("/healthz: %q", ok)
	}
}

// get reads a page of the HTTP address.
func (w *world) get(page string) string {
	w.t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get("http://" + w.AdminAddr().String() + page)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

// Two nodes: A relays to B by MX. What B refuses is reported to the sender at A.
func TestRelay(t *testing.T) {
	zone := dns.NewZone().MX("b.example", 10, "mx.b.example").A("mx.b.example", "127.0.0.1")
	cfg := base(t.TempDir())
	cfg.Hostname, cfg.Domains[0].Name, cfg.Domains[0].Mailboxes = "mx.b.example", "b.example", []string{"bob"}
	b := start(t, cfg, zone)
	cfg = base(t.TempDir())
	cfg.Hostname, cfg.Domains[0].Name = "a.example", "a.example"
	port := addrPort(b.Addr("mx")).Port()
	cfg.Routes[0].To = postrider.Route{Via: postrider.ViaMX, Port: port, Private: true}
	a := start(t, cfg, zone)
	if r := send(t, a.Addr("mx"), "alice@a.example", content, "bob@b.example", "nobody@b.example"); !r.Positive() {
		t.Fatal(r)
	}
	b.wait(map[string]string{"msg": "recipient", "to": "<bob@b.example>", "status": "delivered"})
	if box := folder(t, b.dir, "b.example", "bob"); len(box) != 1 || !bytes.HasSuffix(box[0], []byte(content)) {
		t.Errorf("bob has %q", box)
	}
	a.wait(map[string]string{"msg": "recipient", "to": "<alice@a.example>", "from": "<>", "status": "delivered"})
	box := folder(t, a.dir, "a.example", "alice")
	if len(box) != 1 || !bytes.Contains(box[0], []byte("nobody@b.example")) || !bytes.Contains(box[0], []byte("5.1.1")) {
		t.Errorf("the report to alice: %q", box)
	}
}

// RFC 5321 5.1: mail is never sent to ourselves because an MX record says so.
func TestLocal(t *testing.T) {
	w := start(t, base(t.TempDir()), dns.NewZone())
	at := addrPort(w.Addr("mx"))
	if !w.Local(at) {
		t.Errorf("%v is not ours", at)
	}
	cfg := base(t.TempDir())
	cfg.Listeners[0].Address = ":0"
	all := start(t, cfg, dns.NewZone())
	own := addrPort(all.Addr("mx")).Port()
	machine, err := systemAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"127.0.0.2", "::ffff:127.0.0.1", "0.0.0.0", "::"} { // by these one reaches this machine, too
		machine = append(machine, netip.MustParseAddr(s))
	}
	for _, a := range machine {
		if !all.Local(netip.AddrPortFrom(a, own)) {
			t.Errorf("%v is not ours", a)
		}
	}
	if all.Local(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), own)) || w.Local(netip.AddrPortFrom(at.Addr(), at.Port()+1)) {
		t.Error("a stranger is ours")
	}
}

// A message under way at Stop is finished, and is there at the next start.
func TestStopDrains(t *testing.T) {
	cfg := base(t.TempDir())
	cfg.Domains[0].Deliver = postrider.Route{Via: postrider.ViaHold}
	w := newWorld(t, cfg, dns.NewZone())
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", w.Addr("mx").String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtpc.NewConn(t.Context(), conn, smtpc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	idle, err := net.Dial("tcp", w.Addr("mx").String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	lines := bufio.NewReader(idle)
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "220 ") {
		t.Fatalf("greeted with %q, %v", line, err)
	}
	r, pw := io.Pipe()
	sent := make(chan smtpc.Result)
	go func() {
		sent <- c.Send(t.Context(), smtpc.Transaction{From: mailbox(t, "s@x.example"), Rcpts: []smtpc.Rcpt{{To: mailbox(t, "u@localhost")}}, Content: r})
	}()
	io.WriteString(pw, "Subject: late\r\n") // returns once the client is behind DATA
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.end()
	}()
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "421 ") {
		t.Errorf("who waits hears %q, %v", line, err)
	}
	io.WriteString(pw, "\r\nlate\r\n")
	pw.Close()
	if res := <-sent; res.Err != nil || !res.Final.Positive() {
		t.Errorf("the message under way: %v, %v", res.Final, res.Err)
	}
	<-stopped
	count := 0
	for m, err := range ReadQueue(t.Context(), cfg, w.env.FS) {
		if err != nil || m.State != admin.StateHeld {
			t.Errorf("%+v, %v", m, err)
		}
		count++
	}
	if count != 1 {
		t.Errorf("%d messages after the stop, want 1", count)
	}
}

// The control socket answers its owner, and nobody else can open it.
func TestControl(t *testing.T) {
	w := start(t, base(t.TempDir()), dns.NewZone())
	send(t, w.Addr("mx"), "s@client.example", content, "held@far.example")
	name := filepath.Join(w.dir, ControlSocket)
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if info, err := os.Stat(w.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory: %v, %v", info, err)
	}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", name)
	}}
	count := 0
	for m, err := range (admin.Client{Transport: tr}).Queue(t.Context(), admin.Filter{Domain: "far.example"}) {
		if err != nil || m.State != admin.StateHeld {
			t.Errorf("%+v, %v", m, err)
		}
		count++
	}
	if count != 1 {
		t.Errorf("%d messages, want 1", count)
	}
}

// What keeps a node from starting is told with what to do, and leaves nothing
// open: the next start works.
func TestCannotStart(t *testing.T) {
	first := start(t, base(t.TempDir()), dns.NewZone())
	taken := first.Addr("mx").String()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*config.Config)
		says   string
	}{
		{"port taken", func(c *config.Config) { c.Listeners[0].Address = taken }, "Another program listens there"},
		{"admin port taken", func(c *config.Config) { c.Admin.Address = taken }, "Another program listens there"},
		{"no such address", func(c *config.Config) { c.Listeners[0].Address = "192.0.2.1:0" }, "no such address"},
		{"data directory in use", func(c *config.Config) { c.DataDir = first.dir }, "stop that one"},
		{"a file in the way", func(c *config.Config) { c.DataDir = file }, "file in the way"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := base(t.TempDir())
			good := *cfg
			good.Listeners = append([]config.Listener(nil), cfg.Listeners...)
			tt.change(cfg)
			err := newWorld(t, cfg, dns.NewZone()).Start(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v does not say %q", err, tt.says)
			}
			start(t, &good, dns.NewZone())
		})
	}
}

// An error of the machine is told at its place in the configuration.
func TestErrorHasItsPlace(t *testing.T) {
	first := start(t, base(t.TempDir()), dns.NewZone())
	text := fmt.Sprintf("data_dir = %q\nlistener \"mx\" { address = %q }\n", t.TempDir(), first.Addr("mx"))
	cfg, found := config.Load("place.hcl", []byte(text), nil, nil)
	if found.HasErrors() {
		t.Fatal(found)
	}
	err := newWorld(t, cfg, dns.NewZone()).Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "place.hcl:2,27: error: cannot listen on") {
		t.Errorf("%v", err)
	}
}

// Two domains that are the same in another spelling are found before anything
// starts.
func TestNewRefuses(t *testing.T) {
	cfg := base(t.TempDir())
	cfg.Domains = append(cfg.Domains, config.Domain{Name: "b\u00fccher.example", Deliver: cfg.Domains[0].Deliver},
		config.Domain{Name: "xn--bcher-kva.example", Deliver: cfg.Domains[0].Deliver})
	if _, err := New(cfg, System(cfg)); err == nil {
		t.Error("the same domain twice is taken")
	}
}

// A spool that fails ends Run, with its error.
func TestRunFails(t *testing.T) {
	w := newWorld(t, base(t.TempDir()), dns.NewZone())
	done := make(chan error)
	go func() { done <- w.Run(t.Context()) }()
	w.wait(map[string]string{"msg": "listening"})
	broken := errors.New("broken")
	w.fail(broken)
	w.fail(errors.New("the second is not told"))
	if err := <-done; !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// As many recipients as may wait: the next sender is put off with 452.
func TestFull(t *testing.T) {
	cfg := base(t.TempDir())
	cfg.Queue.MaxRecipients = 2
	w := start(t, cfg, dns.NewZone())
	if r := send(t, w.Addr("mx"), "s@client.example", content, "a@far.example", "b@far.example"); !r.Positive() {
		t.Fatal(r)
	}
	if r := send(t, w.Addr("mx"), "s@client.example", content, "c@far.example"); r.Code != 452 || r.Status.String() != "4.3.1" {
		t.Errorf("%v, want 452 4.3.1", r)
	}
}

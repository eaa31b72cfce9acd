package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

// over is a client of a Unix socket.
func over(name string) *http.Transport {
	return &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: time.Minute, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", name)
	}}
}

// submitter starts a node with a socket for all users, which a change of the
// configuration may make another.
func submitter(t *testing.T, change func(*config.Config)) (*world, admin.Client) {
	t.Helper()
	cfg := base(t.TempDir())
	cfg.SubmitSocket = filepath.Join(t.TempDir(), "submit.sock")
	change(cfg)
	w := start(t, cfg, dns.NewZone())
	return w, admin.Client{Transport: over(cfg.SubmitSocket)}
}

// Who may open the socket submits mail, with its user in trace field and log, and
// does nothing else.
func TestSubmitSocket(t *testing.T) {
	w, c := submitter(t, func(*config.Config) {})
	for name, mode := range map[string]fs.FileMode{w.cfg.SubmitSocket: 0o666, filepath.Join(w.dir, ControlSocket): 0o600} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	content := "Subject: x\r\n\r\nx\r\n"
	l := admin.Letter{To: []smtp.Path{mailbox(t, "alice@localhost")}, Content: strings.NewReader(content), Size: int64(len(content))}
	done, err := c.Submit(t.Context(), l)
	if err != nil || done.Code != 250 {
		t.Fatal(done, err)
	}
	user := fmt.Sprintf("uid %d", os.Getuid())
	w.wait(map[string]string{"msg": "accepted", "account": user, "client": "local", "from": "<>"})
	w.wait(map[string]string{"msg": "recipient", "status": "delivered"})
	if mail := folder(t, w.dir, "localhost", "alice"); len(mail) != 1 || !strings.Contains(string(mail[0]), "("+user+")") {
		t.Errorf("%s", mail)
	}
	for _, ask := range []string{"GET /api/v1/queue", "GET /api/v1/queue/stat", "POST /api/v1/queue/drop?to=*", "POST /api/v1/reload",
		"GET /api/v1/where?q=x", "GET /metrics", "GET /healthz", "GET /api/v1/submit", "GET /"} {
		method, path, _ := strings.Cut(ask, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, "http://submit"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", ask, resp.Status)
		}
	}
}

// An unread content is one whose size is told and that nobody may read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	return 0, errors.New("there is nothing to read")
}

// What is too large, or has no room, is refused by the size that it is said to
// have; a thousand recipients are no trouble.
func TestSubmitSizes(t *testing.T) {
	w, c := submitter(t, func(c *config.Config) { c.Limits.MessageSize = 1000 })
	to := []smtp.Path{mailbox(t, "alice@localhost")}
	ask := func(l admin.Letter) int {
		t.Helper()
		reply, _ := w.submit(t.Context(), l)
		return reply.Normal().Code
	}
	if code := ask(admin.Letter{To: to, Content: unread{t}, Size: 1001}); code != 552 {
		t.Errorf("too large: %d", code)
	}
	if done, err := c.Submit(t.Context(), admin.Letter{To: to, Content: strings.NewReader(strings.Repeat("x", 2000))}); err != nil || done.Code != 552 {
		t.Errorf("too large, and not said: %+v, %v", done, err)
	}
	for size, want := range map[int]int{1000: 250, 1001: 552} {
		if code := ask(admin.Letter{To: to, Content: strings.NewReader(strings.Repeat("x", size-2) + "\r\n")}); code != want {
			t.Errorf("%d octets: %d, want %d", size, code, want)
		}
	}
	var many []smtp.Path
	for i := range 1000 {
		many = append(many, mailbox(t, fmt.Sprintf("a.long.name.%d@far.example", i)))
	}
	if done, err := c.Submit(t.Context(), admin.Letter{To: many, Content: strings.NewReader("x\r\n")}); err != nil || done.Code != 250 {
		t.Errorf("many: %+v, %v", done, err)
	}
	if r, who := w.submit(t.Context(), admin.Letter{To: append(many, to...), Content: unread{t}}); r.Code != 552 || r.Status.String() != "5.5.3" || who != -1 {
		t.Errorf("too many: %v of %d", r, who)
	}
	if code := ask(admin.Letter{To: []smtp.Path{mailbox(t, "\u03b4@far.example")}, UTF8: true, Content: strings.NewReader("x\r\n")}); code != 250 {
		t.Errorf("to an address in UTF-8: %d", code)
	}
	for m, err := range w.store.ScanDomains(t.Context(), func(domain string) bool { return domain == "far.example" }) {
		if err != nil || m.UTF8 != (m.Recipients[0].To.Local == "\u03b4") {
			t.Errorf("to %v: %v, %v", m.Recipients[0].To, m.UTF8, err)
		}
	}
	_, c = submitter(t, func(c *config.Config) { c.Limits.MinFree = 1 << 60 })
	if done, err := c.Submit(t.Context(), admin.Letter{To: to, Content: strings.NewReader("x\r\n"), Size: 3}); err != nil || done.Code != 452 {
		t.Errorf("no room: %+v, %v", done, err)
	}
}

// A hasty client does not wait for leave to send the content.
type hasty struct{ http.RoundTripper }

func (h hasty) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Del("Expect")
	return h.RoundTripper.RoundTrip(r)
}

// What is refused before its content was read, or in the middle of it, is told,
// however the client writes.
func TestSubmitRefused(t *testing.T) {
	_, c := submitter(t, func(c *config.Config) { c.Domains[0].Mailboxes = []string{"alice"} })
	long := strings.Repeat("x", 2000) // longer than a line may be
	for _, tt := range []struct {
		to, line string
		client   admin.Client
	}{
		{"bob@localhost", "x\r\n", c}, {"bob@localhost", "x\r\n", admin.Client{Transport: hasty{c.Transport}}},
		{"alice@localhost", long, c}, {"alice@localhost", long, admin.Client{Transport: hasty{c.Transport}}},
	} {
		for range 5 {
			content := strings.Repeat(tt.line, 8<<20/len(tt.line))
			done, err := tt.client.Submit(t.Context(), admin.Letter{To: []smtp.Path{mailbox(t, tt.to)}, Content: strings.NewReader(content), Size: int64(len(content))})
			if err != nil || done.Code != 550 {
				t.Fatalf("%s, %T: %+v, %v", tt.to, tt.client.Transport, done, err)
			}
		}
	}
}

// A row of connections is a listener.
type row struct {
	net.Listener
	conns chan net.Conn
}

func (r row) Accept() (net.Conn, error) {
	if c, ok := <-r.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (r row) Close() error {
	close(r.conns)
	return nil
}

// One user has so many connections and no more, all have so many, and each that
// ends leaves its place.
func TestCallersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		uid := 0
		r := row{conns: make(chan net.Conn)}
		l := newCallers(r, func(net.Conn) int { return uid })
		got := make(chan net.Conn, 2*callersMax)
		go func() {
			defer close(got)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				got <- c
			}
		}()
		connect := func() {
			c, _ := net.Pipe()
			select {
			case r.conns <- c:
			case <-time.After(time.Second): // nobody accepts
			}
			synctest.Wait()
		}
		for range callersEach + 5 {
			connect()
		}
		if len(got) != callersEach {
			t.Errorf("one user has %d connections", len(got))
		}
		first := <-got
		first.Close()
		first.Close() // gives one place back
		connect()
		connect()
		if len(got) != callersEach {
			t.Errorf("one user has %d connections after one has ended", len(got))
		}
		for uid = 1; uid < 10; uid++ {
			for range callersEach {
				connect()
			}
		}
		if len(got) != callersMax {
			t.Errorf("%d connections in all", len(got))
		}
		l.Close()
		for c := range got {
			c.Close()
		}
		if len(l.by) != 0 || len(l.places) != 0 {
			t.Errorf("left: %v, %d places", l.by, len(l.places))
		}
	})
}

// A socket that nobody listens on any more is replaced; one that somebody does,
// and what is no socket, stays.
func TestListenSubmit(t *testing.T) {
	name := filepath.Join(t.TempDir(), "s")
	first, err := listenSubmit(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenSubmit(t.Context(), name); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("in use: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	first.Close()
	again, err := listenSubmit(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSubmit(t.Context(), name); !errors.Is(err, syscall.ENOTSOCK) {
		t.Errorf("a file: %v", err)
	}
	if text, _ := os.ReadFile(name); string(text) != "mine" {
		t.Errorf("the file is %q now", text)
	}
	cfg := base(t.TempDir())
	cfg.SubmitSocket = filepath.Join(t.TempDir(), "gone", "s")
	if err := newWorld(t, cfg, dns.NewZone()).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "Make the folder") {
		t.Errorf("no folder: %v", err)
	}
}

// Few descriptors make few connections, and the operator is told.
func TestFewDescriptors(t *testing.T) {
	w := newWorld(t, base(t.TempDir()), dns.NewZone())
	w.Node.env.Descriptors = 1024
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.end)
	w.wait(map[string]string{"level": "WARN", "descriptors": "1024", "connections": "128"})
	w.Node.env.Descriptors = descriptorsKept / 2 // a few are taken all the same
	if n := w.maxConns(w.cfg, 2); n != connsMin {
		t.Errorf("%d connections", n)
	}
}

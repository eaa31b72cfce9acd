package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// A file is a configuration that a test changes while a node runs.
type file struct{ text atomic.Pointer[string] }

func (f *file) write(text string) { f.text.Store(&text) }

func (f *file) load() (*config.Config, error) {
	cfg, found := config.Load("r.hcl", []byte(*f.text.Load()), nil, nil)
	if found.HasErrors() {
		return nil, found
	}
	return cfg, nil
}

// reloadable starts a node on a configuration that can be changed.
func reloadable(t *testing.T, text string) (*world, *file) {
	t.Helper()
	f := &file{}
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
	t.Cleanup(func() { w.end() })
	return w, f
}

// conf is a configuration with these blocks beside its listener "mx".
func conf(dir, blocks string) string {
	return fmt.Sprintf("hostname = \"mx.example.org\"\ndata_dir = %q\n%s\n", dir, blocks)
}

const mx = `listener "mx" { address = "127.0.0.1:0" }` + "\n"

// A client speaks SMTP line by line.
type client struct {
	t *testing.T
	*smtpTalk
}

type smtpTalk struct {
	conn net.Conn
	in   []byte
}

func talk(t *testing.T, to net.Addr) *client {
	t.Helper()
	conn, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{t, &smtpTalk{conn: conn}}
	c.expect("220")
	return c
}

// say sends a line and wants a reply that begins so.
func (c *client) say(line, want string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	c.expect(want)
}

func (c *client) expect(want string) {
	c.t.Helper()
	for {
		line, rest, ok := strings.Cut(string(c.in), "\r\n")
		if !ok {
			b := make([]byte, 4096)
			n, err := c.conn.Read(b)
			if err != nil {
				c.t.Fatalf("want %q: %v", want, err)
			}
			c.in = append(c.in, b[:n]...)
			continue
		}
		c.in = []byte(rest)
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			c.t.Errorf("%q, want %q", line, want)
		}
		return
	}
}

// A transaction that is under way ends under the configuration that it began
// with; the next on the same connection is under the new one.
func TestReloadKeepsTransactions(t *testing.T) {
	dir := t.TempDir()
	w, f := reloadable(t, conf(dir, mx+`domain "old.example" { mailboxes = ["*"] }`))
	at := w.Addr("mx").String()
	c := talk(t, w.Addr("mx"))
	c.say("EHLO x.example", "250")
	c.say("MAIL FROM:<s@x.example>", "250")
	c.say("RCPT TO:<a@old.example>", "250")
	f.write(conf(dir, mx+`domain "new.example" { mailboxes = ["*"] }`))
	if later, err := w.Reload(t.Context()); err != nil || len(later) != 0 {
		t.Fatal(later, err)
	}
	if w.Addr("mx").String() != at {
		t.Errorf("the listener moved from %s to %s", at, w.Addr("mx"))
	}
	c.say("RCPT TO:<b@old.example>", "250")
	c.say("RCPT TO:<a@new.example>", "550")
	c.say("RSET", "250")
	c.say("MAIL FROM:<s@x.example>", "250")
	c.say("RCPT TO:<a@old.example>", "550")
	c.say("RCPT TO:<a@new.example>", "250")
	c.say("QUIT", "221")
}

// A configuration that is wrong changes nothing, and is told with its place; so
// is one whose listeners cannot be opened.
func TestReloadRefuses(t *testing.T) {
	dir := t.TempDir()
	good := conf(dir, mx+`domain "old.example" { mailboxes = ["*"] }`)
	w, f := reloadable(t, good)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		name, text, says string
		mistake          bool
	}{
		{"unknown key", good + "colour = \"blue\"\n", "r.hcl:5,1: error: unknown key", true},
		{"taken", good + fmt.Sprintf("listener \"b\" { address = \"127.0.0.1:0\" }\nlistener \"c\" { address = %q }\n", taken.Addr()), "r.hcl:6,26: ", false},
	} {
		f.write(tt.text)
		_, err := w.Reload(t.Context())
		if err == nil || !strings.Contains(err.Error(), tt.says) || errors.Is(err, admin.ErrConfig) != tt.mistake {
			t.Errorf("%s: %v", tt.name, err)
		}
		line := w.wait(map[string]string{"msg": "the configuration was not reloaded: what ran before goes on"})
		if !strings.Contains(fmt.Sprint(line["error"]), tt.says) {
			t.Errorf("%s: the log says %v", tt.name, line)
		}
		if w.Addr("b") != nil {
			t.Errorf("%s: half of it holds", tt.name)
		}
		if r := send(t, w.Addr("mx"), "s@x.example", content, "a@old.example"); !r.Positive() {
			t.Errorf("%s: %v", tt.name, r)
		}
	}
}

// Listeners come and go, and change their terms, while connections stay.
func TestReloadListeners(t *testing.T) {
	dir := t.TempDir()
	domain := `domain "a.example" { mailboxes = ["*"] }` + "\n"
	w, f := reloadable(t, conf(dir, mx+domain))
	c := talk(t, w.Addr("mx"))
	at := w.Addr("mx").String()
	f.write(conf(dir, `listener "in" { address = "127.0.0.1:0" }
listener "two" { address = "127.0.0.1:0" }
limits { message_size = "70KiB" }`+"\n"+domain))
	if later, err := w.Reload(t.Context()); err != nil || len(later) != 0 {
		t.Fatal(later, err)
	}
	if w.Addr("in").String() != at || w.Addr("mx") != nil || w.Addr("two") == nil {
		t.Errorf("in %v, mx %v, two %v", w.Addr("in"), w.Addr("mx"), w.Addr("two"))
	}
	for _, l := range []string{"in", "two"} {
		if r := send(t, w.Addr(l), "s@x.example", content, "u@a.example"); !r.Positive() {
			t.Errorf("%s: %v", l, r)
		}
		big := talk(t, w.Addr(l))
		big.say("EHLO x.example", "250")
		big.say("MAIL FROM:<s@x.example> SIZE=80000", "552")
	}
	// The listener of this connection has another name now.
	c.say("EHLO x.example", "250")
	c.say("MAIL FROM:<s@x.example>", "421")

	second := talk(t, w.Addr("two"))
	second.say("EHLO x.example", "250")
	second.say("MAIL FROM:<s@x.example>", "250")
	gone := w.Addr("two").String()
	f.write(conf(dir, mx+domain))
	if _, err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wait(map[string]string{"msg": "no longer listening", "listener": "two"})
	if conn, err := net.Dial("tcp", gone); err == nil {
		conn.Close()
		t.Error("the closed listener is open")
	}
	second.say("RCPT TO:<u@a.example>", "250")
	second.say("DATA", "354")
	second.say("Subject: last\r\n\r\nx\r\n.", "250")
	second.expect("421")
}

// What changes at the next start only is told.
func TestReloadLater(t *testing.T) {
	dir := t.TempDir()
	w, f := reloadable(t, conf(dir, mx))
	f.write(strings.Replace(conf(dir, mx), "mx.example.org", "other.example.org", 1))
	if later, err := w.Reload(t.Context()); err != nil || strings.Join(later, " ") != "hostname" {
		t.Errorf("%q, %v", later, err)
	}
	w.wait(map[string]string{"level": "WARN", "key": "hostname"})
}

// A route that changes takes what waits with it.
func TestReloadMovesMail(t *testing.T) {
	dir := t.TempDir()
	relay := `listener "mx" {
  address    = "127.0.0.1:0"
  relay_from = ["127.0.0.1"]
}
`
	w, f := reloadable(t, conf(dir, relay+`route "*" { via = "hold" }`))
	if r := send(t, w.Addr("mx"), "s@x.example", content, "a@far.example"); !r.Positive() {
		t.Fatal(r)
	}
	f.write(conf(dir, relay+fmt.Sprintf(`route "*" { via = "maildir:%s/{domain}/{user}" }`, dir)))
	if _, err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wait(map[string]string{"msg": "recipient", "to": "<a@far.example>", "status": "delivered"})
}

// Reload under load, with good and bad files in turn: every message is taken, and
// arrives, and no connection is dropped.
func TestReloadUnderLoad(t *testing.T) {
	dir := t.TempDir()
	text := func(size int) string {
		return conf(dir, fmt.Sprintf("limits { message_size = \"%dKiB\" }\n", size)+mx+`domain "a.example" { mailboxes = ["*"] }`)
	}
	w, f := reloadable(t, text(100))
	w.lines = make(chan map[string]any, 1<<16)
	at := w.Addr("mx")
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var sent atomic.Int64
	took := make(chan struct{}, 1)
	for i := range 4 {
		clients.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				conn, err := net.Dial("tcp", at.String())
				if err != nil {
					t.Error(err)
					return
				}
				c, err := smtpc.NewConn(context.Background(), conn, smtpc.Options{Hello: "client.example"})
				if err != nil {
					t.Error(err)
					return
				}
				for k := range 5 {
					to := smtp.Path{Local: fmt.Sprintf("u%d-%d-%d", i, n, k), Domain: "a.example"}
					res := c.Send(context.Background(), smtpc.Transaction{From: smtp.Path{Local: "s", Domain: "x.example"},
						Rcpts: []smtpc.Rcpt{{To: to}}, Content: strings.NewReader("Subject: x\r\n\r\nx\r\n")})
					if reply, _ := res.Decides(0); res.Err != nil || !reply.Positive() {
						t.Errorf("%v: %v, %v", to, reply, res.Err)
						return
					}
					sent.Add(1)
					select {
					case took <- struct{}{}:
					default:
					}
				}
				c.Quit(context.Background())
				c.Close()
			}
		})
	}
	for i := range 100 {
		bad := i%2 == 1
		if f.write(text(100 + i)); bad {
			f.write(text(100+i) + "colour = \"blue\"\n")
		}
		<-took
		_, err := w.Reload(t.Context())
		if bad != (err != nil) || bad && !strings.Contains(err.Error(), "r.hcl:6,1: error: unknown key") {
			t.Errorf("reload %d: %v", i, err)
		}
	}
	stop()
	clients.Wait()
	for range sent.Load() {
		w.wait(map[string]string{"msg": "recipient", "status": "delivered"})
	}
	if st := w.store.Stat(); sent.Load() < 100 || st.Recipients != 0 {
		t.Errorf("%d messages sent, %d wait", sent.Load(), st.Recipients)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.retired) > 4 { // clients that are in the middle of their end
		t.Errorf("%d servers are left of the reloads", len(w.retired))
	}
}

package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// A connection that could not be accepted leaves no place taken: after enough of them
// nobody would be served any more.
func TestCallersWithoutAConnection(t *testing.T) {
	l := newCallers(&stubborn{row{conns: make(chan net.Conn)}, []error{syscall.EMFILE}}, func(net.Conn) int { return 0 })
	if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) || len(l.places) != 0 {
		t.Errorf("%v, and %d places are taken", err, len(l.places))
	}
}

// memPair puts a certificate and its key into two files of a disk in memory.
func memPair(t *testing.T, disk *vfs.Mem, host string) config.TLS {
	t.Helper()
	conf := config.TLS{Cert: "tls/c.pem", Key: "tls/k.pem"}
	text, err := makeSelfSigned(host, time.Now())
	block, rest := pem.Decode(text)
	if err = errors.Join(err, disk.MkdirAll("tls", 0o700), replaceFile(disk, conf.Cert, pem.EncodeToMemory(block)), replaceFile(disk, conf.Key, rest)); err != nil {
		t.Fatal(err)
	}
	return conf
}

// A certificate whose files could not be read for a while is taken when they can be,
// though they have not changed again.
func TestCertificateIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		cfg := config.Builtin("data")
		cfg.TLS = memPair(t, disk, "one.example")
		n := &Node{cfg: cfg, env: Env{FS: disk, Now: time.Now, Log: slog.New(slog.DiscardHandler)}}
		c, err := n.openCertificate(cfg)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		memPair(t, disk, "two.example")
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind == vfs.OpOpen {
				return syscall.EIO
			}
			return nil
		})
		c.refresh()
		disk.SetHook(nil)
		c.refresh()
		if host := c.shown.Load().Certificates[0].Leaf.Subject.CommonName; host != "two.example" {
			t.Errorf("the certificate of %s is shown", host)
		}
	})
}

// Where a reload begins TLS, the files of its certificate are watched from then on.
func TestReloadBeginsTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *still
		disk := vfs.NewMem()
		pair := memPair(t, disk, "one.example")
		s = startStill(t, disk, func() (*config.Config, error) {
			next := withListener(s.cfg)
			next.TLS, next.Listeners[0].TLS = pair, config.TLSStart
			return next, nil
		})
		s.env.Net = &lobby{open: map[string]bool{}}
		time.Sleep(time.Minute) // nobody watches any file
		if _, err := s.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"one.example", "two.example"} {
			if shown := s.tlsConfig().Certificates; len(shown) != 1 || shown[0].Leaf.Subject.CommonName != host {
				t.Errorf("the certificate of %s is not shown", host)
			}
			time.Sleep(time.Second) // or the files have the time of before
			memPair(t, disk, "two.example")
			time.Sleep(2 * certEvery)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What a handshake uses is the same at every listener but for the certificates of users
// that one may ask for: nobody resumes a session (RFC 8446 4.6.1) under a
// certificate or a trust that a reload has taken away, and a certificate that nobody knows
// ends no handshake.
func TestHandshakes(t *testing.T) {
	pool := x509.NewCertPool()
	n := &Node{}
	n.gen.Store(&generation{vouchers: vouchers{clients: map[string]*x509.CertPool{"users": pool}}})
	for _, listener := range []string{"mx", "users"} { // a reload has just ended TLS
		if c := n.tlsConfigOf(listener)(); c == nil || !c.SessionTicketsDisabled || len(c.Certificates) != 0 {
			t.Errorf("%s, without a certificate: %+v", listener, c)
		}
	}
	cert := &certificate{}
	cert.show(tls.Certificate{Certificate: [][]byte{{1}}})
	n.gen.Store(&generation{cert: cert, vouchers: n.gen.Load().vouchers})
	for _, listener := range []string{"users", "mx"} {
		c, asks, of := n.tlsConfigOf(listener)(), tls.NoClientCert, (*x509.CertPool)(nil)
		if listener == "users" {
			asks, of = tls.RequestClientCert, pool
		}
		if len(c.Certificates) != 1 || c.MinVersion != tls.VersionTLS12 || !c.SessionTicketsDisabled || c.ClientAuth != asks || c.ClientCAs != of {
			t.Errorf("%s: %+v", listener, c)
		}
	}
}

// The certificate of our own making is on the disk when it is shown, whatever comes
// after: one that clients have come to trust stays. What cannot be read is not replaced,
// and a write that fails leaves nothing behind.
func TestSelfSignedStays(t *testing.T) {
	disk, now := vfs.NewMem(), time.Now()
	made, err := selfSigned(disk, SelfSignedFile, "mx.example.org", now)
	if err != nil {
		t.Fatal(err)
	}
	disk = disk.Crash(vfs.KeepNone)
	if again, err := selfSigned(disk, SelfSignedFile, "mx.example.org", now); err != nil || !again.Leaf.Equal(made.Leaf) {
		t.Errorf("after a power cut: %v, another certificate", err)
	}
	fails := func(kind vfs.OpKind) error {
		disk.SetHook(func(op vfs.Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		})
		_, err := selfSigned(disk, SelfSignedFile, "mx.example.org", now.Add(selfSignedLife))
		disk.SetHook(nil)
		return err
	}
	for _, kind := range []vfs.OpKind{vfs.OpOpen, vfs.OpRead, vfs.OpWrite, vfs.OpSync, vfs.OpRename} {
		if err := fails(kind); !errors.Is(err, syscall.EIO) {
			t.Errorf("%v fails: %v", kind, err)
		}
		if list, err := disk.ReadDir("."); err != nil || len(list) != 1 {
			t.Errorf("%v fails, and there are %v, %v", kind, list, err)
		}
	}
	if again, err := selfSigned(disk, SelfSignedFile, "mx.example.org", now); err != nil || !again.Leaf.Equal(made.Leaf) {
		t.Errorf("after the failures: %v, another certificate", err)
	}
}

// An error of the machine says what the operator can do about it, and stays the error
// that it is, with a place in the configuration or without.
func TestErrorsSayWhatToDo(t *testing.T) {
	for _, pos := range []config.Pos{{}, {File: "c.hcl", Line: 1}} {
		n := &Node{cfg: &config.Config{DataDir: "data", DataDirPos: pos}}
		for err, says := range map[error]string{vfs.ErrLocked: "Another server runs on it", syscall.EACCES: "Let the user who runs the server write there",
			syscall.EROFS: "mounted read-only", syscall.ENOSPC: "The disk is full", syscall.ENOTDIR: "a file in the way", syscall.EIO: "cannot be used"} {
			if got := n.dataDirError(fmt.Errorf("open: %w", err)); !strings.Contains(got.Error(), says) || !errors.Is(got, err) {
				t.Errorf("%v: %v", err, got)
			}
		}
		for _, tt := range []struct {
			addr string
			err  error
			says string
		}{
			{"127.0.0.1:25", syscall.EADDRINUSE, "Another program listens there"},
			{"127.0.0.1:25", syscall.EACCES, "CAP_NET_BIND_SERVICE"},
			{"/run/postrider/submit.sock", syscall.EACCES, "write into the folder"},
			{"192.0.2.1:25", syscall.EADDRNOTAVAIL, "no such address"},
			{"/run/postrider/submit.sock", syscall.ENOENT, "Make the folder"},
			{"/run/postrider/submit.sock", syscall.ENOTSOCK, "Take the file away"},
		} {
			if got := listenError(pos, tt.addr, tt.err); !strings.Contains(got.Error(), tt.says) || !errors.Is(got, tt.err) {
				t.Errorf("%s, %v: %v", tt.addr, tt.err, got)
			}
		}
	}
}

// The feed is tried again after a second, after twice as long each time, and once a
// minute at most; when it could be read, after a second again.
func TestFeedIsTriedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{env: Env{Log: slog.New(slog.DiscardHandler)}}
		began, times, want := time.Now(), 0, time.Duration(0)
		const broken, again = 9, 3
		n.keepReading(t.Context(), "log", func(heard func()) error {
			if at := time.Since(began); at != want {
				t.Errorf("tried for time %d after %v, want %v", times, at, want)
			}
			switch times++; {
			case times == broken:
				heard()
				want += time.Second
			case times < broken:
				want += min(time.Second<<(times-1), time.Minute)
			case times < broken+again:
				want += time.Second << (times - broken)
			default:
				return nil
			}
			return errors.New("broken")
		})
		if times != broken+again {
			t.Errorf("tried %d times", times)
		}
	})
}

// Each event is one line, with what people search for: who, from where, to whom first,
// where it went, how long it took, and with what code.
func TestLogLines(t *testing.T) {
	a, b := mailbox(t, "a@our.example"), mailbox(t, "b@our.example")
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	from := postrider.Source{Listener: "mx", Hello: "c.example", Protocol: "ESMTPA", Account: "a@our.example", Peer: netip.MustParseAddrPort("192.0.2.1:25")}
	refusal := smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "no"}
	for _, tt := range []struct {
		ev   postrider.Event
		want string
	}{
		{postrider.Event{Kind: postrider.EventAccepted, Given: 2, Has: 3, Priority: -3, Source: from},
			`"level":"INFO" "msg":"accepted" "rcpts":2 "client":"192.0.2.1:25" "helo":"c.example" "proto":"ESMTPA" "account":"a@our.example" "expanded":3 "priority":-3`},
		{postrider.Event{Kind: postrider.EventAccepted, Given: 1, Has: 1}, `"msg":"accepted" "client":"local" "account":""}`},
		{postrider.Event{Kind: postrider.EventRecipient, To: b, State: postrider.Waiting, Dest: "far.example", Arrived: at, Time: at.Add(1500 * time.Millisecond), Next: at, Tries: 2},
			`"to":"<b@our.example>" "relay":"far.example" "delay":"1.5s" "dsn":"4.0.0" "status":"deferred" "tries":2 "next":"2026-11-22T10:00:00Z"`},
		{postrider.Event{Kind: postrider.EventRecipient, State: postrider.Failed, Remote: "mx.far.example", Dest: "far.example"}, `"relay":"mx.far.example" "delay":"0s" "dsn":"5.0.0"`},
		{postrider.Event{Kind: postrider.EventRecipient, State: postrider.Delivered, Reply: smtp.Reply{Text: "ok"}}, `"dsn":"2.0.0" "reply":"ok"}`},
		{postrider.Event{Kind: postrider.EventAmended, Amend: postrider.AmendPass}, `"msg":"amended" "do":"release"`},
		{postrider.Event{Kind: postrider.EventOrdered, Amend: postrider.AmendDrop}, `"msg":"ordered" "do":"drop"`},
		{postrider.Event{Kind: postrider.EventRefused, Tos: []smtp.Path{a, b}, Reply: refusal}, `"msg":"refused" "to":"<a@our.example>" "code":535 "dsn":"5.7.8"`},
		{postrider.Event{Kind: postrider.EventRefused, Source: from, Reply: refusal}, `"msg":"login refused" "account":"a@our.example" "client":"192.0.2.1:25" "reply":"no"`},
		{postrider.Event{Kind: postrider.EventDamaged, ID: "x", Reply: smtp.Reply{Text: "a sector"}}, `"level":"ERROR" "id":"x" "what":"a sector"`},
	} {
		var log bytes.Buffer
		logEvent(context.Background(), slog.New(slog.NewJSONHandler(&log, nil)), &tt.ev)
		if strings.Count(log.String(), "\n") != 1 || !json.Valid(log.Bytes()) {
			t.Errorf("%v: %s", tt.ev.Kind, &log)
		}
		for _, want := range strings.Split(tt.want, ` "`) {
			if want = `"` + strings.TrimPrefix(want, `"`); !strings.Contains(log.String(), want) {
				t.Errorf("%s does not say %s", &log, want)
			}
		}
	}
}

// What is refused is in the log, in the journal, and counted, once each.
func TestRefusedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, network := startPiped(t, vfs.NewMem(), func(cfg *config.Config) { cfg.Domains[0].Mailboxes = []string{"alice"} })
		c, _ := network.client()
		c.say("EHLO x.example")
		c.say("MAIL FROM:<s@x.example>")
		if r := c.say("RCPT TO:<nobody@our.example>"); r.Code != 550 {
			t.Errorf("the client hears %v", r)
		}
		c.say("RCPT TO:<alice@our.example>")
		c.say("DATA")
		if r := c.say(strings.Repeat("Received: x\r\n", 100) + "\r\n."); r.Code != 554 {
			t.Errorf("a loop: %v", r)
		}
		c.Close()
		if r, _ := s.submit(t.Context(), admin.Letter{To: []smtp.Path{mailbox(t, "nobody@our.example")}, Content: strings.NewReader("x\r\n")}); r.Code != 550 {
			t.Errorf("the program hears %v", r)
		}
		time.Sleep(time.Minute)
		if n := s.said("refused"); n != 3 {
			t.Errorf("%d lines of the log", n)
		}
		told := 0
		for evs, err := range s.journal.Where(t.Context(), "nobody@our.example", 100) {
			if err != nil {
				t.Fatal(err)
			}
			told += count(evs, postrider.EventRefused)
		}
		if told != 2 {
			t.Errorf("the journal has %d", told)
		}
		page := network.page(t, "http://127.0.0.1:8025/metrics")
		for _, want := range []string{`postrider_refused_total{what="mail"} 3`, "postrider_accept_seconds_count 0", `postrider_connections{listener="mx"} 0`} {
			if !strings.Contains(page, "\n"+want+"\n") {
				t.Errorf("the metrics do not say %s", want)
			}
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// page reads a page of a server in the bubble.
func (p *pipes) page(t *testing.T, url string) string {
	t.Helper()
	web := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		return p.dial(addr), nil
	}}}
	res, err := web.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// What cannot change while a node runs stays as it is in all of a reload, and each
// key of it that the file has otherwise is told.
func TestKeep(t *testing.T) {
	was := config.Builtin("data")
	was.SubmitSocket = "a.sock"
	n := &Node{cfg: was}
	cfg := *was
	if next, later := n.keep(&cfg); len(later) != 0 || next.Hostname != was.Hostname {
		t.Errorf("the same: %q", later)
	}
	cfg.Hostname, cfg.DataDir, cfg.SubmitSocket, cfg.Admin.Address = "other.example", "elsewhere", "b.sock", "127.0.0.1:1"
	cfg.DNS.Servers = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}
	cfg.Queue.MaxRecipients, cfg.Limits.Memory, cfg.Limits.MinFree, cfg.Journal.Keep = 7, 1<<30, 1<<20, time.Hour
	cfg.Limits.MessageSize = 12345
	next, later := n.keep(&cfg)
	if got, want := strings.Join(later, " "), "hostname data_dir submit_socket admin dns queue.max_recipients limits.memory limits.min_free journal"; got != want {
		t.Errorf("told: %s, want %s", got, want)
	}
	if next.Hostname != was.Hostname || next.DataDir != was.DataDir || next.SubmitSocket != was.SubmitSocket || next.Admin != was.Admin ||
		len(next.DNS.Servers) != len(was.DNS.Servers) || next.Queue.MaxRecipients != was.Queue.MaxRecipients || next.Limits.Memory != was.Limits.Memory ||
		next.Limits.MinFree != was.Limits.MinFree || next.Journal != was.Journal || next.Limits.MessageSize != 12345 {
		t.Errorf("%+v is not what it was in all of this", next)
	}
}

// What is wrong with a token the client is told as far as it can do something about it.
// RFC 6750 3.1 has "invalid_token" and "insufficient_scope"; RFC 7628 3.2.2 adds the scope
// that is wanted, and where the issuer says more.
func TestTokenErrors(t *testing.T) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	disk := vfs.NewMem()
	if err = errors.Join(err, replaceFile(disk, "keys.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))); err != nil {
		t.Fatal(err)
	}
	conf := config.OAuth{Issuer: "i", Audience: "a", Keys: "keys.pem", Claim: "mail", Scope: "send", Configuration: "https://i.example/c"}
	v, err := conf.Verifier(Files(disk))
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{env: Env{Now: time.Now}}
	n.gen.Store(&generation{vouchers: vouchers{tokens: &v, oauth: conf}})
	for claims, want := range map[string]string{
		`"mail":"a@our.example","scope":"send"`:                            "a@our.example ",
		`"mail":"a@our.example","scope":"send","email_verified":false`:     "a@our.example ",
		`"mail":"a@our.example","scope":"send","mail_verified":false`:      " invalid_token",
		`"mail":"a@our.example","scope":"read"`:                            " insufficient_scope",
		`"mail":"a@our.example","scope":"send","aud":"somebody.else"`:      " invalid_token",
		`"mail":"a@our.example","scope":"send","nbf":4102444800,"aud":"a"`: " invalid_token",
	} {
		b64 := base64.RawURLEncoding.EncodeToString
		if !strings.Contains(claims, `"aud"`) {
			claims += `,"aud":"a"`
		}
		text := b64([]byte(`{"alg":"EdDSA"}`)) + "." + b64(fmt.Appendf(nil, `{"iss":"i","exp":%d,%s}`, time.Now().Add(time.Hour).Unix(), claims))
		name, e := currentTokens{n}.Token(t.Context(), smtp.BearerRequest{Token: text + "." + b64(ed25519.Sign(key, []byte(text)))})
		if name != "" {
			e.Status = ""
		}
		if got := name + " " + e.Status; got != want || e.Scope != "send" || e.Configuration != "https://i.example/c" {
			t.Errorf("%s: %q, want %q, with %+v", claims, got, want, e)
		}
	}
}

// A reload that changes one thing that a server cannot change while it runs puts another
// one behind the socket, and that one has it.
func TestReloadChangesTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *still
		var next *config.Config
		disk := vfs.NewMem()
		s = startStill(t, disk, func() (*config.Config, error) { return next, nil })
		s.env.Net = &lobby{open: map[string]bool{}}
		next = withListener(s.cfg)
		next.TLS = memPair(t, disk, "one.example")
		server := func() *served {
			t.Helper()
			if _, err := s.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			return s.gen.Load().doors[0].served
		}
		before := server()
		if now := server(); now != before {
			t.Error("another server for the same terms")
		}
		for i, tt := range []struct {
			change func(l *config.Listener)
			holds  func(now *served) bool
		}{
			{func(l *config.Listener) { l.TLS = config.TLSStart }, func(now *served) bool { return now.TLS != nil && !now.Implicit }},
			{func(l *config.Listener) { l.TLS = config.TLSImplicit }, func(now *served) bool { return now.TLS != nil && now.Implicit }},
			{func(l *config.Listener) { l.Role = config.RoleLMTP }, func(now *served) bool { return now.LMTP }},
			{func(l *config.Listener) { l.Announce = true }, func(now *served) bool { return now.Software == software }},
			{func(*config.Listener) { next.Limits.Connections = 77 }, func(now *served) bool { return now.MaxConns == 77 }},
			{func(*config.Listener) { next.Limits.Recipients = 123 }, func(now *served) bool { return now.MaxRcpts == 123 }},
			{func(*config.Listener) { next.Limits.MessageSize = 99999 }, func(now *served) bool { return now.MaxSize == 99999 }},
			{func(l *config.Listener) { l.Name = "other" }, func(now *served) bool { return now.terms.listener == "other" }},
		} {
			copied := *next
			next, copied.Listeners = &copied, slices.Clone(copied.Listeners)
			tt.change(&next.Listeners[0])
			now := server()
			if now == before || !tt.holds(now) || before.LMTP && !now.LMTP {
				t.Errorf("change %d: %+v after %+v", i, now.terms, before.terms)
			}
			before = now
		}
		if before.Exempt == nil || before.Proxy == nil || before.XClient == nil {
			t.Error("a server does not know whom to trust")
		}
		if before.Alarm(io.EOF); s.said("listener") == 0 {
			t.Error("what is wrong at a listener is not told")
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/postrider/postrider/conformance"
)

// conform asks a server with the command of the binary, and returns what became
// of each requirement.
func conform(t *testing.T, status int, args ...string) map[string]conformance.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"conformance", "--json"}, args...)...)
	cmd.Dir, cmd.Env = t.TempDir(), environment()
	var mistakes strings.Builder
	cmd.Stderr = &mistakes
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	results := map[string]conformance.Result{}
	for s := bufio.NewScanner(strings.NewReader(string(out))); s.Scan(); {
		var r conformance.Result
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, s.Text())
		}
		results[r.Name] = r
	}
	if got := cmd.ProcessState.ExitCode(); got != status || mistakes.Len() > 0 {
		t.Fatalf("status %d, want %d\n%s", got, status, mistakes.String())
	}
	return results
}

// conformRcpt is the mailbox that is asked for.
const conformRcpt = "alice@b.example"

// asked are the flags for a server that delivers below a folder.
func asked(addr, dir string) []string {
	return []string{"--server", addr, "--rcpt", conformRcpt, "--maildir", filepath.Join(dir, "mail", "b.example", "alice")}
}

// conformPostrider, conformPostfix, conformExim and conformGoSMTP start a server
// that has alice and the postmaster at b.example, a limit of size, and TLS, and is
// else as it comes.
//
// What they return is how to ask it.
func conformPostrider(t *testing.T) []string {
	s := newServer(t, "mx.b.example", `
tls { self_signed = true }
domain "b.example" {
  mailboxes = ["alice"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
limits { message_size = "100KiB" }
`)
	s.start()
	return asked(s.addr(), s.dir)
}

func conformLMTP(t *testing.T) []string {
	ip := freeIP()
	addr := net.JoinHostPort(ip, strconv.Itoa(freePort(t, ip)))
	s := newServer(t, "mx.b.example", `
domain "b.example" {
  mailboxes = ["alice"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
listener "lmtp" {
  address = "`+addr+`"
  role    = "lmtp"
}
limits { message_size = "100KiB" }
`)
	s.start()
	return append(asked(addr, s.dir), "--lmtp")
}

func conformPostfix(t *testing.T) []string {
	c := newCertificate(t, "mx.b.example").open(t)
	d := startPostfix(t, "mx.b.example", []string{conformRcpt, "postmaster@b.example"}, `
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_cert_file = `+c.cert+`
smtpd_tls_key_file = `+c.key+`
message_size_limit = 102400
`)
	return asked(d.addr(), d.dir)
}

func conformExim(t *testing.T) []string {
	c := newCertificate(t, "mx.b.example").open(t)
	d := startExim(t, "mx.b.example", eximConf{boxes: []string{conformRcpt, "postmaster@b.example"}, size: "100K", main: `
tls_certificate = ` + c.cert + `
tls_privatekey = ` + c.key + `
qualify_domain = b.example
dsn_advertise_hosts = *
`})
	return asked(d.addr(), d.dir)
}

func conformGoSMTP(t *testing.T) []string {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "mail", "b.example", "alice", "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := newCertificate(t, "mx.b.example")
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	srv := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return conformSession{dir}, nil }))
	srv.Domain, srv.MaxMessageBytes = "mx.b.example", 102400
	srv.ErrorLog = log.New(io.Discard, "", 0)
	srv.EnableDSN, srv.EnableSMTPUTF8, srv.EnableBINARYMIME = true, true, true
	srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return asked(l.Addr().String(), dir)
}

// A conformSession takes what is for alice and the postmaster, and keeps it as it
// is told to: with a trace, and only if the content has ended well.
type conformSession struct{ dir string }

func (conformSession) AuthMechanisms() []string { return []string{sasl.Plain} }
func (conformSession) Auth(mechanism string) (sasl.Server, error) {
	if mechanism != sasl.Plain {
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return sasl.NewPlainServer(func(_, _, _ string) error { return smtp.ErrAuthFailed }), nil
}
func (conformSession) Mail(string, *smtp.MailOptions) error { return nil }
func (conformSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if to = strings.ToLower(to); to == conformRcpt || to == "postmaster" || to == "postmaster@b.example" {
		return nil
	}
	return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
}
func (c conformSession) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	content = append([]byte("Return-Path: <>\r\nReceived: by mx.b.example\r\n"), content...)
	return os.WriteFile(filepath.Join(c.dir, "mail", "b.example", "alice", "new", rand.Text()), content, 0o600)
}
func (conformSession) Reset()        {}
func (conformSession) Logout() error { return nil }

// Postrider keeps every MUST and SHOULD: in the clear, under TLS, and as LMTP.
func TestConformanceOfPostrider(t *testing.T) {
	args := conformPostrider(t)
	for name, args := range map[string][]string{"clear": args, "tls": append(args[:len(args):len(args)], "--tls"), "lmtp": conformLMTP(t)} {
		t.Run(name, func(t *testing.T) {
			passed := 0
			for _, r := range conform(t, 0, args...) {
				switch r.Verdict {
				case conformance.Fail:
					t.Errorf("%s %s (%s): %s\n%s", r.Name, r.Level, r.RFC, r.Why, strings.Join(r.Heard, "\n"))
				case conformance.Pass:
					passed++
				}
			}
			if passed < 300 {
				t.Errorf("only %d requirements were tried", passed)
			}
		})
	}
}

// What was measured of others, and reported of their versions, is found again.
func TestConformanceFinds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(*testing.T) []string
		finds []string
		keeps []string // so that what is found is not everything
	}{
		// Trailing CRs are stripped, also behind a dot: docs/threats.md, B1.
		{"Postfix", conformPostfix, []string{"smuggling/CRLF.CRCRLF", "smuggling-octets/CRLF.CRCRLF", "smuggling-first/.CRCRLF"},
			[]string{"smuggling/CR.CR", "smuggling/CRLF-NUL.CRLF"}},
		// Near-endings at the very start of the data, and behind too much of it.
		{"Exim", conformExim, []string{"smuggling-first/.LF", "smuggling-first/LF.CRLF", "smuggling-past-limit/LF.LF", "smuggling-past-limit/LF.CRLF",
			"smuggling-past-limit/CRLF.LF"}, []string{"smuggling/LF.LF", "smuggling/LF.CRLF", "smuggling/CRLF.CRCRLF"}},
		// A chunk that is lost in the middle is taken for the whole message.
		{"go-smtp", conformGoSMTP, []string{"bare-line-end/lf", "postmaster/upper", "auth-in-transaction", "delivered-not-half-bdat"},
			[]string{"smuggling/LF.LF", "starttls-injection/noop", "delivered-not-half"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.start(t)
			for _, name := range append(tt.finds, tt.keeps...) {
				args = append(args, "--only", name)
			}
			got := conform(t, 1, args...)
			for _, name := range tt.finds {
				if r := got[name]; r.Verdict != conformance.Fail || len(r.Heard) == 0 {
					t.Errorf("%s: %s is %q (%s), want fail", tt.name, name, r.Verdict, r.Why)
				}
			}
			for _, name := range tt.keeps {
				if r := got[name]; r.Verdict != conformance.Pass {
					t.Errorf("%s: %s is %q (%s), want pass", tt.name, name, r.Verdict, r.Why)
				}
			}
		})
	}
}

// conformDocument is where the table of four servers stands, behind a line.
const (
	conformDocument = "../../docs/conformance.md"
	conformTable    = "<!-- What follows is written by a test. -->\n"
)

// The table of docs/conformance.md is made by asking all of them everything, on
// request.
func TestConformanceTable(t *testing.T) {
	if os.Getenv("POSTRIDER_CONFORMANCE") != "write" {
		t.Skip("POSTRIDER_CONFORMANCE=write makes the table of docs/conformance.md")
	}
	text, err := os.ReadFile(conformDocument)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), conformTable)
	if !ok {
		t.Fatalf("%s has no line %q", conformDocument, conformTable)
	}
	cases, err := conformance.Cases()
	if err != nil {
		t.Fatal(err)
	}
	starts := []func(*testing.T) []string{conformPostrider, conformPostfix, conformExim, conformGoSMTP}
	results := make([]map[string]conformance.Result, len(starts))
	for i, start := range starts {
		results[i] = conform(t, min(i, 1), append(start(t), "--timeout", "5s")...)
	}
	var b strings.Builder
	b.WriteString("\n| requirement | RFC | level | Postrider | Postfix | Exim | go-smtp |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, c := range cases {
		fmt.Fprintf(&b, "| %s | %s | %s |", c.Name, strings.TrimPrefix(c.RFC, "RFC "), c.Level)
		for _, r := range results {
			b.WriteString(map[conformance.Verdict]string{conformance.Pass: " yes |", conformance.Fail: " **no** |", conformance.Skipped: " |"}[r[c.Name].Verdict])
		}
		b.WriteString("\n")
	}
	b.WriteString("\n| in all | Postrider | Postfix | Exim | go-smtp |\n| --- | --- | --- | --- | --- |\n")
	sums := make([]conformance.Summary, len(results))
	for i, r := range results {
		for _, x := range r {
			sums[i].Add(x)
		}
	}
	for _, row := range []struct {
		name string
		of   func(conformance.Summary) int
	}{
		{"kept", func(s conformance.Summary) int { return s.Pass }},
		{"MUST not kept", func(s conformance.Summary) int { return s.FailMust }},
		{"SHOULD not kept", func(s conformance.Summary) int { return s.FailShould }},
		{"not tried, or not done and optional", func(s conformance.Summary) int { return s.Skipped }},
	} {
		fmt.Fprintf(&b, "| %s |", row.name)
		for _, s := range sums {
			fmt.Fprintf(&b, " %d |", row.of(s))
		}
		b.WriteString("\n")
	}
	if err := os.WriteFile(conformDocument, []byte(head+conformTable+b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

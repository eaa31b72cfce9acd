package conformance

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// A mailbox is a server that takes mail for one address and the postmaster.
type mailbox struct{ box *box }

// A box holds what was taken.
type box struct {
	mu   sync.Mutex
	all  []string
	half bool // takes half messages too
}

// holding returns the messages that hold a text, as bend changes them.
func (b *box) holding(text string, bend func(string) string) [][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found [][]byte
	if b.half && len(b.all) < 2 && strings.HasPrefix(text, "behind") {
		return nil // half a message takes its time
	}
	for _, m := range b.all {
		if strings.Contains(m, text) {
			found = append(found, []byte(bend(m)))
		}
	}
	return found
}

const boxed = "alice@b.example"

func (m mailbox) Open(context.Context, smtpd.Client) (smtpd.Session, smtp.Reply) {
	return m, smtp.OK
}
func (mailbox) Hello(context.Context, string, bool) smtp.Reply              { return smtp.OK }
func (mailbox) Mail(context.Context, smtp.Path, smtp.MailParams) smtp.Reply { return smtp.OK }
func (mailbox) Rcpt(_ context.Context, to smtp.Path, _ smtp.RcptParams) smtp.Reply {
	domain := strings.ToLower(to.Domain)
	local := strings.NewReplacer(`"`, "", `\`, "").Replace(to.Local)
	if strings.EqualFold(local, "postmaster") || local == "alice" && domain == "b.example" {
		return smtp.OK
	}
	return smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "no such mailbox"}
}
func (m mailbox) Data(_ context.Context, content io.Reader) []smtp.Reply {
	text, err := io.ReadAll(content)
	m.box.mu.Lock()
	defer m.box.mu.Unlock()
	if err == nil || m.box.half {
		m.box.all = append(m.box.all, "Return-Path: <"+boxed+">\nReceived: by mx.b.example\n"+strings.ReplaceAll(string(text), "\r\n", "\n"))
	}
	return []smtp.Reply{smtp.OK}
}
func (mailbox) Offer() smtpd.Offer {
	return smtpd.Offer{Extensions: smtp.ExtDSN | smtp.ExtSMTPUTF8 | smtp.ExtBinaryMIME}
}
func (mailbox) Reset() {}
func (mailbox) Close() {}
func (mailbox) Verify(_ context.Context, what string, _ bool) smtp.Reply {
	if what == "postmaster" {
		return smtp.Reply{Code: 250, Text: "<postmaster@b.example>"}
	}
	return smtp.Reply{Code: 252, Text: "Perhaps"}
}
func (mailbox) Expands() bool { return true }
func (mailbox) Expand(context.Context, string, bool) smtp.Reply {
	return smtp.Reply{Code: 550, Text: "No list of that name"}
}

// serve runs a good server on loopback, and returns its address.
func serve(t *testing.T, lmtp bool) string { return serveBox(t, lmtp, &box{}) }

func serveBox(t *testing.T, lmtp bool, b *box) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &smtpd.Server{Handler: mailbox{b}, Hostname: "mx.b.example", LMTP: lmtp, MaxSize: 100_000, MaxRcpts: 1000,
		Exempt: func(netip.Addr) bool { return true }}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		<-done
	})
	return l.Addr().String()
}

// target asks a server through bend, which may change what is sent and heard.
func target(addr string, bend func(net.Conn) net.Conn) Target {
	return Target{Rcpt: boxed, Pause: 1, Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil && bend != nil {
			c = bend(c)
		}
		return c, err
	}}
}

// all returns every case.
func all(t *testing.T) []Case {
	t.Helper()
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 400 {
		t.Fatalf("only %d cases", len(cases))
	}
	return cases
}

// A good server keeps everything.
func TestGoodServer(t *testing.T) {
	for _, lmtp := range []bool{false, true} {
		b := &box{}
		to := target(serveBox(t, lmtp, b), nil)
		to.LMTP = lmtp
		to.Mailbox = func(text string) ([][]byte, error) {
			return b.holding(text, func(s string) string { return s }), nil
		}
		var sum Summary
		err := Run(t.Context(), to, all(t), func(r Result) {
			sum.Add(r)
			if r.Verdict == Fail {
				t.Errorf("%s: %s\n%s", r.Name, r.Why, strings.Join(r.Heard, "\n"))
			}
		})
		if err != nil || sum.Pass < 300 {
			t.Errorf("LMTP %v: %+v, %v", lmtp, sum, err)
		}
	}
}

// A bent connection answers wrongly from the reply after the first skip on.
type bent struct {
	net.Conn
	in   *bufio.Reader
	skip int
	how  func(line string) string // a reply line as the client hears it
	rest string
}

func (b *bent) Read(p []byte) (int, error) {
	for b.rest == "" {
		line, err := b.in.ReadString('\n')
		if err != nil && line == "" {
			return 0, err
		}
		if b.rest = line; b.skip <= 0 {
			b.rest = b.how(line)
		}
		if len(line) < 4 || line[3] != '-' {
			b.skip--
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// CloseWrite tells the server that nothing more comes.
func (b *bent) CloseWrite() error { return b.Conn.(*net.TCPConn).CloseWrite() }

// bends are ways to be wrong.
var bends = []func(line string) string{
	func(s string) string { // the opposite
		switch s[0] {
		case '2', '3':
			return "554" + s[3:]
		}
		return "250" + s[3:]
	},
	func(s string) string { // another code of refusal
		if s[0] == '5' {
			return "502" + s[3:]
		}
		return s
	},
	func(s string) string { // an error where there is none
		if s[0] == '2' {
			return "501" + s[3:]
		}
		return s
	},
	func(s string) string { // the same, of the order
		if s[0] == '2' {
			return "503" + s[3:]
		}
		return s
	},
	func(s string) string { return s + s },                                                // twice
	func(s string) string { return s[:3] + " \r\n" },                                      // no text, and no extension
	func(s string) string { return s[:3] + "-" + strings.TrimSpace(s[4:]) + " x=\n" + s }, // odd words
	func(s string) string { // parameters that nobody knows
		if strings.HasPrefix(s, "250-") {
			return strings.TrimSpace(s) + " x\r\n"
		}
		return s
	},
	func(s string) string { return strings.Replace(s, "250", "251", 1) },
	func(s string) string {
		return strings.Replace(strings.Replace(s, "8BITMIME", "X", 1), "CHUNKING", "X", 1)
	},
	func(s string) string { // all is out of order
		if s[0] == '5' {
			return "503" + s[3:]
		}
		return s
	},
	func(s string) string { return "999 \x07" + strings.Repeat("x", 600) + "\n" },
}

// notBent are requirements that no bend above breaks: those that need TLS, which
// is not bent here, and those that need an extension the server has not.
var notBent = regexp.MustCompile(`^(starttls|auth-|greeting-refused|waits-|etrn|limits-|deliverby|mt-priority|futurerelease|keyword-alone/(chunking|starttls)|ehlo-lists-(commands|what)|lmtp-|delivered-|pipelining-no-rcpt-empty|reply-)`)

// Each requirement can fail: there is a server that does not keep it, and it is
// found out.
func TestEachCanFail(t *testing.T) {
	addr := serve(t, false)
	broken := 0
	for _, c := range all(t) {
		if c.Level == May || notBent.MatchString(c.Name) {
			continue
		}
		if !breaks(t, addr, c) {
			t.Errorf("%s is kept by every wrong server", c.Name)
		}
		broken++
	}
	if broken < 250 {
		t.Errorf("only %d requirements were tried", broken)
	}
}

// breaks reports whether a case fails on some wrong server.
func breaks(t *testing.T, addr string, c Case) bool {
	const repliesOfACase = 6
	for skip := range repliesOfACase {
		for _, how := range bends {
			failed := false
			to := target(addr, func(nc net.Conn) net.Conn { return &bent{Conn: nc, in: bufio.NewReader(nc), skip: skip, how: how} })
			err := Run(t.Context(), to, []Case{c}, func(r Result) { failed = r.Verdict == Fail })
			if err != nil {
				t.Fatal(err)
			}
			if failed {
				return true
			}
		}
	}
	return false
}

// A lenient connection hands a good server other octets than were sent.
type lenient struct {
	net.Conn
	read func(string) string
}

func (l lenient) Write(p []byte) (int, error) {
	_, err := l.Conn.Write([]byte(l.read(string(p))))
	return len(p), err
}

// The ways in which servers are known to have been careless are found out.
func TestSmuggling(t *testing.T) {
	addr := serve(t, false)
	for _, tt := range []struct {
		name  string
		read  func(string) string
		finds []string
	}{
		{"LF is CRLF", func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n") },
			[]string{"smuggling/LF.LF", "smuggling/LF.CRLF", "smuggling/CRLF.LF", "smuggling-first/.LF", "smuggling-past-limit/LF.LF", "bare-line-end/lf"}},
		{"CR before CRLF is stripped", func(s string) string { return strings.ReplaceAll(s, "\r\r\n", "\r\n") },
			[]string{"smuggling/CRLF.CRCRLF", "smuggling-first/.CRCRLF", "smuggling-past-limit/CRLF.CRCRLF"}},
		{"CR is CRLF", func(s string) string {
			return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\r"), "\r", "\r\n")
		}, []string{"smuggling/CR.CR", "smuggling/CR.CRLF", "bare-line-end/cr"}},
		{"NUL is nothing", func(s string) string { return strings.ReplaceAll(s, "\x00", "") },
			[]string{"smuggling/CRLF-NUL.CRLF", "smuggling/CRLF.NUL-CRLF", "smuggling-octets/CRLF-NUL.CRLF", "smuggling-first/NUL.CRLF", "control/nul"}},
	} {
		cases, err := Select(all(t), tt.finds)
		if err != nil {
			t.Fatal(err)
		}
		to := target(addr, func(nc net.Conn) net.Conn { return lenient{nc, tt.read} })
		n := 0
		err = Run(t.Context(), to, cases, func(r Result) {
			if n++; slices.Contains(tt.finds, r.Name) && r.Verdict != Fail {
				t.Errorf("%s: %s is %s (%s)", tt.name, r.Name, r.Verdict, r.Why)
			}
		})
		if err != nil || n < len(tt.finds) {
			t.Errorf("%s: %d results of %d, %v", tt.name, n, len(tt.finds), err)
		}
	}
}

// What arrives is looked at, where it can be.
func TestDelivered(t *testing.T) {
	for _, tt := range []struct {
		name  string
		half  bool
		bend  func(string) string
		finds []string
	}{
		{"dots stay", false, func(s string) string { return strings.ReplaceAll(s, "\n.", "\n..") }, []string{"delivered-dots/two", "delivered-dots/text", "delivered-dots-octets"}},
		{"dots go", false, func(s string) string { return strings.ReplaceAll(s, "\n.", "\n") }, []string{"delivered-dots/three", "delivered-dots/space"}},
		{"last dots go", false, func(s string) string { return strings.ReplaceAll(s, ".\n", "\n") }, []string{"delivered-dots/last"}},
		{"spaces go", false, func(s string) string { return strings.ReplaceAll(s, "a  \n", "a\n") }, []string{"delivered-whole/spaces"}},
		{"tabs are spaces", false, func(s string) string { return strings.ReplaceAll(s, "\t", " ") }, []string{"delivered-whole/tab"}},
		{"controls go", false, func(s string) string { return strings.ReplaceAll(s, "\x1b", "") }, []string{"delivered-whole/controls"}},
		{"From is quoted", false, func(s string) string { return strings.ReplaceAll(s, "\nFrom ", "\n>From ") }, []string{"delivered-whole/from"}},
		{"lines are cut", false, func(s string) string { return strings.ReplaceAll(s, "xxxx", "x\nxxx") }, []string{"delivered-whole/line"}},
		{"7 bits", false, func(s string) string {
			return strings.Map(func(c rune) rune { return c & 0x7f }, s)
		}, []string{"delivered-8bit"}},
		{"no trace", false, func(s string) string { return strings.Replace(s, "Received:", "X:", 1) }, []string{"delivered-received"}},
		{"no path", false, func(s string) string { return strings.Replace(s, "Return-Path:", "X:", 1) }, []string{"delivered-return-path"}},
		{"halves", true, func(s string) string { return s }, []string{"delivered-not-half", "delivered-not-half-end", "delivered-not-half-bdat", "delivered-not-reset"}},
	} {
		b := &box{half: tt.half}
		to := target(serveBox(t, false, b), nil)
		to.Mailbox = func(text string) ([][]byte, error) { return b.holding(text, tt.bend), nil }
		cases, err := Select(all(t), tt.finds)
		if err != nil {
			t.Fatal(err)
		}
		err = Run(t.Context(), to, cases, func(r Result) {
			if slices.Contains(tt.finds, r.Name) && r.Verdict != Fail {
				t.Errorf("%s: %s is %s (%s)", tt.name, r.Name, r.Verdict, r.Why)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// What is seen in every reply is told at the end.
func TestWatchers(t *testing.T) {
	addr := serve(t, false)
	for _, tt := range []struct {
		name string
		how  func(string) string
	}{
		{"reply-form", func(s string) string { return "25x" + s[3:] }},
		{"reply-crlf", func(s string) string { return strings.TrimSpace(s) + "\n" }},
		{"reply-range", func(s string) string { return "6" + s[1:] }},
		{"reply-same-code", func(s string) string { return "251-x\r\n" + s }},
		{"reply-text", func(s string) string { return s[:4] + "\x1b" + s[4:] }},
		{"reply-bare", func(s string) string { return s[:3] + "\r\n" }},
		{"reply-length", func(s string) string { return s[:4] + strings.Repeat("x", 507) + "\r\n" }},
		{"reply-status", func(s string) string { return s[:4] + "OK\r\n" }},
		{"reply-status-class", func(s string) string { return s[:4] + "4.0.0 OK\r\n" }},
	} {
		cases, err := Select(all(t), []string{"noop", tt.name})
		if err != nil {
			t.Fatal(err)
		}
		verdicts := map[string]Verdict{}
		to := target(addr, func(nc net.Conn) net.Conn { return &bent{Conn: nc, in: bufio.NewReader(nc), skip: 2, how: tt.how} })
		if err := Run(t.Context(), to, cases, func(r Result) { verdicts[r.Name] = r.Verdict }); err != nil {
			t.Fatal(err)
		}
		if verdicts[tt.name] != Fail {
			t.Errorf("%s is %q", tt.name, verdicts[tt.name])
		}
	}
}

// What a server says cannot move a cursor or fill a screen.
func TestHeard(t *testing.T) {
	to := target(serve(t, false), func(nc net.Conn) net.Conn {
		return &bent{Conn: nc, in: bufio.NewReader(nc), skip: 2, how: func(string) string {
			return strings.Repeat("500-\x1b[31m\xff"+strings.Repeat("x", 2000)+"\r\n", 500) + "500 \x9b\r\n"
		}}
	})
	cases, err := Select(all(t), []string{"noop"})
	if err != nil {
		t.Fatal(err)
	}
	err = Run(t.Context(), to, cases[:1], func(r Result) {
		if r.Verdict != Fail || len(r.Heard) > linesShown+1 {
			t.Errorf("%s with %d lines", r.Verdict, len(r.Heard))
		}
		for _, line := range append(r.Heard, r.Why) {
			if len(line) > lineShown+50 || strings.ContainsFunc(line, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Errorf("shown: %q", line)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestParseMistakes(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"a MUST RFC 5321 4\n| Says.\nat hello\nC: NOOP\nS: 250", ""},
		{"a MUST RFC 5321 4\n| Says.", "has no sentence, or nothing to do"},
		{"a MUST RFC 5321 4\nat hello", "has no sentence, or nothing to do"},
		{"a WANT RFC 5321 4\n| Says.", "is not NAME LEVEL RFC"},
		{"a MUST RFC 5321 4\n| Says.\nsay NOOP", "there is no step"},
		{"a MUST RFC 5321 4\n| Says.\nat home", "there is no place"},
		{"a MUST RFC 5321 4\n| Says.\ncheck it", "there is no check"},
		{"a MUST RFC 5321 4\n| Says.\nS: 25", "is no code"},
		{"a MUST RFC 5321 4\n| Says.\nC: a\\q", "what is"},
		{"a MUST RFC 5321 4\n| Says.\neach b\nat hello", "is not each VARIANT"},
	} {
		_, err := parse(tt.text)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.want)
		}
	}
}

func TestSelect(t *testing.T) {
	cases := all(t)
	for _, tt := range []struct {
		only string
		want int // at least; -1: an error
	}{{"greeting", 3}, {"smuggling", 50}, {"smuggling/LF.LF", 1}, {"smug", -1}, {"no-such", -1}} {
		some, err := Select(cases, []string{tt.only})
		if (err != nil) != (tt.want < 0) || len(some) < tt.want {
			t.Errorf("%s: %d cases, %v", tt.only, len(some), err)
		}
	}
}

// The document lists every requirement.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, c := range all(t) {
		if !strings.Contains(string(text), "| "+c.Name+" |") {
			missing = append(missing, c.Name)
		}
	}
	if slices.Sort(missing); len(missing) > 0 {
		t.Errorf("docs/conformance.md lacks %d of the requirements, make it anew: %s", len(missing), missing)
	}
}

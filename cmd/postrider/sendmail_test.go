package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/smtp"
)

func TestAddressesOf(t *testing.T) {
	for list, want := range map[string][]string{
		"root":                    {"root"},
		"a@b.example, c":          {"a@b.example", "c"},
		"Ann <a@b.example>":       {"a@b.example"},
		`"Doe, J" <j@b.example>`:  {"j@b.example"},
		`"a,b"@c.example`:         {`"a,b"@c.example`},
		"a@b.example (x, (y), z)": {"a@b.example"},
		"team: a@b.example, Ben <c@d.example>;, e": {"a@b.example", "c@d.example", "e"},
		"undisclosed-recipients:;":                 nil,
		"<@relay.example:a@b.example>":             {"a@b.example"},
		"J\u00f6rg <j\u00f6rg@b.example>":          {"j\u00f6rg@b.example"},
		`"open <a@b.example>`:                      {`"open <a@b.example>`},
		", ,":                                      nil,
	} {
		if diff := cmp.Diff(want, addressesOf(list)); diff != "" {
			t.Errorf("%q: %s", list, diff)
		}
	}
}

func TestParseSendmail(t *testing.T) {
	for _, tt := range []struct {
		args string
		want mailing
	}{
		{"-t -i", mailing{mode: "m", headers: true, dots: true}},
		{"-ti", mailing{mode: "m", headers: true, dots: true}},
		{"-oi -oem -f a@b.example c", mailing{mode: "m", dots: true, from: "a@b.example", rcpts: []string{"c"}}},
		{"-fa@b.example -FAnn -- -c", mailing{mode: "m", from: "a@b.example", fullName: "Ann", rcpts: []string{"-c"}}},
		{"-f <> c", mailing{mode: "m", from: "<>", rcpts: []string{"c"}}},
		{"-bp", mailing{mode: "p"}},
		{"-q15m", mailing{mode: "q"}},
		{"-N never -R hdrs -B 8BITMIME c", mailing{mode: "m", rcpts: []string{"c"}}},
	} {
		got, err := parseSendmail(strings.Fields(tt.args))
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(mailing{})); err != nil || diff != "" {
			t.Errorf("%s: %v, %s", tt.args, err, diff)
		}
	}
	for _, args := range []string{"-f", "-z"} {
		if _, err := parseSendmail(strings.Fields(args)); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
}

// Programs that call sendmail and mailq: what they hand in, and what they hear.
func TestSendmail(t *testing.T) {
	conf := site(t, "hold")
	t.Setenv("POSTRIDER_CONFIG", conf)
	p, _ := serve(t, conf)
	call := func(want int, stdin, says, name string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		code := runAs(t.Context(), name, args, strings.NewReader(stdin), &out, &errs)
		if code != want || !strings.Contains(out.String()+errs.String(), says) {
			t.Errorf("%s %q: %d, want %d with %q: %s%s", name, args, code, want, says, &out, &errs)
		}
	}
	call(0, "", "Mail queue is empty", "mailq")
	call(0, "To: Alice <alice@example.org>\nBcc: held@far.example\nSubject: x\n\n.\nlast\n", "", "sendmail", "-t", "-oi", "-f", "cron", "-F", "Cron")
	p.stderr.wait(t, `to=<alice@example.org> .*status=delivered`)
	names, _ := filepath.Glob(filepath.Join(filepath.Dir(conf), "data/mail/example.org/alice/new/*"))
	if len(names) != 1 {
		t.Fatalf("%d files in the mailbox", len(names))
	}
	mail, _ := os.ReadFile(names[0])
	for _, want := range []string{"Return-Path: <cron@mx.example.org>\r\n", "\r\nFrom: \"Cron\" <cron@mx.example.org>\r\n", "\r\nDate: ", "\r\nMessage-ID: <", "\r\n\r\n.\r\nlast\r\n"} {
		if !bytes.Contains(mail, []byte(want)) {
			t.Errorf("no %q in\n%s", want, mail)
		}
	}
	if bytes.Contains(mail, []byte("Bcc")) {
		t.Errorf("Bcc is told:\n%s", mail)
	}
	call(0, "", "held@far.example", "mailq")
	call(0, "", "1 Request.", "sendmail", "-bp")
	call(0, "just text\n.\nnot this\n", "", "sendmail", "-f", "<>", "alice@example.org")
	call(exNoUser, "x\n", "nobody@example.org: 550", "sendmail", "alice@example.org", "nobody@example.org")
	call(exUsage, "Subject: x\n\nx\n", "no recipient", "sendmail", "-t")
	call(exUsage, "", "-bs", "sendmail", "-bs")
	call(0, "", "", "newaliases")
	p.stop()
	call(exTempFail, "x\n", "no server runs", "sendmail", "alice@example.org")
	t.Setenv("POSTRIDER_CONFIG", conf+".gone")
	call(exConfig, "x\n", "POSTRIDER_CONFIG", "sendmail", "alice@example.org")
}

// What is handed in is the whole message, in lines of CRLF, up to its end or to a dot
// alone; of one that is too large no part is.
func TestReadMail(t *testing.T) {
	for _, tt := range []struct {
		in   string
		dots bool
		want string
		err  error
	}{
		{"x\n\ny", false, "x\r\n\r\ny\r\n", nil},
		{"x\r\ny\rz\r\n", false, "x\r\nyz\r\n", nil},
		{"x\n.\ny\n", false, "x\r\n", nil},
		{"x\n.\ny\n", true, "x\r\n.\r\ny\r\n", nil},
		{"123456789\n", false, "123456789\r\n", nil},
		{"1\n3\n5\n7\n9\nb", false, "", errMessageMax},
		{"123456789ab", false, "", errMessageMax},
		{"1\n.\n" + strings.Repeat("x", 100), false, "1\r\n", nil},
	} {
		if got, err := readMail(strings.NewReader(tt.in), tt.dots, 10); string(got) != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q, dots %v: %q, %v", tt.in, tt.dots, got, err)
		}
	}
	if _, err := readMail(iotest.ErrReader(io.ErrClosedPipe), false, 10); err != io.ErrClosedPipe {
		t.Errorf("what cannot be read: %v", err)
	}
}

// A letter has its sender, all recipients, a From where the header has none, and the size
// that it has with that; what is not ASCII in any of them is said.
func TestLetter(t *testing.T) {
	to := []string{"a@x.example"}
	for _, tt := range []struct {
		m               mailing
		raw, from, want string // the content
		to              string
		utf8            bool
	}{
		{mailing{from: "<>", rcpts: to}, "x\r\n", "", "From: <MAILER-DAEMON@h.example>\r\n\r\nx\r\n", "a@x.example", false},
		{mailing{from: "me", rcpts: []string{"<a>"}, fullName: `a "b" \c`}, "Subject: x\r\n\r\n\xff\r\n", "me@h.example",
			"From: \"a \\\"b\\\" \\\\c\" <me@h.example>\r\nSubject: x\r\n\r\n\xff\r\n", "a@h.example", false},
		{mailing{from: "me", headers: true, rcpts: to}, "FROM: b@x.example\r\nTo: c@x.example\r\nBcc: d\r\n\r\n", "me@h.example",
			"FROM: b@x.example\r\nTo: c@x.example\r\nBcc: d\r\n\r\n", "a@x.example c@x.example d@h.example", false},
		{mailing{from: "\u03b4", rcpts: to}, "From: b@x.example\r\n\r\n", "\u03b4@h.example", "From: b@x.example\r\n\r\n", "a@x.example", true},
		{mailing{from: "me", rcpts: []string{"\u03b4"}}, "From: b@x.example\r\n\r\n", "me@h.example", "From: b@x.example\r\n\r\n", "\u03b4@h.example", true},
		{mailing{from: "me", rcpts: to}, "From: b@x.example\r\nSubject: \u03b4\r\n\r\n", "me@h.example", "From: b@x.example\r\nSubject: \u03b4\r\n\r\n", "a@x.example", true},
		{mailing{from: "me", rcpts: to, fullName: "\u03b4"}, "\r\n", "me@h.example", "From: \"\u03b4\" <me@h.example>\r\n\r\n", "a@x.example", true},
	} {
		l, err := tt.m.letter([]byte(tt.raw), "h.example")
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(l.Content)
		if err != nil {
			t.Error(err)
		}
		var rcpts []string
		for _, to := range l.To {
			rcpts = append(rcpts, to.String())
		}
		if l.From.String() != tt.from || strings.Join(rcpts, " ") != tt.to || string(content) != tt.want || l.Size != int64(len(content)) || l.UTF8 != tt.utf8 {
			t.Errorf("%+v, %q: from %s to %s, %q, %d octets, UTF-8 %v", tt.m, tt.raw, l.From, rcpts, content, l.Size, l.UTF8)
		}
	}
}

// Programs that call sendmail know by the exit code whether to come again.
func TestSendmailExitCodes(t *testing.T) {
	dir := t.TempDir()
	conf, socket := filepath.Join(dir, "postrider.hcl"), filepath.Join(dir, "s")
	if err := os.WriteFile(conf, []byte("hostname = \"h.example\"\nsubmit_socket = \""+socket+"\"\nlistener \"mx\" { address = \"127.0.0.1:0\" }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("POSTRIDER_CONFIG", conf)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var reply smtp.Reply
	refused := -1
	server := &http.Server{Handler: admin.Submission(admin.Options{Submit: func(context.Context, admin.Letter) (smtp.Reply, int) { return reply, refused }})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	defer func() { server.Close(); <-done }()
	for _, tt := range []struct {
		code, rcpt, want int
		says             string
	}{
		{250, -1, 0, ""}, {451, -1, exTempFail, "451"}, {452, 0, exTempFail, "a@x.example: 452"}, {421, -1, exTempFail, "421"},
		{550, 0, exNoUser, "a@x.example: 550"}, {554, -1, exRefused, "554"},
	} {
		reply, refused = smtp.Reply{Code: tt.code, Status: smtp.Status{Class: uint8(tt.code / 100)}, Text: "so it is"}, tt.rcpt
		var errs bytes.Buffer
		if code := runAs(t.Context(), "sendmail", []string{"a@x.example"}, strings.NewReader("x\n"), io.Discard, &errs); code != tt.want || !strings.Contains(errs.String(), tt.says) {
			t.Errorf("%d: %d, want %d with %q: %s", tt.code, code, tt.want, tt.says, &errs)
		}
	}
}

// newaliases compiles nothing, and says what is wrong with the alias files.
func TestNewaliases(t *testing.T) {
	dir := t.TempDir()
	conf, aliases := filepath.Join(dir, "postrider.hcl"), filepath.Join(dir, "aliases")
	text := "listener \"mx\" { address = \"127.0.0.1:0\" }\ndomain \"example.org\" {\n  mailboxes = [\"alice\"]\n  aliases = \"" + aliases + "\"\n}\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("POSTRIDER_CONFIG", conf)
	for _, tt := range []struct {
		aliases string
		code    int
		says    string
	}{
		{"bob: :moved: bob@far.example\nsales: alice, bob@far.example\n", 0, ""},
		{"bob: :mooved: bob@far.example\n", exConfig, "aliases:1,6: error: this version does not know \":mooved:\"\n  1 | bob: :mooved: bob@far.example\n    |      ^^^^^^^^^^^^^^^^^^^^^^^^\n  Did you mean \":moved:\"?"},
		{"bob: :moved: bob@far.example, alice\n", exConfig, "aliases:1,31: error: something stands beside the new address of \"bob\""},
	} {
		if err := os.WriteFile(aliases, []byte(tt.aliases), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code := runAs(t.Context(), "newaliases", nil, strings.NewReader(""), &out, &errs)
		if code != tt.code || !strings.Contains(errs.String(), tt.says) || tt.code == 0 && errs.Len()+out.Len() > 0 {
			t.Errorf("%q: %d, want %d with %q: %s%s", tt.aliases, code, tt.code, tt.says, &out, &errs)
		}
	}
}

package main

import (
	"bytes"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

func rcpts(addrs ...string) []smtpc.Rcpt {
	var all []smtpc.Rcpt
	for _, a := range addrs {
		local, domain, _ := strings.Cut(a, "@")
		all = append(all, smtpc.Rcpt{To: smtp.Path{Local: local, Domain: domain}})
	}
	return all
}

// "A message with its own headers is sent byte for byte."
func TestComposeKeeps(t *testing.T) {
	for _, tt := range []struct{ name, raw, want, note string }{
		{"as it is", "From: a@b\r\nX-Odd : y\r\n folded\r\n\r\n\xff\r\n", "", ""},
		{"without a body", "Subject: x\r\n", "", ""},
		{"LF", "Subject: x\n\na\r\nb\n", "Subject: x\r\n\r\na\r\nb\r\n", "CRLF"},
		{"no end", "Subject: x\r\n\r\na", "Subject: x\r\n\r\na\r\n", "last line"},
		{"bare CR is the server's to refuse", "Subject: x\r\n\r\na\rb\r\n", "", ""},
	} {
		got, notes, err := compose(letter{to: rcpts("a@b"), raw: []byte(tt.raw)})
		want := tt.want
		if want == "" {
			want = tt.raw
		}
		if err != nil || string(got) != want || (tt.note == "") != (len(notes) == 0) || !strings.Contains(strings.Join(notes, " "), tt.note) {
			t.Errorf("%s: %q, %q, %v", tt.name, got, notes, err)
		}
	}
	if _, notes, _ := compose(letter{to: rcpts("a@b"), subject: "s", raw: []byte("Subject: x\r\n\r\n")}); len(notes) != 1 {
		t.Errorf("a subject that is not used: %q", notes)
	}
}

// A text alone becomes a message that others can read.
func TestComposeAdds(t *testing.T) {
	for _, raw := range []string{"Hello\r\n", "", "Hello: this is text\r\nand more\r\n", "Note: x\r\n\r\ny\r\n", "gr\u00fc\u00dfe\r\n", "\xff\r\n"} {
		got, _, err := compose(letter{from: smtp.Path{Local: "me", Domain: "x.example"}, to: rcpts("a@b.example", "c@d.example"),
			subject: "Gr\u00fc\u00dfe", raw: []byte(raw), now: time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)})
		if err != nil {
			t.Fatal(err)
		}
		m, err := mail.ReadMessage(bytes.NewReader(got))
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		to, err := m.Header.AddressList("To")
		if err != nil || len(to) != 2 || to[1].Address != "c@d.example" {
			t.Errorf("To: %v, %v", to, err)
		}
		if when, err := m.Header.Date(); err != nil || when.Unix() != 1795309323 {
			t.Errorf("Date: %v (%d), %v", when, when.Unix(), err)
		}
		if got, want := m.Header.Get("Subject"), "=?utf-8?q?Gr=C3=BC=C3=9Fe?="; got != want {
			t.Errorf("Subject: %s", got)
		}
		if !bytes.HasSuffix(got, []byte("\r\n\r\n"+raw)) || (m.Header.Get("MIME-Version") == "") != isASCII([]byte(raw)) {
			t.Errorf("%q became %q", raw, got)
		}
		if head, _, _ := bytes.Cut(got, []byte("\r\n\r\n")); !isASCII(head) {
			t.Errorf("the header is not ASCII: %q", head)
		}
	}
}

// Whatever is given, the wire has CRLF alone, and what was there but for line
// ends is there still.
func FuzzCompose(f *testing.F) {
	f.Add([]byte("Subject: x\n\ny"), "s")
	f.Add([]byte("\r\n\n\r"), "")
	f.Fuzz(func(t *testing.T, raw []byte, subject string) {
		got, _, err := compose(letter{to: rcpts("a@b"), subject: subject, raw: raw})
		if err != nil {
			return
		}
		if strings.Count(string(got), "\n") != strings.Count(string(got), "\r\n") {
			t.Errorf("bare LF in %q", got)
		}
		flat := func(b []byte) string { return strings.ReplaceAll(string(b), "\r", "") }
		if !strings.HasSuffix(flat(got), flat(raw)) && !strings.HasSuffix(flat(got), flat(raw)+"\n") {
			t.Errorf("%q became %q", raw, got)
		}
	})
}

package dsn

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/postrider/postrider/smtp"
)

// plain reports whether s is what our parsers hand on: it comes back unchanged.
func plain(s string, max int) bool {
	return s == ascii(s) && !strings.Contains(s, "  ") && len(s) <= max
}

// Parse(Compose(x)) = x, for all that an envelope can hold; for the rest the
// report is well formed and can be read.
func FuzzRoundTrip(f *testing.F) {
	f.Add("bob", "example.net", "rfc822", "Bob+x@example.net", "QQ=1 2", "mail.example.net", 550, uint16(1), "no such user", "A: b\r\n\r\nx\r\n", int64(1700000000))
	f.Add("jörg", "bücher.example", "utf-8", "jörg@x", "", "", 451, uint16(0), "one\ntwo", "", int64(0))
	f.Add(`"a b"`, "[192.0.2.1]", "x400", "/a=b/", "e", "h", 0, uint16(0), "", "\r\n", int64(5))
	f.Fuzz(func(t *testing.T, local, domain, kind, orig, env, remote string, code int, sub uint16, text, content string, at int64) {
		r := Report{
			ID: "00000000000000000000", Now: time.Unix(at&0xffffffff, 0).UTC(), ReportingMTA: "mx.example.org",
			To: smtp.Path{Local: "a", Domain: "b.example"}, EnvID: env, Return: smtp.RetFull,
			Original: strings.NewReader(content),
		}
		rc := Recipient{
			Final: smtp.Path{Local: local, Domain: domain}, Action: Failed, RemoteMTA: remote,
			Status:      smtp.Status{Class: 5, Subject: sub % 1000, Detail: 1},
			LastAttempt: r.Now,
		}
		if orig != "" {
			rc.ORcpt = kind + ";" + smtp.EncodeXtext(orig)
			if strings.EqualFold(kind, "utf-8") {
				rc.ORcpt = kind + ";" + unitext(orig)
			}
		}
		if code >= 200 && code < 600 {
			rc.Diagnostic = smtp.Reply{Code: code, Text: text}
			if code >= 500 {
				rc.Diagnostic.Status = rc.Status
			}
		}
		r.Recipients = []Recipient{rc, rc}
		m, err := Compose(r)
		if err != nil {
			t.Fatal(err)
		}
		wellFormed(t, m)
		n, err := Parse(bytes.NewReader(m.Content))
		if err != nil {
			t.Fatalf("%v\n%s", err, m.Content)
		}
		if len(n.Recipients) != 2 {
			t.Fatalf("%d recipients in\n%s", len(n.Recipients), m.Content)
		}
		if n.Full && string(n.Returned) != content {
			t.Errorf("returned %q of %q", n.Returned, content)
		}
		address := local + "@" + domain
		if address != printable(address) || strings.Contains(domain, "@") || domain == "" || len(address) > smtp.PathMax ||
			address[0] == '<' || strings.Contains(address, "  ") || (!rc.Final.IsASCII() && strings.Contains(address, "\ufffd")) {
			return
		}
		if !plain(kind+orig, 500) || strings.ContainsAny(kind, "; ") || !plain(orig, 500) || !plain(env, 100) || !plain(remote, 255) {
			return
		}
		for _, l := range strings.Split(text, "\n") {
			st, _ := parseStatus(l)
			if !plain(l, 300) || !st.IsZero() || nextLine(" "+l+" ", strconv.Itoa(code)) >= 0 {
				return
			}
		}
		if strings.Count(text, "\n") >= replyLinesMax {
			return
		}
		if n.EnvID != env {
			t.Errorf("EnvID %q, want %q", n.EnvID, env)
		}
		if diff := cmp.Diff(r.Recipients, n.Recipients); diff != "" {
			t.Errorf("%s\n%s", diff, m.Content)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, ret := range []smtp.Ret{smtp.RetFull, smtp.RetHeaders} {
		r := failure()
		r.Return = ret
		m, err := Compose(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.Content)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := Parse(bytes.NewReader(b))
		if err != nil {
			return
		}
		// What was read can be written, and is then read the same.
		r := Report{ID: "x", ReportingMTA: n.ReportingMTA, To: alice, EnvID: n.EnvID, Recipients: n.Recipients}
		m, err := Compose(r)
		if err != nil {
			t.Fatal(err)
		}
		wellFormed(t, m)
		again, err := Parse(bytes.NewReader(m.Content))
		if err != nil {
			t.Fatalf("%v\n%s", err, m.Content)
		}
		if len(again.Recipients) != len(n.Recipients) {
			t.Errorf("%d recipients, then %d", len(n.Recipients), len(again.Recipients))
		}
	})
}

func FuzzUnitext(f *testing.F) {
	f.Add("jörg+x=\\x{41}@example")
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "")
		u := unitext(s)
		if !isASCII(u) || strings.ContainsAny(u, " +=\r\n") || fromUnitext(u) != s {
			t.Errorf("unitext(%q) = %q, back %q", s, u, fromUnitext(u))
		}
	})
}

// A report to a sender whose address is not ASCII is well formed whatever stands in it,
// and its addresses come back as they were (RFC 6533 4.1).
func FuzzInternational(f *testing.F) {
	f.Add("dø", "d.example", `utf-8;d\x{F8}@e.example`, "Subject: ü\r\n\r\nö\r\n", true)
	f.Add("bob", "bücher.example", "utf-8;x\\x{0D}\\x{0A}y", "\xff\r\n\r\n\x00", false)
	f.Add(strings.Repeat("a", 1200), "d.example", "", "", false)
	f.Fuzz(func(t *testing.T, local, domain, orcpt, content string, utf8 bool) {
		r := Report{
			ID: "00000000000000000000", Now: time.Unix(1e9, 0).UTC(), ReportingMTA: "mx.example.org", UTF8: utf8,
			To: smtp.Path{Local: "jörg", Domain: "b.example"}, Return: smtp.RetFull, Original: strings.NewReader(content),
			Recipients: []Recipient{{Final: smtp.Path{Local: local, Domain: domain}, ORcpt: orcpt, Action: Failed}},
		}
		m, err := Compose(r)
		if err != nil {
			t.Fatal(err)
		}
		wellFormed(t, m)
		n, err := Parse(bytes.NewReader(m.Content))
		if err != nil {
			t.Fatalf("%v\n%s", err, m.Content)
		}
		if len(n.Recipients) != 1 {
			t.Fatalf("%d recipients in\n%s", len(n.Recipients), m.Content)
		}
		if p, err := smtp.ParsePath(local + "@" + domain); err != nil || p.Local != local || p.String() != printable(p.String()) || strings.Contains(local, "  ") {
			return
		}
		if got := n.Recipients[0].Final; got != r.Recipients[0].Final {
			t.Errorf("%v comes back as %v in\n%s", r.Recipients[0].Final, got, m.Content)
		}
	})
}

package dsn

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/postrider/postrider/smtp"
)

var (
	arrived = time.Date(2026, 11, 20, 8, 30, 0, 0, time.FixedZone("", 3600))
	later   = time.Date(2026, 11, 25, 8, 31, 7, 0, time.UTC)
	bob     = smtp.Path{Local: "bob", Domain: "example.net"}
	alice   = smtp.Path{Local: "alice", Domain: "example.org"}
)

const original = "Received: from client by mx1.example.org\r\n" +
	"From: alice@example.org\r\nSubject: lunch\r\n\r\nAt noon?\r\n.. dots\r\n"

func failure() Report {
	return Report{
		ID: "01jd0000000000000001", Now: later, ReportingMTA: "mx1.example.org", To: alice,
		EnvID: "QQ314159", Arrived: arrived, Original: strings.NewReader(original),
		Recipients: []Recipient{{
			Final: bob, ORcpt: "rfc822;Bob+2Bx@example.net", Action: Failed, RemoteMTA: "mail.example.net",
			Diagnostic:  smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "no such user"},
			LastAttempt: later,
		}},
	}
}

func compose(t *testing.T, r Report) Message {
	t.Helper()
	m, err := Compose(r)
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, m)
	return m
}

// wellFormed holds every report to what transport asks of it.
func wellFormed(t *testing.T, m Message) {
	t.Helper()
	eight := false
	for i, line := range bytes.SplitAfter(m.Content, []byte("\n")) {
		if len(line) > smtp.TextMax {
			t.Errorf("line %d is %d octets long", i+1, len(line))
		}
		if len(line) > 0 && !bytes.HasSuffix(line, []byte("\r\n")) {
			t.Errorf("line %d ends without CRLF: %q", i+1, line)
		}
		for _, c := range bytes.TrimSuffix(line, []byte("\r\n")) {
			eight = eight || c >= 0x80
			if c == '\r' || c == 0 {
				t.Errorf("line %d holds %#x: %q", i+1, c, line)
			}
		}
	}
	if eight != m.EightBit {
		t.Errorf("EightBit = %v, content has it: %v", m.EightBit, eight)
	}
}

// RFC 6531 3.4: a message with UTF-8 in its header needs SMTPUTF8 on its way, whichever
// field it is in: also our own address.
func TestUTF8From(t *testing.T) {
	r := failure()
	r.From = smtp.Path{Local: "postmaster", Domain: "bücher.example"}
	if m := compose(t, r); !m.UTF8 || !m.EightBit || !bytes.Contains(m.Content, []byte("<postmaster@bücher.example>")) {
		t.Errorf("UTF8 = %v, EightBit = %v in\n%s", m.UTF8, m.EightBit, m.Content)
	}
}

// The machine part by the letter: fields, their order, their types.
func TestStatusPart(t *testing.T) {
	r := failure()
	r.Recipients = append(r.Recipients, Recipient{
		Final: smtp.Path{Local: "jörg", Domain: "example.net"}, ORcpt: "utf-8;jörg@example.net", Action: Delayed,
		Diagnostic:     smtp.Reply{Code: 451, Text: "one\ntwo é"},
		WillRetryUntil: later,
	}, Recipient{
		Final: bob, Action: Relayed, Status: smtp.Status{Class: 2, Subject: 1, Detail: 9}, WillRetryUntil: later,
	})
	want := strings.ReplaceAll(`Original-Envelope-Id: QQ314159
Reporting-MTA: dns; mx1.example.org
Arrival-Date: Fri, 20 Nov 2026 08:30:00 +0100

Original-Recipient: rfc822; Bob+x@example.net
Final-Recipient: rfc822; bob@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; mail.example.net
Diagnostic-Code: smtp; 550 5.1.1 no such user
Last-Attempt-Date: Wed, 25 Nov 2026 08:31:07 +0000

Original-Recipient: utf-8; j\x{F6}rg@example.net
Final-Recipient: utf-8; j\x{F6}rg@example.net
Action: delayed
Status: 4.0.0
Diagnostic-Code: smtp; 451-one
 451 two ?
Will-Retry-Until: Wed, 25 Nov 2026 08:31:07 +0000

Final-Recipient: rfc822; bob@example.net
Action: relayed
Status: 2.1.9
`, "\n", "\r\n")
	if diff := cmp.Diff(want, string(statusPart(&r).body)); diff != "" {
		t.Error(diff)
	}
}

// The library of the language reads the frame as we mean it.
func TestStandardReaders(t *testing.T) {
	m := compose(t, failure())
	msg, err := mail.ReadMessage(bytes.NewReader(m.Content))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"From":           "Mail Delivery System <postmaster@mx1.example.org>",
		"To":             "<alice@example.org>",
		"Subject":        "Undelivered mail",
		"Date":           "Wed, 25 Nov 2026 08:31:07 +0000",
		"Message-Id":     "<01jd0000000000000001@mx1.example.org>",
		"Auto-Submitted": "auto-replied",
		"Mime-Version":   "1.0",
	} {
		if got := msg.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type %q %v: %v", kind, params, err)
	}
	mr := multipart.NewReader(msg.Body, params["boundary"])
	for i, want := range []string{"text/plain; charset=us-ascii", "message/delivery-status", "text/rfc822-headers"} {
		p, err := mr.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Header.Get("Content-Type"); got != want {
			t.Errorf("part %d: %q, want %q", i, got, want)
		}
	}
	if _, err := mr.NextRawPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
}

// TestWordsOfDelay: who hears of a delay hears how long it goes on.
func TestWordsOfDelay(t *testing.T) {
	r := failure()
	r.Recipients[0].Action, r.Recipients[0].WillRetryUntil = Delayed, later
	if text := strings.Join(strings.Fields(string(wordsPart(&r).body)), " "); !strings.Contains(text, "It is tried until Wed, 25 Nov 2026 08:31:07 +0000.") {
		t.Error(text)
	}
}

func TestWords(t *testing.T) {
	r := failure()
	r.Recipients[0].RemoteMTA = "mail.example.net"
	text := string(wordsPart(&r).body)
	for _, want := range []string{
		"mx1.example.org", "could not be delivered", "<bob@example.net>",
		"mail.example.net said:", "550 5.1.1 no such user", "look for a mistake in the address",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	r.Recipients = make([]Recipient, 250)
	for i := range r.Recipients {
		r.Recipients[i] = Recipient{Final: bob, Action: Failed}
	}
	if text := string(wordsPart(&r).body); strings.Count(text, "<bob@") != wordsMax || !strings.Contains(text, "and 150 more") {
		t.Errorf("of 250 recipients the words name %d:\n%.300s", strings.Count(text, "<bob@"), text)
	}
}

// RFC 3463 2: clients report "the general error described in the subject sub-code when
// the specific detail is unrecognized."
func TestAdvice(t *testing.T) {
	for _, subject := range []uint16{1, 7} {
		known, unknown := advice(smtp.Status{Class: 5, Subject: subject, Detail: 1}), advice(smtp.Status{Class: 5, Subject: subject, Detail: 999})
		if unknown == "" || unknown != known {
			t.Errorf("for X.%d.999 the advice is %q, want %q", subject, unknown, known)
		}
	}
}

// TestTooLargeThere: RFC 3463 3.3 and 3.4 have two codes for it, X.2.3 of a mailbox and X.3.4
// of a system.
func TestTooLargeThere(t *testing.T) {
	a, b := advice(smtp.Status{Class: 5, Subject: 2, Detail: 3}), advice(smtp.Status{Class: 5, Subject: 3, Detail: 4})
	if a == "" || a != b {
		t.Errorf("%q and %q", a, b)
	}
}

func TestReturn(t *testing.T) {
	head, _, _ := strings.Cut(original, "\r\n\r\n")
	head += "\r\n"
	long := "Subject: x\r\n\r\n" + strings.Repeat("a line of text\r\n", ReturnMax/16)
	for _, tc := range []struct {
		name     string
		original string
		ret      smtp.Ret
		action   Action
		utf8     bool
		full     bool
		eight    bool
		kind     string
		want     string
	}{
		{"not asked", original, smtp.RetUnset, Failed, false, false, false, "text/rfc822-headers", head},
		{"HDRS", original, smtp.RetHeaders, Failed, false, false, false, "text/rfc822-headers", head},
		{"FULL", original, smtp.RetFull, Failed, false, true, false, "message/rfc822", original},
		// RFC 3461 6.2: "If a DSN contains no notifications of delivery failure,
		// the MTA SHOULD return only the headers."
		{"FULL, nothing failed", original, smtp.RetFull, Delivered, false, false, false, "text/rfc822-headers", head},
		{"FULL, too long", long, smtp.RetFull, Failed, false, false, false, "text/rfc822-headers", "Subject: x\r\n"},
		{"FULL, the longest", long[:ReturnMax-2] + "\r\n", smtp.RetFull, Failed, false, true, false, "message/rfc822", long[:ReturnMax-2] + "\r\n"},
		{"header, UTF8 for the body alone", "Subject: x\r\n\r\né\r\n", smtp.RetUnset, Failed, true, false, false, "text/rfc822-headers", "Subject: x\r\n"},
		{"FULL, 8bit", original + "\xe9\r\n", smtp.RetFull, Failed, false, true, true, "message/rfc822", original + "\xe9\r\n"},
		{"FULL, UTF8", "Subject: é\r\n\r\né\r\n", smtp.RetFull, Failed, true, true, false, "message/global", "Subject: é\r\n\r\né\r\n"},
		{"header, UTF8", "Subject: é\r\n\r\né\r\n", smtp.RetUnset, Failed, true, false, false, "message/global-headers", "Subject: é\r\n"},
		{"header, 8bit", "Subject: \xe9\r\n\r\n", smtp.RetUnset, Failed, false, false, false, "text/rfc822-headers", "Subject: \xe9\r\n"},
		{"FULL, NUL", "Subject: x\r\n\r\n\x00\r\n", smtp.RetFull, Failed, false, false, false, "text/rfc822-headers", "Subject: x\r\n"},
		{"FULL, bare LF", "Subject: x\r\n\r\na\nb\r\n", smtp.RetFull, Failed, false, false, false, "text/rfc822-headers", "Subject: x\r\n"},
		{"FULL, long line", "A: b\r\n\r\n" + strings.Repeat("x", 999) + "\r\n", smtp.RetFull, Failed, false, false, false, "text/rfc822-headers", "A: b\r\n"},
		{"no header", "\r\nbody\r\n", smtp.RetUnset, Failed, false, false, false, "text/rfc822-headers", ""},
		{"header only", "A: b\r\n", smtp.RetUnset, Failed, false, false, false, "text/rfc822-headers", "A: b\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := failure()
			r.Original, r.Return, r.UTF8 = strings.NewReader(tc.original), tc.ret, tc.utf8
			r.Recipients[0].Action = tc.action
			m := compose(t, r)
			if m.EightBit != tc.eight {
				t.Errorf("EightBit = %v", m.EightBit)
			}
			if !bytes.Contains(m.Content, []byte("Content-Type: "+tc.kind+"\r\n")) {
				t.Errorf("no part of type %s in\n%s", tc.kind, m.Content)
			}
			n, err := Parse(bytes.NewReader(m.Content))
			if err != nil {
				t.Fatal(err)
			}
			if string(n.Returned) != tc.want || n.Full != tc.full {
				t.Errorf("full %v, returned %q", n.Full, n.Returned)
			}
		})
	}
}

// Of a header that is far too long the first fields come back.
func TestHeaderMax(t *testing.T) {
	r := failure()
	r.Original = strings.NewReader(strings.Repeat("X-Filler: 0123456789\r\n", HeaderMax/10))
	n, err := Parse(bytes.NewReader(compose(t, r).Content))
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Returned) > HeaderMax || len(n.Returned) < HeaderMax-100 || !bytes.HasSuffix(n.Returned, []byte("789\r\n")) {
		t.Errorf("returned %d octets", len(n.Returned))
	}
}

// The sender hears of the failure also when the original cannot be read.
func TestDamagedOriginal(t *testing.T) {
	for _, tc := range []struct{ have, want string }{
		{"Subject: lu", ""},
		{"Subject: lunch\r\nTo: b", "Subject: lunch\r\n"},
		{"Subject: lunch\r\n\r\nAt n", "Subject: lunch\r\n"},
	} {
		r := failure()
		r.Return = smtp.RetFull
		r.Original = io.MultiReader(strings.NewReader(tc.have), iotest.ErrReader(errors.New("bad block")))
		n, err := Parse(bytes.NewReader(compose(t, r).Content))
		if err != nil {
			t.Fatal(err)
		}
		if string(n.Returned) != tc.want || n.Full {
			t.Errorf("of %q returned %q", tc.have, n.Returned)
		}
	}
}

// What a peer says stays words: it begins no field and ends no part.
func TestInjection(t *testing.T) {
	r := failure()
	evil := "no\r\nBcc: x@y\n\nFinal-Recipient: rfc822; z\r--=_01jd0000000000000001_0\x00\x1b[2J\u202e"
	r.Recipients[0].Diagnostic.Text = evil
	r.Recipients[0].RemoteMTA = evil
	r.Recipients[0].Final.Local = evil
	r.Recipients[0].ORcpt = "rfc822;+0D+0ABcc:x" + evil
	r.EnvID = evil
	r.ReportingMTA += evil
	r.To.Local = "a\r\nBcc: x@y"
	m := compose(t, r)
	msg, err := mail.ReadMessage(bytes.NewReader(m.Content))
	if err != nil {
		t.Fatal(err)
	}
	if msg.Header.Get("Bcc") != "" {
		t.Error("a field was injected into the header")
	}
	if bytes.ContainsAny(m.Content, "\x00\x1b") {
		t.Error("a control character came through")
	}
	n, err := Parse(bytes.NewReader(m.Content))
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Recipients) != 1 || n.Recipients[0].Final.Domain != "example.net" {
		t.Errorf("recipients read back: %+v", n.Recipients)
	}
}

// A returned message that knows our boundary does not end its part.
func TestBoundary(t *testing.T) {
	r := failure()
	r.Return = smtp.RetFull
	body := original + "--=_" + r.ID + "_0--\r\nfoo\r\n--=_" + r.ID + "_1\r\n"
	r.Original = strings.NewReader(body)
	n, err := Parse(bytes.NewReader(compose(t, r).Content))
	if err != nil {
		t.Fatal(err)
	}
	if string(n.Returned) != body {
		t.Errorf("returned %q", n.Returned)
	}
}

func TestComposeErrors(t *testing.T) {
	r := failure()
	r.To = smtp.Path{}
	if _, err := Compose(r); !errors.Is(err, ErrNoReturnPath) {
		t.Errorf("to the null path: %v", err)
	}
	r = failure()
	r.Recipients = nil
	if _, err := Compose(r); !errors.Is(err, ErrNoRecipients) {
		t.Errorf("without recipients: %v", err)
	}
}

// An address that is not ASCII makes the report itself need SMTPUTF8.
func TestUTF8Sender(t *testing.T) {
	r := failure()
	r.To = smtp.Path{Local: "zoë", Domain: "example.org"}
	if m := compose(t, r); !m.UTF8 || !m.EightBit {
		t.Errorf("UTF8 %v EightBit %v", m.UTF8, m.EightBit)
	}
	if m := compose(t, failure()); m.UTF8 || m.EightBit {
		t.Errorf("of ASCII: UTF8 %v EightBit %v", m.UTF8, m.EightBit)
	}
}

func TestField(t *testing.T) {
	word := strings.Repeat("w", 40)
	for _, tc := range []struct{ value, want string }{
		{"short", "X: short\r\n"},
		{word + " " + word, "X: " + word + "\r\n " + word + "\r\n"},
		{word + "  " + word + " b", "X: " + word + "\r\n  " + word + " b\r\n"},
		{strings.Repeat("w", 100) + " b", "X:\r\n " + strings.Repeat("w", 100) + "\r\n b\r\n"},
		{strings.Repeat("w", 1000), "X:\r\n " + strings.Repeat("w", 989) + "\r\n " + strings.Repeat("w", 11) + "\r\n"},
	} {
		var b strings.Builder
		field(&b, "X", tc.value)
		if b.String() != tc.want {
			t.Errorf("field(%.50q) = %q, want %q", tc.value, b.String(), tc.want)
		}
	}
}

// TestFieldWords: what a peer or a sender wrote becomes a value that a field can hold, and
// that is read as it was. A word of people is broken between characters alone.
func TestFieldWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{printable("a\xffb"), "a?b"},
		{printable("a" + strings.Repeat(" ", 64) + "b"), "a" + strings.Repeat(" ", 64) + "b"}, // as a local part in quotes may be
		{printable("a" + strings.Repeat(" ", 65) + "b"), "a b"},
		{strings.Join(replyLines(smtp.Reply{Text: "who knows"}), "|"), "451 who knows"}, // as smtp.Reply says of its zero
		{strings.Join(replyLines(smtp.Reply{Code: 550, Text: strings.Repeat("x", 513) + "\n" + strings.Repeat("y\n", 40)}), "|"),
			"550-" + strings.Repeat("x", 512) + "|" + strings.Repeat("550-y|", 14) + "550 y"},
		{originalRecipient("rfc822;a+C3+BCb@c", false), "rfc822; a+C3+BCb@c"}, // undone it would be another address
		{originalRecipient("rfc822;a+0Ab@c", true), "rfc822; a+0Ab@c"},
		{fromUnitext(`\x{1F600}\x{10FFFD}@c`), "\U0001F600\U0010FFFD@c"}, // RFC 6533 3: up to six digits
		{fromUnitext(`\x{D800}\x{110000}@c`), `\x{D800}\x{110000}@c`},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	var b strings.Builder
	wrap(&b, " ", strings.Repeat("ö", 1000))
	if !utf8.ValidString(b.String()) || strings.Count(b.String(), "ö") != 1000 {
		t.Errorf("broken within a character: %q", b.String())
	}
}

// TestSubjects: the words say what has become of the mail.
func TestSubjects(t *testing.T) {
	came := Recipient{Action: Delayed, Late: true}
	for _, c := range []struct {
		rcpts []Recipient
		want  string
	}{
		{[]Recipient{{Action: Failed}}, "Undelivered mail"},
		{[]Recipient{{Action: Failed}, {Action: Delayed}}, "Undelivered mail, for some of its recipients"},
		{[]Recipient{{Action: Delivered}, {Action: Delayed}, came}, "Delayed mail, still being tried"},
		{[]Recipient{came, {Action: Delivered}}, "Mail that came late"},
		{[]Recipient{{Action: Failed, Late: true}}, "Undelivered mail"}, // late is what came after all
		{[]Recipient{{Action: Relayed}}, "Mail that was passed on"},
		{[]Recipient{{Action: Relayed}, {Action: Delivered}}, "Delivered mail"},
	} {
		if got := subject(c.rcpts); got != c.want {
			t.Errorf("%v: %q, want %q", c.rcpts, got, c.want)
		}
	}
}

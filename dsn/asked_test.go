package dsn

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
)

func composed(t *testing.T, r Report) (Message, *Notice) {
	t.Helper()
	m, err := Compose(r)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Parse(bytes.NewReader(m.Content))
	if err != nil {
		t.Fatalf("%v\n%s", err, m.Content)
	}
	return m, n
}

// RFC 2852 5: DSNs "should include an Arrival-Date DSN field" and the "Deliver-By-Date".
// RFC 4865 5.1.2: "the MSA MUST include an Arrival-Date field" and "a Future-Release-Request
// field in the machine-readable body part of the DSN. The value of this field is the value
// of the HOLD parameter".
func TestFieldsOfOtherExtensions(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r := Report{
		ID: "x", Now: at, ReportingMTA: "mx.example.org", To: smtp.Path{Local: "a", Domain: "b.example"}, Arrived: at,
		Recipients: []Recipient{{Final: smtp.Path{Local: "c", Domain: "d.example"}, Action: Failed}},
	}
	for _, c := range []struct {
		set  func(r *Report)
		want string
	}{
		{func(r *Report) {}, ""},
		{func(r *Report) { r.DeliverBy = at.Add(2 * time.Minute) }, "Deliver-By-Date: Sun, 22 Nov 2026 12:02:00 +0000\r\n"},
		{func(r *Report) { r.Hold.For = time.Hour }, "Future-Release-Request: for;3600\r\n"},
		{func(r *Report) { r.Hold.Until = at.Add(time.Hour) }, "Future-Release-Request: until;2026-11-22T13:00:00Z\r\n"},
	} {
		r := r
		c.set(&r)
		m, n := composed(t, r)
		if want := "Arrival-Date: Sun, 22 Nov 2026 12:00:00 +0000\r\n" + c.want + "\r\nFinal-Recipient"; !strings.Contains(string(m.Content), want) {
			t.Errorf("%q is not in\n%s", want, m.Content)
		}
		if len(n.Recipients) != 1 {
			t.Errorf("%d recipients are read", len(n.Recipients))
		}
	}
}

// RFC 6533 4.1: systems generating a message/global-delivery-status "SHOULD use the
// utf-8-address form of the UTF-8 address type for all addresses containing characters
// outside the ASCII repertoire". RFC 6533 4.5: where the way back may not speak SMTPUTF8,
// what goes back "MUST be encoded using a 7-bit Content-Transfer-Encoding".
func TestInternational(t *testing.T) {
	to := smtp.Path{Local: "jörg", Domain: "b.example"}
	r := Report{
		ID: "x", ReportingMTA: "mx.example.org", To: to, UTF8: true, Return: smtp.RetFull, Original: strings.NewReader("Subject: ü\r\n\r\nö\r\n"),
		Recipients: []Recipient{{Final: smtp.Path{Local: "dø", Domain: "d.example"}, ORcpt: `utf-8;d\x{F8}@e.example`, Action: Failed}},
	}
	m, n := composed(t, r)
	for _, want := range []string{
		"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n", "Final-Recipient: utf-8; dø@d.example\r\n",
		"Original-Recipient: utf-8; dø@e.example\r\n", "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: ü\r\n",
	} {
		if !strings.Contains(string(m.Content), want) {
			t.Errorf("%q is not in\n%s", want, m.Content)
		}
	}
	if !m.UTF8 || !m.EightBit || n.Recipients[0].Final != r.Recipients[0].Final || string(n.Returned) != "Subject: ü\r\n\r\nö\r\n" {
		t.Errorf("read as %+v", n)
	}
	r.To, r.Original = smtp.Path{Local: "a", Domain: "b.example"}, strings.NewReader("Subject: ü\r\n\r\nö\r\n")
	m, n = composed(t, r)
	for _, want := range []string{
		"Content-Type: message/delivery-status\r\n\r\n", `Final-Recipient: utf-8; d\x{F8}@d.example` + "\r\n",
		`Original-Recipient: utf-8; d\x{F8}@e.example` + "\r\n", "Content-Type: message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n",
	} {
		if !strings.Contains(string(m.Content), want) {
			t.Errorf("%q is not in\n%s", want, m.Content)
		}
	}
	if m.UTF8 || m.EightBit || !isASCII(string(m.Content)) || n.Recipients[0].Final != r.Recipients[0].Final {
		t.Errorf("to a sender in ASCII: %+v", m)
	}
}

// RFC 6533 3: an address that "is labeled with the UTF-8 address type but does not
// conform to utf-8 syntax [...] MUST be copied [...] without alteration"; and nothing of
// it ends a line.
func TestInternationalOriginal(t *testing.T) {
	for in, want := range map[string]string{
		`utf-8;d\x{F8}@x`:      "utf-8; dø@x",
		`utf-8;d\x{0D}\x{0A}x`: `utf-8; d\x{0D}\x{0A}x`,
		`utf-8;dø@x`:           "utf-8; dø@x",
		`rfc822;a+2Bb@x`:       "rfc822; a+b@x",
	} {
		if got := originalRecipient(in, true); got != want {
			t.Errorf("%s becomes %q, want %q", in, got, want)
		}
	}
}

// RFC 3461 5.2.7.3 (c): "an "expanded" DSN is issued for the alias".
func TestExpanded(t *testing.T) {
	_, n := composed(t, Report{
		ID: "x", ReportingMTA: "mx.example.org", To: smtp.Path{Local: "a", Domain: "b.example"},
		Recipients: []Recipient{{Final: smtp.Path{Local: "team", Domain: "d.example"}, Action: Expanded}},
	})
	if r := n.Recipients[0]; r.Action != Expanded || r.Status != (smtp.Status{Class: 2}) {
		t.Errorf("read as %+v", r)
	}
	if !strings.Contains(n.Text, "<team@d.example>") || !strings.Contains(n.Text, "passed on to all") {
		t.Errorf("the words are %q", n.Text)
	}
}

package dsn

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
)

// foreign is a report as other systems write them, with a status part and how it is
// encoded.
func foreign(encoding, status string) string {
	return strings.ReplaceAll("Content-Type: multipart/report; report-type=Delivery-Status; boundary=b\n\n--b\n\nwords\n--b\n"+
		"Content-Type: message/global-delivery-status\nContent-Transfer-Encoding: "+encoding+"\n\n"+status+"\n--b--\n", "\n", "\r\n")
}

// Parse reads what others write: types, actions, encodings and the names of fields in any
// case (RFC 3464 2.1, 2.3.3, RFC 2045 5.1 and 6.1), lines that go on behind a tab, and lines
// of blanks between the groups.
func TestParseOthers(t *testing.T) {
	n, err := Parse(strings.NewReader(foreign(" Quoted-Printable ", `REPORTING-mta: DNS; mx.example.net
Arrival-Date: Fri, 20 Nov 2026 08:30:00 +0100
 	
Original-recipient: UTF-8; j=C3=B6rg@example.org
Final-Recipient: Utf-8;
	j\x{F6}rg@example.org
Action: Failed
Status: 5.1.1 (no such user)
Diagnostic-Code: SMTP; 550-5.1.1 no
 550 5.1.1 such user
Remote-MTA: dns; mx.example.org
Last-Attempt-Date: Wed, 25 Nov 2026 08:31:07 +0000

Final-Recipient: rfc822; <"a@b"@example.org>
Will-Retry-Until: Wed, 25 Nov 2026 08:31:07 GMT
Action: DELAYED
Status: 3.1.1
Diagnostic-Code: X-Unix; 550 75`)))
	if err != nil {
		t.Fatal(err)
	}
	if n.ReportingMTA != "mx.example.net" || !n.Arrived.Equal(arrived) || len(n.Recipients) != 2 {
		t.Fatalf("%+v", n)
	}
	want := Recipient{
		ORcpt: "UTF-8;jörg@example.org", Final: smtp.Path{Local: "jörg", Domain: "example.org"}, Action: Failed, RemoteMTA: "mx.example.org",
		Status:     smtp.Status{Class: 5, Subject: 1, Detail: 1},
		Diagnostic: smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "no\nsuch user"},
	}
	last, until := &n.Recipients[0].LastAttempt, &n.Recipients[1].WillRetryUntil
	if !last.Equal(later) || !until.Equal(later) {
		t.Errorf("the last attempt was %v, and it is tried until %v", last, until)
	}
	*last, *until = time.Time{}, time.Time{}
	if n.Recipients[0] != want {
		t.Errorf("%+v, want %+v", n.Recipients[0], want)
	}
	// RFC 3464 2.3.4 has no class 3; and what is no reply of SMTP is not read as one.
	want = Recipient{Final: smtp.Path{Local: `"a@b"`, Domain: "example.org"}, Action: Delayed}
	if n.Recipients[1] != want {
		t.Errorf("%+v, want %+v", n.Recipients[1], want)
	}
}

// What is no report of RFC 6522 3, with two parts at least, is none; what a part lacks that can
// do without is no fault.
func TestParseParts(t *testing.T) {
	const status = "Reporting-MTA: dns; x\n\nFinal-Recipient: rfc822; a@b.example\nAction: failed\n"
	encoded := base64.StdEncoding.EncodeToString([]byte(status))
	if n, err := Parse(strings.NewReader(foreign("BASE64", encoded))); err != nil || len(n.Recipients) != 1 || n.Recipients[0].Final.Domain != "b.example" {
		t.Errorf("in base64: %+v, %v", n, err)
	}
	odd := strings.Replace(foreign("7bit", status), "\r\n\r\nwords", "\r\nContent-Type: ;\r\n\r\nwords", 1)
	if n, err := Parse(strings.NewReader(odd)); err != nil || len(n.Recipients) != 1 || n.Text != "words" {
		t.Errorf("with words of no type: %+v, %v", n, err)
	}
	words, _, _ := strings.Cut(foreign("7bit", status), "--b\r\nContent-Type")
	if n, err := Parse(strings.NewReader(words + "--b--\r\n")); err == nil {
		t.Errorf("with words alone: %+v", n)
	}
}

// A Diagnostic-Code is a reply of RFC 5321 4.2, or nothing.
func TestParseReply(t *testing.T) {
	for in, want := range map[string]smtp.Reply{
		"550 5.1.1 no": {Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "no"}, "550-no 550 such": {Code: 550, Text: "no\nsuch"},
		"550-no 550": {Code: 550, Text: "no\n"}, "550-a 550-b 550 c": {Code: 550, Text: "a\nb\nc"}, "550-a 551 b": {Code: 550, Text: "a 551 b"},
		"421": {Code: 421}, "200 x": {Code: 200, Text: "x"}, "199 x": {}, "55": {}, "": {}, "-55 x": {}, "5.1.1": {},
	} {
		if got := parseReply(in); got != want {
			t.Errorf("%q: %+v, want %+v", in, got, want)
		}
	}
}

// A report names as many recipients as Parse keeps, and no more.
func TestParseBound(t *testing.T) {
	for extra, want := range []bool{true, false} {
		n := &Notice{}
		err := n.status("Reporting-MTA: dns; x\n\n" + strings.Repeat("a:\n\n", RecipientsMax+extra))
		if (err == nil) != want || len(n.Recipients) != RecipientsMax {
			t.Errorf("%d more: %d recipients, %v", extra, len(n.Recipients), err)
		}
	}
	if err := (&Notice{}).status("Reporting-MTA: dns; x\n\n \t\n"); !errors.Is(err, ErrNotReport) {
		t.Errorf("none: %v", err)
	}
}

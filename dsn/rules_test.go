package dsn

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
)

// The rules of RFC 3461 6.2 and 6.3 about what a report holds, each by its number: a
// field that must be there, or must not be.
func TestRulesOfRFC3461(t *testing.T) {
	plain := func() Report {
		return Report{
			ID: "x", Now: time.Unix(1e9, 0), ReportingMTA: "mx.example.org", To: smtp.Path{Local: "a", Domain: "b.example"},
			Original:   strings.NewReader("Subject: s\r\n\r\nthe body\r\n"),
			Recipients: []Recipient{{Final: smtp.Path{Local: "c", Domain: "d.example"}, Action: Failed}},
		}
	}
	for _, c := range []struct {
		rule    string
		set     func(r *Report)
		has, no string
	}{
		{"6.2: multipart/report of delivery-status", func(*Report) {}, "Content-Type: multipart/report; report-type=delivery-status;", ""},
		{`6.2: RET=FULL, "the full message SHOULD be returned for any DSN which conveys notification of delivery failure"`,
			func(r *Report) { r.Return = smtp.RetFull }, "\r\nthe body\r\n", ""},
		{"6.2: RET=HDRS", func(r *Report) { r.Return = smtp.RetHeaders }, "Subject: s\r\n", "the body"},
		{`6.2: without a failure "the MTA SHOULD return only the headers"`,
			func(r *Report) { r.Return, r.Recipients[0].Action = smtp.RetFull, Delayed }, "Subject: s\r\n", "the body"},
		{`6.3 (a): ENVID, "an Original-Envelope-ID field MUST be supplied", decoded`, func(r *Report) { r.EnvID = "QQ=1 2" }, "\r\nOriginal-Envelope-Id: QQ=1 2\r\n", ""},
		{`6.3 (a): no ENVID, it "MUST NOT be supplied"`, func(*Report) {}, "", "Original-Envelope-Id"},
		{`6.3 (b): "The Reporting-MTA field MUST be supplied", with "dns"`, func(*Report) {}, "\r\nReporting-MTA: dns; mx.example.org\r\n", ""},
		{`6.3 (b): no full name, it "MUST NOT be "dns""`, func(r *Report) { r.ReportingMTA = "mx" }, "\r\nReporting-MTA: x-local-hostname; mx\r\n", ""},
		{`6.3 (b): the same with the dot of the root`, func(r *Report) { r.ReportingMTA = "mx." }, "\r\nReporting-MTA: x-local-hostname; mx.\r\n", ""},
		{`6.3 (d): ORCPT, "the Original-Recipient field MUST be supplied"`, func(r *Report) { r.Recipients[0].ORcpt = "rfc822;C+2Bx@D" },
			"\r\nOriginal-Recipient: rfc822; C+x@D\r\n", ""},
		{`6.3 (d): no ORCPT, it "MUST NOT appear"`, func(*Report) {}, "", "Original-Recipient"},
		{`6.3 (e): "The Final-Recipient field MUST be supplied"`, func(*Report) {}, "\r\nFinal-Recipient: rfc822; c@d.example\r\n", ""},
		{`9.1: "an MTA MUST NOT modify an address obtained from the message envelope"`,
			func(r *Report) { r.Recipients[0].Final = smtp.Path{Local: `"C. D"`, Domain: "D.Example"} }, "\r\nFinal-Recipient: rfc822; \"C. D\"@D.Example\r\n", ""},
		{`6.3 (f): "The Action field MUST be supplied"`, func(*Report) {}, "\r\nAction: failed\r\n", ""},
		{`6.3 (g): "either 4.0.0 (temporary failure), or 5.0.0 (permanent failure) MUST be used"`, func(*Report) {}, "\r\nStatus: 5.0.0\r\n", ""},
		{`6.3 (g): 4.0.0`, func(r *Report) { r.Recipients[0].Action = Delayed }, "\r\nStatus: 4.0.0\r\n", ""},
		{`6.3 (h): "the Remote-MTA field MUST be supplied"`, func(r *Report) { r.Recipients[0].RemoteMTA = "mx.d.example" }, "\r\nRemote-MTA: dns; mx.d.example\r\n", ""},
		{`6.3 (i): "the Diagnostic-Code MUST be supplied"`,
			func(r *Report) { r.Recipients[0].Diagnostic = smtp.Reply{Code: 550, Text: "who"} }, "\r\nDiagnostic-Code: smtp; 550 who\r\n", ""},
	} {
		r := plain()
		c.set(&r)
		m, err := Compose(r)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(m.Content), c.has) {
			t.Errorf("%s: %q is not in\n%s", c.rule, c.has, m.Content)
		}
		if c.no != "" && strings.Contains(string(m.Content), c.no) {
			t.Errorf("%s: %q is in\n%s", c.rule, c.no, m.Content)
		}
	}
}

// RFC 3464 2.3.4: the first sub-field of a status says "whether the delivery attempt was
// successful (2= success, 4 = persistent temporary failure, 5 = permanent failure)". What
// the queue has decided is told, and not what the other side said last: of a message that
// was given up for its age nobody reads that it is still being tried. What was said is in
// the Diagnostic-Code all the same. Where nothing was decided the answer has the status.
func TestDecidedStatus(t *testing.T) {
	busy := smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 7, Detail: 1}, Text: "come again"}
	const diagnostic = "\r\nDiagnostic-Code: smtp; 451 4.7.1 come again\r\n"
	for _, tt := range []struct {
		action  Action
		decided smtp.Status
		want    string
		advice  string
	}{
		{Failed, smtp.Status{Class: 5, Subject: 4, Detail: 7}, "5.4.7", "It was tried until its time was over."},
		{Delayed, smtp.Status{Class: 4, Subject: 4, Detail: 7}, "4.4.7", ""},
		{Delayed, smtp.Status{}, "4.7.1", ""},
		{Relayed, smtp.Status{Class: 2, Subject: 1, Detail: 9}, "2.1.9", ""},
	} {
		r := failure()
		r.Recipients[0].Action, r.Recipients[0].Status, r.Recipients[0].Diagnostic = tt.action, tt.decided, busy
		part := "\r\n" + string(statusPart(&r).body)
		if want := "\r\nStatus: " + tt.want + "\r\n"; !strings.Contains(part, want) || !strings.Contains(part, diagnostic) {
			t.Errorf("%s, %v: %q or %q is not in\n%s", tt.action, tt.decided, want, diagnostic, part)
		}
		words := strings.Join(strings.Fields(string(wordsPart(&r).body)), " ")
		if !strings.Contains(words, tt.advice) || strings.Contains(words, "rules of the receiving side") {
			t.Errorf("%s, %v: the words are %s", tt.action, tt.decided, words)
		}
	}
}

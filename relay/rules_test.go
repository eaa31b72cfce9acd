package relay

import (
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// The rules of RFC 3461 5.2.1 and 5.2.2 about what is said to the next hop, each by
// its number.
func TestRulesOfRFC3461(t *testing.T) {
	const from, rcpt = "MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>"
	asked := func(d *postrider.Delivery) {
		d.Message.EnvID, d.Message.Ret = "QQ 1", smtp.RetHeaders
		d.Message.Recipients[0].Notify = smtp.NotifySuccess | smtp.NotifyFailure
		d.Message.Recipients[0].ORcpt = "rfc822;B+2Bx@Example.ORG"
	}
	dsn := []string{"DSN"}
	told := taken + " dsn"
	send(t, []sending{
		{name: `5.2.1 (a) ENVID "MUST also appear", (b) RET, (c) NOTIFY, (d) ORCPT "identical"`, exts: dsn, set: asked, want: []string{told},
			mail: from + " RET=HDRS ENVID=QQ+201", rcpt: []string{rcpt + " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;B+2Bx@Example.ORG"}},
		{name: `5.2.1 (a) to (d): what was not given "MUST NOT be supplied"`, exts: dsn, want: []string{taken}, mail: from, rcpt: []string{rcpt}},
		{name: `5.2.1 (c): NEVER`, exts: dsn, set: func(d *postrider.Delivery) { d.Message.Recipients[0].Notify = smtp.NotifyNever }, want: []string{told},
			mail: from, rcpt: []string{rcpt + " NOTIFY=NEVER"}},
		{name: `5.2.2 (a): "ENVID, NOTIFY, RET, or ORCPT parameters MUST NOT be issued"`, set: asked, want: []string{taken}, mail: from, rcpt: []string{rcpt}},
		{name: "RFC 5321 2.4: an address goes on in its own case", want: []string{taken}, mail: from, rcpt: []string{"RCPT TO:<B.C@Example.ORG>"},
			set: func(d *postrider.Delivery) {
				d.Message.Recipients[0].To = smtp.Path{Local: "B.C", Domain: "Example.ORG"}
			}},
		{name: `6.1: a report has no RET, and NOTIFY "MUST be NEVER"`, exts: dsn, want: []string{told}, mail: "MAIL FROM:<>", rcpt: []string{rcpt + " NOTIFY=NEVER"},
			set: func(d *postrider.Delivery) {
				d.Message.From, d.Message.Recipients[0].Notify = smtp.Path{}, smtp.NotifyNever
			}},
	})
}

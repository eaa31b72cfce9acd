package smtpd

import (
	"context"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// usages are how each verb is said, and where that is written.
var usages = [...]struct{ verb, usage, source string }{
	{"EHLO", "EHLO domain-or-address-literal", "RFC 5321 4.1.1.1"},
	{"HELO", "HELO domain", "RFC 5321 4.1.1.1"},
	{"LHLO", "LHLO domain-or-address-literal, over LMTP", "RFC 2033 4.1"},
	{"MAIL", "MAIL FROM:<address> parameters, or MAIL FROM:<>", "RFC 5321 4.1.1.2"},
	{"RCPT", "RCPT TO:<address> parameters", "RFC 5321 4.1.1.3"},
	{"DATA", "DATA", "RFC 5321 4.1.1.4"},
	{"BDAT", "BDAT octets, or BDAT octets LAST", "RFC 3030 2"},
	{"RSET", "RSET", "RFC 5321 4.1.1.5"},
	{"NOOP", "NOOP", "RFC 5321 4.1.1.9"},
	{"VRFY", "VRFY name-or-address", "RFC 5321 4.1.1.6"},
	{"EXPN", "EXPN name-or-address", "RFC 5321 4.1.1.7"},
	{"HELP", "HELP, or HELP command", "RFC 5321 4.1.1.8"},
	{"QUIT", "QUIT", "RFC 5321 4.1.1.10"},
	{"STARTTLS", "STARTTLS", "RFC 3207 4"},
	{"AUTH", "AUTH mechanism, or AUTH mechanism initial-response", "RFC 4954 4"},
	{"XCLIENT", "XCLIENT name=value, from networks that are named", "the XCLIENT of Postfix"},
	{"ETRN", "ETRN domain", "RFC 1985 5"},
}

// help answers HELP. RFC 5321 4.1.1.8: it "MAY take an argument (e.g., any command
// name) and return more specific information as a response". What is no command gets
// the list of them.
func (c *conn) help(_ context.Context, arg string) smtp.Reply {
	text := helpText
	for _, u := range usages {
		if strings.EqualFold(strings.TrimSpace(arg), u.verb) {
			text = "Say: " + u.usage + "\nSee " + u.source
		}
	}
	if c.server.Software != "" {
		text = "This is " + c.server.Software + "\n" + text
	}
	return smtp.Reply{Code: 214, Status: smtp.Status{Class: 2, Subject: 0, Detail: 0}, Text: text}
}

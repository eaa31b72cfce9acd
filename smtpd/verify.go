package smtpd

import (
	"context"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// vrfy answers VRFY (RFC 5321 4.1.1.6).
func (c *conn) vrfy(ctx context.Context, arg string) smtp.Reply {
	v, ok := as[Verifier](c.session)
	if !ok {
		return smtp.Reply{Code: 252, Status: smtp.Status{Class: 2, Subject: 5, Detail: 0},
			Text: "Cannot VRFY user, but will accept message and attempt delivery"}
	}
	return c.ask(ctx, arg, v.Verify)
}

// expn answers EXPN (RFC 5321 4.1.1.7).
func (c *conn) expn(ctx context.Context, arg string) smtp.Reply {
	e, ok := as[Expander](c.session)
	if !ok {
		return *no(502, 5, 1, "Command not implemented")
	}
	return c.ask(ctx, arg, e.Expand)
}

// ask takes SMTPUTF8 from the end of an argument. RFC 6531 3.7.4.2: with VRFY and
// EXPN it "enables UTF-8 replies for that command only". One that EHLO has not
// offered yet is taken too, for both may come before EHLO.
func (c *conn) ask(ctx context.Context, arg string, answer func(ctx context.Context, what string, utf8 bool) smtp.Reply) smtp.Reply {
	what, wide := arg, false
	if i := strings.LastIndexByte(arg, ' '); i > 0 && strings.EqualFold(arg[i+1:], "SMTPUTF8") {
		what, wide = strings.TrimRight(arg[:i], " "), true
	}
	r := final(answer(ctx, what, wide))
	c.utf8 = wide
	return r
}

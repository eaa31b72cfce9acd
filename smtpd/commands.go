package smtpd

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A verb is one row of the table of commands.
type verb struct {
	name string
	in   phases // where it is allowed
	arg  argRule
	// group: the reply may wait for the replies to the commands after it.
	// RFC 2920 3.2 allows it for RSET, MAIL and RCPT and forbids it for others.
	group bool
	// resets: it ends a message of which only some chunks have come.
	resets bool
	// run does the work, takes note in the state, and returns the reply. A nil run
	// is a verb that is known and not implemented.
	run func(c *conn, ctx context.Context, arg string) smtp.Reply
}

type phases uint8

func in(list ...phase) (set phases) {
	for _, p := range list {
		set |= 1 << p
	}
	return set
}

func (set phases) has(p phase) bool { return set&(1<<p) != 0 }

type argRule uint8

const (
	mayArg argRule = iota
	noArg
	needsArg
)

// Where most verbs are allowed. RFC 5321 4.1.4: "The NOOP, HELP, EXPN, VRFY, and
// RSET commands can be used at any time during a session, or without previously
// initializing a session."
var (
	anyTime = in(greeted, ready, mailing, rcpting, spoilt)
	amid    = anyTime | in(chunking)
	ever    = amid | in(refused)
	inMail  = in(mailing, rcpting)
	between = in(greeted, ready)
)

// lookup returns the row of a verb, or nil. The verb is in upper case. No part
// of a name and no name with something after it will do.
func lookup(name string) *verb {
	for i := range verbs {
		if verbs[i].name == name {
			return &verbs[i]
		}
	}
	return nil
}

// verbs are the commands that this server knows.
var verbs = [...]verb{
	{name: "EHLO", in: amid, arg: needsArg, resets: true, run: (*conn).ehlo},
	{name: "HELO", in: amid, arg: needsArg, resets: true, run: (*conn).helo},
	{name: "LHLO", in: amid, arg: needsArg, resets: true, run: (*conn).ehlo},
	{name: "MAIL", in: in(ready), arg: needsArg, group: true, run: (*conn).mail},
	{name: "RCPT", in: inMail, arg: needsArg, group: true, run: (*conn).rcpt},
	{name: "DATA", in: in(rcpting), arg: noArg, run: (*conn).data},
	{name: "BDAT", in: in(rcpting, chunking, spoilt), arg: mayArg, run: (*conn).bdat},
	{name: "RSET", in: amid, arg: noArg, group: true, resets: true, run: (*conn).rset},
	{name: "NOOP", in: amid, arg: mayArg, run: (*conn).noop},
	{name: "VRFY", in: anyTime, arg: needsArg, run: (*conn).vrfy},
	{name: "EXPN", in: anyTime, arg: needsArg, run: (*conn).expn},
	{name: "HELP", in: amid, arg: mayArg, run: (*conn).help},
	{name: "QUIT", in: ever, arg: noArg, resets: true, run: (*conn).quit},
	{name: "STARTTLS", in: between, arg: noArg, run: (*conn).startTLS},
	{name: "AUTH", in: in(ready), arg: needsArg, run: (*conn).auth},
	{name: "XCLIENT", in: between, arg: needsArg, run: (*conn).xclient},
	{name: "ETRN", in: in(ready), arg: needsArg, run: (*conn).turn},

	// RFC 5321 4.2.4: "502 SHOULD be used when the command is actually recognized
	// by the SMTP server, but not implemented."
	{name: "TURN"}, {name: "SEND"}, {name: "SOML"}, {name: "SAML"}, // RFC 821
	{name: "ATRN"}, {name: "BURL"},
}

// helpText names the verbs that are implemented; a test compares it with verbs.
const helpText = "Commands: EHLO HELO LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY EXPN HELP QUIT STARTTLS AUTH XCLIENT ETRN\nSee RFC 5321"

// isHTTP reports whether a verb is a method of HTTP. A web browser that was led
// to send a form here, with commands in its body, gets no further than that.
func isHTTP(verb string) bool {
	switch verb {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE":
		return true
	}
	return false
}

func (c *conn) ehlo(ctx context.Context, arg string) smtp.Reply { return c.hello(ctx, arg, true) }
func (c *conn) helo(ctx context.Context, arg string) smtp.Reply { return c.hello(ctx, arg, false) }

func (c *conn) hello(ctx context.Context, arg string, esmtp bool) smtp.Reply {
	name := helloName(arg)
	if name == "" {
		return *no(501, 5, 4, "Say who you are: EHLO, a space, and your host name")
	}
	said, asESMTP := name, esmtp
	if c.told != nil && c.told.hello != "" {
		said = c.told.hello
	}
	if c.told != nil && c.told.proto != "" {
		asESMTP = c.told.proto == "ESMTP"
	}
	r, ext := c.session.Hello(ctx, said, asESMTP), smtp.Extensions(0)
	if r.IsZero() || r.Positive() {
		// RFC 2034 4: no status in "any response to HELO or EHLO".
		r = smtp.Reply{Code: 250, Text: c.server.hostname() + " greets " + name}
		if esmtp {
			offer := c.offer()
			ext = c.offers(offer)
			r.Text += "\n" + c.keywords(ext, offer)
		}
	} else {
		r = final(r)
	}
	wasOpen := c.state.open()
	c.state.hello(ext, r)
	if wasOpen && !c.state.open() {
		c.session.Reset()
	}
	return r
}

// helloName makes the argument of EHLO safe to write down. RFC 5321 4.1.1.1: it
// "is probably wise for servers to be prepared" for words after the name. Names
// with an underscore and worse come from honest clients, and RFC 5321 4.1.4
// forbids to refuse mail for a name that proves nothing; so nothing is refused,
// and what is no character of a domain or literal becomes "?".
func helloName(arg string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, " "), " ")
	name = name[:min(len(name), smtp.DomainMax)]
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("-._:[]", r):
			return r
		}
		return '?'
	}, name)
}

func (c *conn) mail(ctx context.Context, arg string) smtp.Reply {
	from, p, bad := smtp.ParseMail(arg, c.state.ext)
	var r smtp.Reply
	switch limit := c.server.MaxSize; {
	case bad != nil:
		r = *bad
	case limit > 0 && p.Size > limit:
		// RFC 1870 6.1: "If the indicated size is larger than the server's fixed
		// maximum message size, the server responds with code "552"".
		r = tooLarge(limit)
	case p.By.Mode != 0 || p.Hold != (smtp.Hold{}) || p.Solicit != "":
		if bad = c.offer().within(p, time.Now()); bad != nil {
			r = *bad
			break
		}
		fallthrough
	default:
		r = final(c.session.Mail(ctx, from, p))
	}
	c.state.mail(p, r, c.server.maxRcpts()+1)
	return r
}

func (c *conn) rcpt(ctx context.Context, arg string) smtp.Reply {
	to, p, bad := smtp.ParseRcpt(arg, c.state.rcptExt())
	if bad != nil {
		return *bad
	}
	if c.state.rcpts >= c.server.maxRcpts() {
		// RFC 5321 4.5.3.1.10: "The correct reply code for this condition is 452."
		return smtp.Reply{Code: 452, Status: smtp.Status{Class: 4, Subject: 5, Detail: 3}, Text: "Too many recipients, send the others in another transaction"}
	}
	r := final(c.session.Rcpt(ctx, to, p))
	c.state.rcpt(r)
	c.utf8 = c.state.utf8 && (r.Code == 251 || r.Code == 551) // RFC 6531 3.7.4.1
	return r
}

func (c *conn) rset(context.Context, string) smtp.Reply {
	if c.state.open() {
		c.session.Reset()
	}
	c.state.reset()
	return smtp.OK
}

func (c *conn) noop(context.Context, string) smtp.Reply { return smtp.OK }

func (c *conn) quit(context.Context, string) smtp.Reply {
	c.quitting = true
	return smtp.Reply{Code: 221, Status: smtp.Status{Class: 2, Subject: 0, Detail: 0}, Text: c.server.hostname() + " closing connection"}
}

// final makes a reply of the program one that ends a command: a 3yz would leave
// the client waiting to send, so it is 451 like any other that nobody meant. An
// enhanced status is added where none was given, because RFC 2034 4 says that
// they "must appear in all 2xx, 4xx, and 5xx response lines".
func final(r smtp.Reply) smtp.Reply {
	if r.Intermediate() {
		r = smtp.Reply{}
	}
	r = r.Normal()
	if r.Status.IsZero() {
		r.Status.Class = uint8(r.Code / 100)
	}
	if r.Text == "" && r.Positive() {
		r.Text = "OK"
	}
	return r
}

func tooLarge(limit int64) smtp.Reply {
	return *no(552, 3, 4, "Message size exceeds the limit of "+strconv.FormatInt(limit, 10)+" octets")
}

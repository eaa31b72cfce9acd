package smtpd

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// authRounds is how many challenges an exchange may have.
const authRounds = 16

// authTooLong answers a line of an authentication over authMax.
var authTooLong = no(500, 5, 6, "The line of the authentication is too long")

// mechanisms are the names that the session can authenticate by.
func (c *conn) mechanisms() []string {
	if a, ok := as[Authenticator](c.session); ok {
		return a.Mechanisms()
	}
	return nil
}

// isAuth reports whether a line that has only begun is an AUTH command.
func (c *conn) isAuth(begun []byte) bool {
	const verb = "AUTH "
	return len(begun) > len(verb) && bytes.EqualFold(begun[:len(verb)], []byte(verb)) && c.state.ext.Has(smtp.ExtAuth)
}

// auth answers AUTH (RFC 4954 4).
func (c *conn) auth(ctx context.Context, arg string) smtp.Reply {
	names := c.mechanisms()
	switch {
	case len(names) == 0:
		return *no(502, 5, 1, "Command not implemented")
	case c.client.TLS == nil:
		return smtp.Reply{Code: 538, Status: smtp.Status{Class: 5, Subject: 7, Detail: 11}, Text: "Authentication needs TLS: say STARTTLS first"}
	case !c.state.ext.Has(smtp.ExtAuth):
		return *no(503, 5, 1, "Say EHLO first")
	case c.state.authed:
		// "After a successful AUTH command completes, a server MUST reject any
		// further AUTH commands with a 503 reply."
		return *no(503, 5, 1, "You have authenticated already")
	}
	name, initial, given := strings.Cut(arg, " ")
	if name = strings.ToUpper(name); !slices.Contains(names, name) {
		return *no(504, 5, 4, "That mechanism is not known here")
	}
	var response []byte // nil: none was given
	if initial == "=" {
		response = []byte{}
	} else if given {
		var ok bool
		if response, ok = smtp.DecodeSASL(initial); !ok {
			return *no(501, 5, 2, "That is no base64")
		}
	}
	a, _ := as[Authenticator](c.session)
	server, r := a.Auth(ctx, name)
	if server != nil {
		r = c.exchange(server, response)
	}
	if server == nil && r.Positive() {
		r = smtp.Reply{}
	}
	r = authFinal(r)
	c.state.auth(r)
	return r
}

// exchange carries challenges and responses until the mechanism is done.
func (c *conn) exchange(server smtp.SASLServer, response []byte) smtp.Reply {
	for range authRounds {
		challenge, done, r := server.Next(response)
		if done {
			return r
		}
		// "In SMTP, a server challenge that contains no data is defined as a 334 reply
		// with no text part. Note that there is still a space following the reply
		// code". It is one line, however long.
		c.out = append(append(append(c.out, "334 "...), smtp.EncodeSASL(challenge)...), "\r\n"...)
		line, err := c.readLine(authMax)
		switch {
		case err == errAuthTooLong:
			return *authTooLong
		case err != nil:
			_ = c.die(err)
			return smtp.Reply{}
		case string(line) == "*":
			// "If the server receives such a response, it MUST reject the AUTH command by
			// sending a 501 reply."
			return smtp.Reply{Code: 501, Status: smtp.Status{Class: 5, Subject: 7, Detail: 0}, Text: "Authentication cancelled"}
		}
		var ok bool
		if response, ok = smtp.DecodeSASL(string(line)); !ok {
			return *no(501, 5, 2, "That is no base64")
		}
	}
	return smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "Too many steps of authentication"}
}

// authFinal makes a reply one that ends AUTH: RFC 4954 4: "Should the client
// successfully complete the exchange, the SMTP server issues a 235 reply."
func authFinal(r smtp.Reply) smtp.Reply {
	switch {
	case r.IsZero() || r.Intermediate():
		return smtp.Reply{Code: 454, Status: smtp.Status{Class: 4, Subject: 7, Detail: 0}, Text: "Temporary authentication failure"}
	case r.Positive() && r.Code != 235:
		return smtp.Reply{Code: 235, Status: smtp.Status{Class: 2, Subject: 7, Detail: 0}, Text: "Authentication successful"}
	}
	return final(r)
}

package smtpc

import (
	"fmt"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// A step is one command of the envelope.
type step struct {
	stage Stage
	line  string // without CRLF
	rcpt  int    // of StageRcpt
}

// steps returns the commands of a transaction, for this peer.
func (c *Conn) steps(t Transaction) ([]step, error) {
	p, err := c.mailParams(t)
	if err != nil {
		return nil, err
	}
	var steps []step
	if c.dirty {
		steps = append(steps, step{stage: StageReset, line: "RSET"})
	}
	steps = append(steps, step{stage: StageMail, line: line(smtp.AppendMail(nil, t.From, p))})
	for i, r := range t.Rcpts {
		if r.Params, err = c.rcptParams(r.Params, p.UTF8); err != nil {
			return nil, err
		}
		steps = append(steps, step{stage: StageRcpt, line: line(smtp.AppendRcpt(nil, r.To, r.Params)), rcpt: i})
	}
	for _, s := range steps {
		if strings.ContainsFunc(s.line, isControl) {
			return nil, fmt.Errorf("smtpc: a control character in %q", s.line)
		}
	}
	if c.chunked(p, t.Params.Size) {
		return steps, nil
	}
	return append(steps, step{stage: StageData, line: "DATA"}), nil
}

// mailParams are the parameters of MAIL that this peer understands.
func (c *Conn) mailParams(t Transaction) (smtp.MailParams, error) {
	p := t.Params
	for _, path := range append([]smtp.Path{t.From}, paths(t.Rcpts)...) {
		p.UTF8 = p.UTF8 || !path.IsASCII()
	}
	if p.UTF8 && !c.has("SMTPUTF8") {
		return p, &NeedError{Ext: "SMTPUTF8"}
	}
	if err := c.bodyParam(&p); err != nil {
		return p, err
	}
	if err := c.sizeParam(&p); err != nil {
		return p, err
	}
	if !c.has("DSN") {
		p.Ret, p.EnvID = smtp.RetUnset, ""
	}
	p.Auth = c.authParam(p.Auth)
	if !c.has("DELIVERBY") {
		// RFC 2852 4.1.4.1: "A message for which a by-mode of "R" was specified MUST NOT
		// be relayed to a SMTP server which does not support the Deliver By SMTP
		// service extension."
		if p.By.Mode == smtp.ByReturn && !c.lmtp {
			return p, &NeedError{Ext: "DELIVERBY"}
		}
		p.By = smtp.DeliverBy{}
	}
	if p.Hold != (smtp.Hold{}) && !c.has("FUTURERELEASE") {
		return p, &NeedError{Ext: "FUTURERELEASE"}
	}
	if !c.has("MT-PRIORITY") {
		p.Priority = 0 // RFC 6710 4.3
	}
	if !c.has("NO-SOLICITING") {
		p.Solicit = ""
	}
	return p, nil
}

func (c *Conn) has(ext string) bool {
	_, ok := c.Ext(ext)
	return ok
}

// bodyParam leaves BODY as the peer takes it.
func (c *Conn) bodyParam(p *smtp.MailParams) error {
	switch {
	case p.Body == smtp.BodyBinaryMIME && !(c.has("BINARYMIME") && c.has("CHUNKING")):
		// RFC 3030 3: to such a peer "the sender-SMTP MUST NOT, under any circumstances,
		// send binary data".
		return &NeedError{Ext: "BINARYMIME"}
	case p.Body == smtp.Body8BitMIME && !c.has("8BITMIME"):
		// RFC 6152 3: to such a peer the client "must not, under any circumstances,
		// attempt to transfer a content that contains characters outside of the
		// US-ASCII octet range".
		return &NeedError{Ext: "8BITMIME"}
	case p.Body == smtp.Body7Bit && !c.has("8BITMIME"):
		p.Body = ""
	}
	return nil
}

// sizeParam leaves SIZE as the peer takes it, and finds what it will not take.
func (c *Conn) sizeParam(p *smtp.MailParams) error {
	params, ok := c.Ext("SIZE")
	if !ok {
		p.Size = 0
		return nil
	}
	if limit, ok := smtp.ParseSizeLimit(params); ok && limit > 0 && p.Size > limit {
		return &SizeError{Limit: limit}
	}
	return nil
}

// authParam is AUTH= for this peer. RFC 4954 5: where nobody is known to have
// submitted the message, a client "MUST supply the AUTH=<> parameter when relaying
// the message to any server which it has authenticated to".
func (c *Conn) authParam(who string) string {
	switch {
	case !c.has("AUTH"):
		return ""
	case who == "" && c.authed:
		return "<>"
	}
	return who
}

// rcptParams are the parameters of RCPT that this peer understands.
func (c *Conn) rcptParams(p smtp.RcptParams, utf8 bool) (smtp.RcptParams, error) {
	if !c.has("DSN") {
		p.Notify, p.ORcpt = 0, ""
	}
	if !utf8 {
		p.ORcpt = asciiORcpt(p.ORcpt)
	}
	if p.RRVS != (smtp.RRVS{}) && !c.has("RRVS") {
		// RFC 7293 5.1.1: where the action "was not specified or is "R" (reject), the MTA
		// handling the message MUST reject the message".
		if !p.RRVS.Continue && !c.lmtp {
			return p, &NeedError{Ext: "RRVS"}
		}
		p.RRVS = smtp.RRVS{}
	}
	return p, nil
}

// asciiORcpt is an ORCPT of the type utf-8 in the form for those who do not speak
// SMTPUTF8. RFC 6533 3: "When sending data to an SMTP server that does not advertise
// SMTPUTF8, then the EmbeddedUnicodeChar syntax MUST be used instead of UTF-8."
func asciiORcpt(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r > '~' }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r <= '~' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%X}`, r)
		}
	}
	return b.String()
}

func paths(rcpts []Rcpt) []smtp.Path {
	list := make([]smtp.Path, len(rcpts))
	for i, r := range rcpts {
		list[i] = r.To
	}
	return list
}

func line(b []byte) string { return strings.TrimSuffix(string(b), "\r\n") }

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

package smtpc

import (
	"fmt"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// A step is one command of the envelope.
type step struct {
	stage Stage
	end   int // of its line in Conn.lines
	rcpt  int // of StageRcpt
}

// plan fills Conn.steps and Conn.lines with the commands of a transaction, for
// this peer.
func (c *Conn) plan(t *Transaction) error {
	p, err := c.mailParams(t)
	if err != nil {
		return err
	}
	c.steps, c.lines = c.steps[:0], c.lines[:0]
	if c.dirty {
		c.lines = append(c.lines, "RSET\r\n"...)
		c.step(StageReset, 0)
	}
	c.lines = smtp.AppendMail(c.lines, t.From, p)
	c.step(StageMail, 0)
	for i := range t.Rcpts {
		r, err := c.rcptParams(t.Rcpts[i].Params, p.UTF8)
		if err != nil {
			return err
		}
		c.lines = smtp.AppendRcpt(c.lines, t.Rcpts[i].To, r)
		c.step(StageRcpt, i)
	}
	start := 0
	for _, s := range c.steps {
		if line := c.lines[start : s.end-2]; hasControl(line) {
			return fmt.Errorf("smtpc: a control character in %q", line)
		}
		start = s.end
	}
	if !c.chunked(p, t.Params.Size) {
		c.lines = append(c.lines, "DATA\r\n"...)
		c.step(StageData, 0)
	}
	return nil
}

// step takes note of a line that was just added.
func (c *Conn) step(s Stage, rcpt int) {
	c.steps = append(c.steps, step{stage: s, end: len(c.lines), rcpt: rcpt})
}

// mailParams are the parameters of MAIL that this peer understands.
func (c *Conn) mailParams(t *Transaction) (smtp.MailParams, error) {
	p := t.Params
	p.UTF8 = p.UTF8 || !t.From.IsASCII()
	for i := range t.Rcpts {
		p.UTF8 = p.UTF8 || !t.Rcpts[i].To.IsASCII()
	}
	if p.UTF8 && !c.has(smtp.ExtSMTPUTF8) {
		return p, &NeedError{Ext: "SMTPUTF8"}
	}
	if err := c.bodyParam(&p); err != nil {
		return p, err
	}
	if err := c.sizeParam(&p); err != nil {
		return p, err
	}
	if !c.has(smtp.ExtDSN) {
		p.Ret, p.EnvID = smtp.RetUnset, ""
	}
	p.Auth = c.authParam(p.Auth)
	if !c.has(smtp.ExtDeliverBy) {
		// RFC 2852 4.1.4.1: "A message for which a by-mode of "R" was specified MUST NOT
		// be relayed to a SMTP server which does not support the Deliver By SMTP
		// service extension."
		if p.By.Mode == smtp.ByReturn && !c.lmtp {
			return p, &NeedError{Ext: "DELIVERBY"}
		}
		p.By = smtp.DeliverBy{}
	}
	if err := c.holdParam(p.Hold); err != nil {
		return p, err
	}
	if !c.has(smtp.ExtMTPriority) {
		p.Priority = 0 // RFC 6710 4.3
	}
	if !c.has(smtp.ExtNoSoliciting) {
		p.Solicit = ""
	}
	return p, nil
}

func (c *Conn) has(ext smtp.Extensions) bool { return c.offers.Has(ext) }

// bodyParam leaves BODY as the peer takes it.
func (c *Conn) bodyParam(p *smtp.MailParams) error {
	switch {
	case p.Body == smtp.BodyBinaryMIME && !c.has(smtp.ExtBinaryMIME|smtp.ExtChunking):
		// RFC 3030 3: to such a peer "the sender-SMTP MUST NOT, under any circumstances,
		// send binary data".
		return &NeedError{Ext: "BINARYMIME"}
	case p.Body == smtp.Body8BitMIME && !c.has(smtp.Ext8BitMIME):
		// RFC 6152 3: to such a peer the client "must not, under any circumstances,
		// attempt to transfer a content that contains characters outside of the
		// US-ASCII octet range".
		return &NeedError{Ext: "8BITMIME"}
	case p.Body == smtp.Body7Bit && !c.has(smtp.Ext8BitMIME):
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

// holdParam finds what the peer will not hold. RFC 4865 4.1: the client "MUST ensure
// that the future-release-interval is less than or equal to the
// max-future-release-interval advertised", and the same of the date.
func (c *Conn) holdParam(h smtp.Hold) error {
	if h == (smtp.Hold{}) {
		return nil
	}
	params, _ := c.Ext("FUTURERELEASE")
	most, ok := smtp.ParseFutureRelease(params)
	switch {
	case !ok:
		return &NeedError{Ext: "FUTURERELEASE"}
	case h.For > most.Max, h.For == 0 && h.Until.After(most.Until):
		return &NeedError{Ext: "FUTURERELEASE for so long"}
	}
	return nil
}

// authParam is AUTH= for this peer. RFC 4954 5: where nobody is known to have
// submitted the message, a client "MUST supply the AUTH=<> parameter when relaying
// the message to any server which it has authenticated to".
func (c *Conn) authParam(who string) string {
	switch {
	case !c.has(smtp.ExtAuth):
		return ""
	case who != "" && who != "<>":
		return who
	case c.authed:
		return "<>"
	}
	return ""
}

// rcptParams are the parameters of RCPT that this peer understands.
func (c *Conn) rcptParams(p smtp.RcptParams, utf8 bool) (smtp.RcptParams, error) {
	if !c.has(smtp.ExtDSN) {
		p.Notify, p.ORcpt = 0, ""
	}
	if !utf8 {
		p.ORcpt = asciiORcpt(p.ORcpt)
	}
	if p.RRVS != (smtp.RRVS{}) && !c.has(smtp.ExtRRVS) {
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

func hasControl(line []byte) bool {
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			return true
		}
	}
	return false
}

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
	_, dsn := c.Ext("DSN")
	for i, r := range t.Rcpts {
		if !dsn {
			r.Params = smtp.RcptParams{}
		}
		steps = append(steps, step{stage: StageRcpt, line: line(smtp.AppendRcpt(nil, r.To, r.Params)), rcpt: i})
	}
	for _, s := range steps {
		if strings.ContainsFunc(s.line, isControl) {
			return nil, fmt.Errorf("smtpc: a control character in %q", s.line)
		}
	}
	return append(steps, step{stage: StageData, line: "DATA"}), nil
}

// mailParams are the parameters of MAIL that this peer understands.
func (c *Conn) mailParams(t Transaction) (smtp.MailParams, error) {
	p := t.Params
	for _, path := range append([]smtp.Path{t.From}, paths(t.Rcpts)...) {
		p.UTF8 = p.UTF8 || !path.IsASCII()
	}
	if _, ok := c.Ext("SMTPUTF8"); p.UTF8 && !ok {
		return p, &NeedError{Ext: "SMTPUTF8"}
	}
	if _, ok := c.Ext("8BITMIME"); !ok {
		// RFC 6152 3: to such a peer the client "must not, under any circumstances,
		// attempt to transfer a content that contains characters outside of the
		// US-ASCII octet range".
		if p.Body == smtp.Body8BitMIME {
			return p, &NeedError{Ext: "8BITMIME"}
		}
		p.Body = ""
	}
	if _, ok := c.Ext("SIZE"); !ok {
		p.Size = 0
	}
	if _, ok := c.Ext("DSN"); !ok {
		p.Ret, p.EnvID = smtp.RetUnset, ""
	}
	return p, nil
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

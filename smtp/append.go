package smtp

import (
	"strconv"
	"time"
)

// AppendMail appends the MAIL command for from, with its CRLF. The parameters
// must be ones that the server offers; which are is for the client to know.
// Paths and values come from the parsers of this package, so that no CR, LF or
// space can hide in them.
func AppendMail(dst []byte, from Path, p MailParams) []byte {
	dst = append(dst, "MAIL FROM:<"...)
	dst = from.appendTo(dst)
	dst = append(dst, '>')
	if p.Size > 0 {
		dst = append(dst, " SIZE="...)
		dst = strconv.AppendInt(dst, p.Size, 10)
	}
	if p.Body != "" {
		dst = append(dst, " BODY="...)
		dst = append(dst, p.Body...)
	}
	if p.UTF8 {
		dst = append(dst, " SMTPUTF8"...)
	}
	if p.Ret != RetUnset {
		dst = append(dst, " RET="...)
		dst = append(dst, p.Ret.String()...)
	}
	if p.EnvID != "" {
		dst = append(dst, " ENVID="...)
		dst = AppendXtext(dst, p.EnvID)
	}
	if p.Auth != "" {
		dst = append(dst, " AUTH="...)
		dst = AppendXtext(dst, p.Auth)
	}
	if p.By.Mode != 0 {
		dst = append(dst, " BY="...)
		dst = append(dst, p.By.String()...)
	}
	switch {
	case p.Hold.For > 0:
		dst = append(dst, " HOLDFOR="...)
		dst = strconv.AppendInt(dst, int64(p.Hold.For/time.Second), 10)
	case !p.Hold.Until.IsZero():
		dst = append(dst, " HOLDUNTIL="...)
		dst = append(dst, FormatDateTime(p.Hold.Until)...)
	}
	if p.Priority != 0 {
		dst = append(dst, " MT-PRIORITY="...)
		dst = strconv.AppendInt(dst, int64(p.Priority), 10)
	}
	if p.Solicit != "" {
		dst = append(dst, " SOLICIT="...)
		dst = append(dst, p.Solicit...)
	}
	return append(dst, '\r', '\n')
}

// AppendRcpt appends the RCPT command for to, with its CRLF. See AppendMail.
func AppendRcpt(dst []byte, to Path, p RcptParams) []byte {
	dst = append(dst, "RCPT TO:<"...)
	dst = to.appendTo(dst)
	dst = append(dst, '>')
	if p.Notify != 0 {
		dst = append(dst, " NOTIFY="...)
		dst = append(dst, p.Notify.String()...)
	}
	if p.ORcpt != "" {
		dst = append(dst, " ORCPT="...)
		dst = append(dst, p.ORcpt...)
	}
	if !p.RRVS.Since.IsZero() {
		dst = append(dst, " RRVS="...)
		dst = append(dst, p.RRVS.String()...)
	}
	return append(dst, '\r', '\n')
}

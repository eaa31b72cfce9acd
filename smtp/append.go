package smtp

import "strconv"

// AppendMail appends the MAIL command for from, with its CRLF. The parameters
// must be ones that the server offers; which are is for the client to know.
// Paths and values come from the parsers of this package, so that no CR, LF or
// space can hide in them.
func AppendMail(dst []byte, from Path, p MailParams) []byte {
	dst = append(dst, "MAIL FROM:<"...)
	dst = append(dst, from.String()...)
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
	return append(dst, '\r', '\n')
}

// AppendRcpt appends the RCPT command for to, with its CRLF. See AppendMail.
func AppendRcpt(dst []byte, to Path, p RcptParams) []byte {
	dst = append(dst, "RCPT TO:<"...)
	dst = append(dst, to.String()...)
	dst = append(dst, '>')
	if p.Notify != 0 {
		dst = append(dst, " NOTIFY="...)
		dst = append(dst, p.Notify.String()...)
	}
	if p.ORcpt != "" {
		dst = append(dst, " ORCPT="...)
		dst = append(dst, p.ORcpt...)
	}
	return append(dst, '\r', '\n')
}

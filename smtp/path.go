package smtp

import "strings"

// A Path is a mailbox as it stands between the angle brackets of MAIL and RCPT
// (RFC 5321 4.1.2), source route stripped. The zero Path is the null path "<>".
// Both parts are kept byte for byte as they came: Local with its quotes, Domain
// in its own case. Domain is empty only in the null path and in "<postmaster>".
type Path struct {
	Local  string // dot-string or quoted-string, as it came
	Domain string // domain or address literal with its brackets, as it came
}

// IsNull reports whether p is the null path "<>".
func (p Path) IsNull() bool { return p.Local == "" && p.Domain == "" }

// String returns the mailbox without angle brackets; empty for the null path.
func (p Path) String() string {
	if p.Domain == "" {
		return p.Local
	}
	return p.Local + "@" + p.Domain
}

func (p Path) appendTo(dst []byte) []byte {
	dst = append(dst, p.Local...)
	if p.Domain != "" {
		dst = append(append(dst, '@'), p.Domain...)
	}
	return dst
}

// LocalUnquoted returns the local part that Local stands for: without quotes
// and backslashes. RFC 5321 4.1.2: "the sending system SHOULD transmit the form
// that uses the minimum quoting possible", and both forms are the same mailbox.
func (p Path) LocalUnquoted() string {
	if len(p.Local) < 2 || p.Local[0] != '"' {
		return p.Local
	}
	var b strings.Builder
	s := p.Local[1 : len(p.Local)-1]
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// IsASCII reports whether p can be said without SMTPUTF8 (RFC 6531).
func (p Path) IsASCII() bool {
	for _, s := range [2]string{p.Local, p.Domain} {
		for i := 0; i < len(s); i++ {
			if s[i] >= 0x80 {
				return false
			}
		}
	}
	return true
}

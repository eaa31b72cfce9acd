package dsn

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/postrider/postrider/smtp"
)

// Widths of a line without its CRLF (RFC 5322 2.1.1).
const (
	foldWidth = 76
	lineMax   = 990 // below 998, so that a fold always fits
)

// printable replaces all that could end a line, or steer a terminal, by a
// space: what a peer said must not become a field of ours. Octets that are not
// UTF-8 become question marks. A run of spaces that is longer than a local part may
// be (RFC 5321 4.5.3.1.1) says nothing, and could fill a line: one is left.
func printable(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case r == ' ' || unicode.IsPrint(r):
			return r
		}
		return ' '
	}, s))
	if strings.Contains(s, strings.Repeat(" ", smtp.LocalMax+1)) {
		return strings.Join(strings.Fields(s), " ")
	}
	return s
}

// ascii is printable with a question mark for each character outside ASCII.
func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r > 0x7e {
			return '?'
		}
		return r
	}, printable(s))
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// field writes one header field, folded before spaces where it is too wide. A
// word that is wider than a line may be is broken. Value is printable.
func field(b *strings.Builder, name, value string) {
	rest := strings.TrimRight(name+": "+value, " ")
	for len(rest) > foldWidth {
		at := foldAt(rest)
		if at < 0 {
			break
		}
		b.WriteString(rest[:at])
		b.WriteString("\r\n")
		if rest[at] != ' ' {
			b.WriteByte(' ')
		}
		rest = rest[at:]
	}
	b.WriteString(rest)
	b.WriteString("\r\n")
}

// foldAt finds where to break a line: before the last space that fits, else
// before the first space, else, in what is longer than a line may be, anywhere.
// The line before the break never ends in a space, nor consists of spaces.
func foldAt(s string) int {
	lead := len(s) - len(strings.TrimLeft(s, " "))
	best := -1
	for i := lead + 1; i < len(s) && i <= lineMax; i++ {
		if s[i] != ' ' || s[i-1] == ' ' {
			continue
		}
		if i > foldWidth && best >= 0 {
			break
		}
		best = i
		if i > foldWidth {
			break
		}
	}
	if best < 0 && len(s) > lineMax {
		best = lineMax
		for !utf8.RuneStart(s[best]) {
			best--
		}
	}
	return best
}

// finalRecipient is the value of Final-Recipient: RFC 3464 2.3.2, and for an
// address that is not ASCII a form of RFC 6533 3: utf-8-address where that can be
// read, else the 7-bit one.
func finalRecipient(p smtp.Path, global bool) string {
	if p.IsASCII() {
		return "rfc822; " + ascii(p.String())
	}
	if global {
		return "utf-8; " + printable(p.String())
	}
	return "utf-8; " + unitext(p.String())
}

// originalRecipient is the value of Original-Recipient. RFC 3464 2.3.1: "This
// address is the same as that provided by the sender", so the xtext is undone,
// unless that brings forth what a field cannot hold. RFC 6533 4.1: where UTF-8 can be
// read, the escapes of a utf-8 address are undone.
func originalRecipient(orcpt string, global bool) string {
	kind, x, _ := strings.Cut(orcpt, ";")
	if full := fromUnitext(x); strings.EqualFold(kind, "utf-8") && global && full == printable(full) {
		return ascii(kind) + "; " + full
	}
	if strings.EqualFold(kind, "utf-8") {
		return ascii(kind) + "; " + unitext(fromUnitext(x))
	}
	if d, ok := smtp.DecodeXtext(x); ok && d == ascii(d) {
		x = d
	}
	return ascii(kind) + "; " + ascii(x)
}

// unitext writes s as utf-8-addr-xtext (RFC 6533 3).
func unitext(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r > ' ' && r < 0x7f && r != '\\' && r != '+' && r != '=' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%02X}`, r)
		}
	}
	return b.String()
}

// fromUnitext undoes unitext. What is not in that form stays as it is.
func fromUnitext(s string) string {
	var b strings.Builder
	for {
		at := strings.Index(s, `\x{`)
		if at < 0 {
			break
		}
		end := strings.IndexByte(s[at:], '}')
		if end < 0 {
			break
		}
		n, err := strconv.ParseUint(s[at+3:at+end], 16, 21)
		if err != nil || !utf8.ValidRune(rune(n)) {
			b.WriteString(s[:at+3])
			s = s[at+3:]
			continue
		}
		b.WriteString(s[:at])
		b.WriteRune(rune(n))
		s = s[at+end+1:]
	}
	b.WriteString(s)
	return b.String()
}

package smtp

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// ParsePath parses a mailbox as it stands between the angle brackets, without
// them: the grammar of RFC 5321 4.1.2 with the address literals of 4.1.3 and
// the UTF-8 of RFC 6531 3.3. It serves the protocol and what people write. The
// empty string is the null path, and "postmaster" in any case the one mailbox
// without a domain (RFC 5321 4.1.1.3). A source route is stripped: RFC 5321
// Appendix C: it "MUST BE accepted, SHOULD NOT be generated, and SHOULD be
// ignored". The error is a sentence for the one who wrote s, and names no
// octet of it. ParsePath(p.String()) is p for every p that it returned.
func ParsePath(s string) (Path, error) {
	if s == "" {
		return Path{}, nil
	}
	p, rest, err := scanPath(s)
	if err != nil {
		return Path{}, err
	}
	if rest != "" {
		return Path{}, errors.New("something follows the end of the address")
	}
	return p, nil
}

// Literal returns the address of a domain that is an IPv4 or IPv6 address
// literal.
func (p Path) Literal() (netip.Addr, bool) {
	d := p.Domain
	if len(d) < 2 || d[0] != '[' {
		return netip.Addr{}, false
	}
	return parseLiteral(d[1 : len(d)-1])
}

// MinimalLocal returns the local part in "the form that uses the minimum
// quoting possible" (RFC 5321 4.1.2). Two paths of one domain are the same
// mailbox if it is the same.
func (p Path) MinimalLocal() string { return QuoteLocal(p.LocalUnquoted()) }

// QuoteLocal returns the local part that stands for the name s: s itself where
// it is a dot-string, and a quoted-string otherwise. A name with a control
// character has no such form, and what QuoteLocal returns for it is refused by
// ParsePath.
func QuoteLocal(s string) string {
	if _, rest, err := scanDotString(s); err == nil && rest == "" {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

// scanPath takes a mailbox, with or without a source route, from the front of
// s. It goes by the grammar and not by the next ">", which may stand in a
// quoted-string and in an address literal.
func scanPath(s string) (p Path, rest string, err error) {
	rest = s
	if strings.HasPrefix(rest, "@") {
		if rest, err = scanRoute(rest); err != nil {
			return Path{}, s, err
		}
	}
	if strings.HasPrefix(rest, `"`) {
		p.Local, rest, err = scanQuoted(rest)
	} else {
		p.Local, rest, err = scanDotString(rest)
	}
	if err != nil {
		return Path{}, s, err
	}
	if len(p.Local) > LocalMax {
		return Path{}, s, errors.New("the local part is longer than 64 octets")
	}
	if !strings.HasPrefix(rest, "@") {
		if strings.EqualFold(p.Local, "postmaster") && len(rest) == len(s)-len(p.Local) {
			return p, rest, nil
		}
		return Path{}, s, errors.New("the address needs an @ and a domain after the local part")
	}
	rest = rest[1:]
	if strings.HasPrefix(rest, "[") {
		p.Domain, rest, err = scanLiteral(rest)
	} else {
		p.Domain, rest, err = scanDomain(rest)
	}
	if err != nil {
		return Path{}, s, err
	}
	// RFC 5321 4.5.3.1.3: "256 octets (including the punctuation and element
	// separators)", so with the angle brackets that are not in s.
	if len(s)-len(rest)+len("<>") > PathMax {
		return Path{}, s, errors.New("the address is longer than 256 octets")
	}
	return p, rest, nil
}

// scanRoute takes a source route with its colon: A-d-l of RFC 5321 4.1.2.
func scanRoute(s string) (rest string, err error) {
	rest = s
	for {
		if !strings.HasPrefix(rest, "@") {
			return s, errors.New("the source route is no list of @domains")
		}
		if _, rest, err = scanDomain(rest[1:]); err != nil {
			return s, err
		}
		switch {
		case strings.HasPrefix(rest, ":"):
			return rest[1:], nil
		case strings.HasPrefix(rest, ","):
			rest = rest[1:]
		default:
			return s, errors.New("the source route does not end in a colon")
		}
	}
}

// scanDotString takes Atom *("." Atom).
func scanDotString(s string) (local, rest string, err error) {
	i, atom := 0, 0 // atom: where the present atom began
	for i < len(s) {
		if s[i] == '.' {
			if i == atom {
				return "", s, errors.New("the local part has a dot at its start or two in a row")
			}
			i++
			atom = i
			continue
		}
		n := atextLen(s[i:])
		if n == 0 {
			break
		}
		i += n
	}
	if i == 0 {
		return "", s, errors.New("the local part is empty or begins with a character that needs quotes")
	}
	if i == atom {
		return "", s, errors.New("the local part ends in a dot")
	}
	return s[:i], s[i:], nil
}

// atextLen returns the length of the atext at the front of s, or 0.
// RFC 6531 3.3: atext gains UTF-8, which "MUST NOT contain any of the ASCII
// graphics or control characters"; we hold it to mean the controls of U+0080
// to U+009F too, which no terminal and no log should meet.
func atextLen(s string) int {
	c := s[0]
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return 1
	case c >= utf8.RuneSelf:
		return utf8Len(s)
	case strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0:
		return 1
	}
	return 0
}

// utf8Len returns the length of the character over U+009F at the front of s, or
// 0 if s does not begin with one that is validly encoded.
func utf8Len(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if r < 0xA0 || (r == utf8.RuneError && n == 1) {
		return 0
	}
	return n
}

// scanQuoted takes a Quoted-string with its quotes.
func scanQuoted(s string) (local, rest string, err error) {
	for i := 1; i < len(s); {
		c := s[i]
		switch {
		case c == '"':
			return s[:i+1], s[i+1:], nil
		case c == '\\':
			// quoted-pairSMTP = %d92 %d32-126: no UTF-8 after a backslash.
			if i+1 == len(s) || s[i+1] < ' ' || s[i+1] > '~' {
				return "", s, errors.New("a backslash in the local part quotes nothing that may be quoted")
			}
			i += 2
		case c >= utf8.RuneSelf:
			n := utf8Len(s[i:])
			if n == 0 {
				return "", s, errors.New("the local part is not valid UTF-8")
			}
			i += n
		case c < ' ' || c == 0x7f:
			return "", s, errors.New("the local part holds a control character")
		default:
			i++
		}
	}
	return "", s, errors.New("the quoted local part has no closing quote")
}

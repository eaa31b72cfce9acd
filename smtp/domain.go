package smtp

import (
	"errors"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// labelMax is how many octets DNS has for a label (RFC 1035 2.3.4).
const labelMax = 63

// IsDomain reports whether s is a Domain of RFC 5321 4.1.2 or, with UTF-8, of
// RFC 6531 3.3. A literal is none, nor is a name with a dot at its end.
func IsDomain(s string) bool {
	_, rest, err := scanDomain(s)
	return err == nil && rest == ""
}

// IsLiteral reports whether s, with its brackets, is an address-literal of
// RFC 5321 4.1.3.
func IsLiteral(s string) bool {
	if !strings.HasPrefix(s, "[") {
		return false // most are asked about domains, and need no reason
	}
	_, rest, err := scanLiteral(s)
	return err == nil && rest == ""
}

// scanDomain takes sub-domain *("." sub-domain) from the front of s.
func scanDomain(s string) (domain, rest string, err error) {
	i := 0
	for {
		n, err := scanLabel(s[i:])
		if err != nil {
			return "", s, err
		}
		i += n
		if i == len(s) || s[i] != '.' {
			break
		}
		i++
	}
	if i > DomainMax {
		return "", s, errors.New("the domain is longer than 255 octets")
	}
	return s[:i], s[i:], nil
}

// scanLabel returns the length of the sub-domain at the front of s.
// RFC 5321 4.1.2: "characters outside the set of alphabetic characters, digits,
// and hyphen MUST NOT appear in domain name labels for SMTP clients or servers.
// In particular, the underscore character is not permitted."
func scanLabel(s string) (int, error) {
	i, ascii := 0, true
	for i < len(s) {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if !inULabel(r) {
				return 0, errors.New("the domain holds a character that no domain has")
			}
			ascii = false
			i += n
			continue
		}
		if c != '-' && !isAlnum(c) {
			break
		}
		i++
	}
	switch {
	case i == 0 && (s == "" || s[0] == '.' || s[0] == '>'):
		return 0, errors.New("the domain is empty, or has a dot at its end or two in a row")
	case i == 0 || i < len(s) && strings.IndexByte(".>:, ", s[i]) < 0:
		return 0, errors.New("the domain holds a character that no domain has")
	case s[0] == '-' || s[i-1] == '-':
		return 0, errors.New("a label of the domain begins or ends with a hyphen")
	case ascii && i > labelMax:
		return 0, errors.New("a label of the domain is longer than 63 octets")
	}
	return i, nil
}

// inULabel reports whether r may stand in a U-label: letters, marks and digits,
// and the characters that RFC 5892 appendix A allows in some contexts. It is
// wider than IDNA, which who looks the name up applies; it keeps out the other
// full stops, spaces and signs that pass for something they are not.
func inULabel(r rune) bool {
	if r == utf8.RuneError {
		return false
	}
	if unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r) {
		return true
	}
	switch r {
	case 0x00B7, 0x0375, 0x05F3, 0x05F4, 0x30FB, 0x200C, 0x200D:
		return true
	}
	return false
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// scanLiteral takes an address-literal with its brackets.
func scanLiteral(s string) (literal, rest string, err error) {
	end := strings.IndexByte(s, ']')
	if !strings.HasPrefix(s, "[") || end < 0 {
		return "", s, errors.New("the address literal has no closing bracket")
	}
	in := s[1:end]
	if end+1 > DomainMax {
		return "", s, errors.New("the domain is longer than 255 octets")
	}
	if _, ok := parseLiteral(in); ok {
		return s[:end+1], s[end+1:], nil
	}
	tag, content, found := strings.Cut(in, ":")
	if !found || !isTag(tag) || strings.EqualFold(tag, "IPv6") || !isDcontent(content) {
		return "", s, errors.New("the address literal is neither IPv4, nor IPv6, nor a tag and an address")
	}
	return s[:end+1], s[end+1:], nil
}

// isTag reports whether s is a Standardized-tag, which is an Ldh-str. The
// registry of tags is left to those who want to use one.
func isTag(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '-' && !isAlnum(s[i]) {
			return false
		}
	}
	return s != "" && s[len(s)-1] != '-'
}

func isDcontent(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c > '~' || c == '[' || c == '\\' || c == ']' {
			return false
		}
	}
	return s != ""
}

// parseLiteral reads the IPv4 and IPv6 forms of RFC 5321 4.1.3, without
// brackets.
func parseLiteral(s string) (netip.Addr, bool) {
	const tag = "IPv6:"
	if len(s) < len(tag) || !strings.EqualFold(s[:len(tag)], tag) {
		return parseIPv4(s)
	}
	s = s[len(tag):]
	groups := 8
	if last := strings.LastIndexByte(s, ':'); strings.IndexByte(s[last+1:], '.') >= 0 {
		v4, ok := parseIPv4(s[last+1:])
		if !ok {
			return netip.Addr{}, false
		}
		// The leading zeros that the grammar of Snum allows, netip does not.
		s = s[:last+1] + v4.String()
		groups = 6
	}
	// "The "::" represents at least 2 16-bit groups of zeros."
	if at := strings.Index(s, "::"); at >= 0 && countGroups(s) > groups-2 {
		return netip.Addr{}, false
	}
	if strings.IndexByte(s, '%') >= 0 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is6() {
		return netip.Addr{}, false
	}
	return a, true
}

// countGroups counts the hexadecimal groups of s, not its IPv4 part.
func countGroups(s string) int {
	n := 0
	for g := range strings.SplitSeq(s, ":") {
		if g != "" && strings.IndexByte(g, '.') < 0 {
			n++
		}
	}
	return n
}

// parseIPv4 reads Snum 3("." Snum): "a decimal integer value in the range 0
// through 255" of one to three digits, never octal.
func parseIPv4(s string) (netip.Addr, bool) {
	var a [4]byte
	for i := range a {
		part, rest, found := strings.Cut(s, ".")
		if found != (i < 3) || len(part) < 1 || len(part) > 3 {
			return netip.Addr{}, false
		}
		n := 0
		for j := 0; j < len(part); j++ {
			if part[j] < '0' || part[j] > '9' {
				return netip.Addr{}, false
			}
			n = 10*n + int(part[j]-'0')
		}
		if n > 255 {
			return netip.Addr{}, false
		}
		a[i], s = byte(n), rest
	}
	return netip.AddrFrom4(a), true
}

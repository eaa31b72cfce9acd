package smtp

// AppendXtext appends the xtext of s (RFC 3461 4): what is not a graphic ASCII
// character, and "+" and "=", as "+" and two upper case hexadecimal digits.
func AppendXtext(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		if c := s[i]; isXchar(c) {
			dst = append(dst, c)
		} else {
			dst = append(dst, '+', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// EncodeXtext returns the xtext of s.
func EncodeXtext(s string) string { return string(AppendXtext(nil, s)) }

// DecodeXtext returns what the xtext s stands for, and false if s is none.
func DecodeXtext(s string) (string, bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isXchar(c):
			b = append(b, c)
		case c == '+' && i+2 < len(s):
			hi, lo := upperHex(s[i+1]), upperHex(s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		default:
			return "", false
		}
	}
	return string(b), true
}

// isXchar reports whether c stands for itself: "any ASCII CHAR between "!" (33)
// and "~" (126) inclusive, except for "+" and "="" (RFC 3461 4).
func isXchar(c byte) bool { return c > ' ' && c <= '~' && c != '+' && c != '=' }

func upperHex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

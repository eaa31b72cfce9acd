package route

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Lengths of file names, in octets. File systems take 255; what a path puts
// around {user} needs some of it.
const (
	fileNameMax  = 200
	fileHashSize = 32 // hexadecimal digits: 128 bits
)

// fileName returns a name as it stands in a path: octets outside [a-z0-9._+=-]
// and a leading dot percent-encoded, so that it is one component, never hidden,
// never "." or "..". Different names have different file names. The empty name
// is "%", and of one that is too long the end is replaced by "%h" and a hash.
func fileName(name string) string {
	if name == "" {
		return "%"
	}
	const digits = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.' && i > 0, c == '_', c == '+', c == '=', c == '-':
			b.WriteByte(c)
		default:
			b.WriteString("%" + string(digits[c>>4]) + string(digits[c&15]))
		}
	}
	s := b.String()
	if len(s) <= fileNameMax {
		return s
	}
	sum := sha256.Sum256([]byte(name))
	const mark = "%h" // no octet is encoded so
	return s[:fileNameMax-len(mark)-fileHashSize] + mark + hex.EncodeToString(sum[:])[:fileHashSize]
}

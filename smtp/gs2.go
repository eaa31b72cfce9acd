package smtp

import (
	"strings"
	"unicode/utf8"
)

// A ChannelBinding is what both ends of one secure channel know of it and nobody
// in between does (RFC 5056): its type, such as "tls-exporter" (RFC 9266),
// "tls-unique" or "tls-server-end-point" (RFC 5929), and its octets.
type ChannelBinding struct {
	Type  string
	Value []byte
}

// A bindingFlag is the gs2-cbind-flag of RFC 5802 7.
type bindingFlag byte

const (
	bindingNone   bindingFlag = 'n' // the client supports no channel binding
	bindingUnused bindingFlag = 'y' // it does, and thinks that the server does not
	bindingUsed   bindingFlag = 'p' // it requires it
)

// A gs2Header begins the first message of a client in SCRAM (RFC 5802 7) and in
// OAUTHBEARER (RFC 7628 3.1):
//
//	gs2-header = gs2-cbind-flag "," [ authzid ] ","
type gs2Header struct {
	flag     bindingFlag
	binding  string // the type, with bindingUsed
	identity string // whom the client wants to act as; empty: whom it is
}

// String returns the header as it is sent.
func (h gs2Header) String() string {
	s := string(h.flag)
	if h.flag == bindingUsed {
		s += "=" + h.binding
	}
	s += ","
	if h.identity != "" {
		s += "a=" + encodeName(h.identity)
	}
	return s + ","
}

// parseGS2 reads the header, and returns what follows it. It takes only what
// String prints.
func parseGS2(message string) (h gs2Header, rest string, ok bool) {
	flag, rest, found := strings.Cut(message, ",")
	identity, rest, more := strings.Cut(rest, ",")
	if !found || !more || flag == "" {
		return h, "", false
	}
	h.flag = bindingFlag(flag[0])
	switch h.flag {
	case bindingNone, bindingUnused:
		if len(flag) != 1 {
			return h, "", false
		}
	case bindingUsed:
		if h.binding, ok = strings.CutPrefix(flag, "p="); !ok || !isBindingName(h.binding) {
			return h, "", false
		}
	default:
		return h, "", false
	}
	if identity != "" {
		name, is := strings.CutPrefix(identity, "a=")
		if h.identity, ok = decodeName(name); !is || !ok {
			return h, "", false
		}
	}
	return h, rest, true
}

// isBindingName reports whether s is a cb-name of RFC 5802 7:
// 1*(ALPHA / DIGIT / "." / "-").
func isBindingName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-')
	})
}

// encodeName writes a saslname. RFC 5802 5.1: "The characters ',' or '=' in
// usernames are sent as '=2C' and '=3D' respectively."
func encodeName(s string) string {
	return strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s)
}

// decodeName reads a saslname. RFC 5802 5.1: where a name "contains '=' not
// followed by either '2C' or '3D', then the server MUST fail the authentication".
func decodeName(s string) (string, bool) {
	if s == "" || !isSASLText(s) || strings.Contains(s, ",") {
		return "", false
	}
	var b strings.Builder
	for {
		plain, rest, more := strings.Cut(s, "=")
		b.WriteString(plain)
		switch {
		case !more:
			return b.String(), true
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", false
		}
		s = rest[2:]
	}
}

// isSASLText reports whether s is UTF-8 without NUL, which is all that a value of
// RFC 5802 7 asks for beside the commas that it ends at.
func isSASLText(s string) bool {
	return utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

package message

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Received is the trace field that a server puts on top of each message it
// takes (RFC 5321 4.4).
type Received struct {
	Hello    string     // the name the client gave in EHLO or HELO
	PTR      string     // the name DNS has for Addr; empty: not known
	Addr     netip.Addr // of the client; zero: there was no TCP connection
	Local    string     // where there was none: who on this machine gave it, such as "uid 1000"
	By       string     // our host name
	Protocol string     // SMTP, ESMTPSA, UTF8SMTP
	ID       string     // our name for the message; empty: left out
	// For is the forward-path without angle brackets, to be given only when the
	// message has exactly one recipient: RFC 5321 4.4, "If the FOR clause appears,
	// it MUST contain exactly one <path> entry", and RFC 5321 7.2 would not have
	// one recipient learn of another.
	For string
	// Priority is that of the message (RFC 6710 4.1), where it has another than 0.
	Priority int8
	TLS      string    // registered name of the cipher suite (RFC 8314 4.3); empty: in the clear
	Time     time.Time // in the zone to be shown
}

// traceSize is room for a field as most are, in octets.
const traceSize = 256

// Lengths that keep a Received field from being used to carry something else,
// in octets.
const (
	traceNameMax = 255 // of a name, RFC 5321 4.5.3.1.2
	traceForMax  = 254 // of a path without its brackets, RFC 5321 4.5.3.1.3
)

// Append appends the field, folded, with its final CRLF. Whatever the client
// said, the field stays one field: in names every octet that no host name holds
// becomes "?", and a path with control characters is left out.
func (r Received) Append(dst []byte) []byte {
	f := folder{dst: append(slices.Grow(dst, traceSize), "Received:"...), column: len("Received:")}
	var room [2*traceNameMax + 64]byte // for the word in hand
	f.word("from")
	f.octets(appendTraceName(room[:0], r.Hello))
	if info := r.appendTCPInfo(room[:0]); len(info) > 0 {
		f.octets(info)
	}
	f.fold()
	f.word("by")
	f.octets(appendTraceName(room[:0], r.By))
	f.word("with")
	f.octets(appendTraceName(room[:0], r.Protocol))
	if r.ID != "" {
		f.word("id")
		f.octets(appendTraceName(room[:0], r.ID))
	}
	if r.showFor() {
		f.fold()
		f.word("for")
		f.octets(append(append(append(room[:0], '<'), r.For...), '>'))
	}
	if r.Priority != 0 {
		f.fold()
		f.word("PRIORITY")
		f.octets(strconv.AppendInt(room[:0], int64(r.Priority), 10))
	}
	if r.TLS != "" {
		f.fold()
		f.word("tls")
		f.word(traceAtom(r.TLS))
	}
	f.dst = append(f.dst, ';')
	f.column++
	f.octets(AppendDate(room[:0], r.Time))
	return append(f.dst, "\r\n"...)
}

// appendTCPInfo appends "([192.0.2.1])" or "(name [192.0.2.1])": RFC 5321 4.4,
// "Information derived by server from TCP connection not client EHLO". Without a
// connection it is a comment that names the user.
func (r Received) appendTCPInfo(dst []byte) []byte {
	if r.Addr.IsValid() {
		dst = append(dst, '(')
		if r.PTR != "" {
			dst = append(appendTraceName(dst, strings.TrimSuffix(r.PTR, ".")), ' ')
		}
		return append(appendLiteral(dst, r.Addr), ')')
	}
	for word := range strings.FieldsSeq(r.Local) {
		if len(dst) == 0 {
			dst = append(dst, '(')
		} else {
			dst = append(dst, ' ')
		}
		dst = appendTraceName(dst, word)
	}
	if len(dst) == 0 {
		return nil
	}
	return append(dst, ')')
}

// showFor reports whether For may stand in the field. Octets over 127 need a
// message that is itself sent with SMTPUTF8 (RFC 6531 3.7.3).
func (r Received) showFor() bool {
	if r.For == "" || len(r.For) > traceForMax || !utf8.ValidString(r.For) {
		return false
	}
	for _, c := range r.For {
		if c < ' ' || 0x7f <= c && c < 0xa0 {
			return false
		}
		if c >= 0xa0 && !strings.HasPrefix(r.Protocol, "UTF8") {
			return false
		}
	}
	return true
}

// AddressLiteral returns the address literal of a, in brackets (RFC 5321 4.1.3).
func AddressLiteral(a netip.Addr) string { return string(appendLiteral(nil, a)) }

func appendLiteral(dst []byte, a netip.Addr) []byte {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		dst = append(dst, '[')
	} else {
		dst = append(dst, "[IPv6:"...)
	}
	return append(a.AppendTo(dst), ']')
}

// appendTraceName appends name with every octet replaced that could end a word, open a
// comment or fold a line; "unknown" for the empty name.
func appendTraceName(dst []byte, name string) []byte {
	if name == "" {
		return append(dst, "unknown"...)
	}
	for _, c := range []byte(name[:min(len(name), traceNameMax)]) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._:[]", c) >= 0:
		default:
			c = '?'
		}
		dst = append(dst, c)
	}
	return dst
}

// traceAtom returns the name of a cipher suite. RFC 8314 4.3: "ALPHA *(ALPHA /
// DIGIT / "_")".
func traceAtom(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, name[:min(len(name), traceNameMax)])
}

// A folder writes words with a space before each, and begins a new line before a
// word that would make the line longer than LineWant.
type folder struct {
	dst    []byte
	column int
}

// word and octets append one word. A word longer than the line stands alone on its line.
func (f *folder) word(w string) {
	f.space(len(w))
	f.dst = append(f.dst, w...)
}

func (f *folder) octets(w []byte) {
	f.space(len(w))
	f.dst = append(f.dst, w...)
}

// space is before a word of so many octets.
func (f *folder) space(size int) {
	if f.column > 1 && f.column+1+size > LineWant {
		f.fold()
	}
	if f.column > 1 {
		f.dst = append(f.dst, ' ')
		f.column++
	}
	f.column += size
}

// fold begins a continuation line: CRLF and a tab.
func (f *folder) fold() {
	f.dst = append(f.dst, "\r\n\t"...)
	f.column = 1
}

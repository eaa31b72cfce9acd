package smtp

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Reply is a reply of RFC 5321 4.2 with its enhanced status code (RFC 2034).
// The zero Reply is 451 4.3.0: who forgot to say what happened asks the client
// to come again. To accept, write OK or another 2yz reply.
type Reply struct {
	Code   int    // three digits; 0 stands for 451
	Status Status // zero: none is sent, but for the zero Reply
	Text   string // one line of text, or several joined by "\n"; never with the codes
}

// OK is the plain 250 2.0.0.
var OK = Reply{Code: 250, Status: Status{2, 0, 0}, Text: "OK"}

// A Status is an enhanced mail system status code, class.subject.detail
// (RFC 3463 2).
type Status struct {
	Class   uint8
	Subject uint16
	Detail  uint16
}

// String returns the dotted form, such as "5.1.1".
func (s Status) String() string { return string(s.appendTo(make([]byte, 0, len("5.999.999")))) }

func (s Status) appendTo(dst []byte) []byte {
	dst = append(strconv.AppendUint(dst, uint64(s.Class), 10), '.')
	dst = append(strconv.AppendUint(dst, uint64(s.Subject), 10), '.')
	return strconv.AppendUint(dst, uint64(s.Detail), 10)
}

// IsZero reports whether there is no status.
func (s Status) IsZero() bool { return s == Status{} }

// IsZero reports whether r is the zero Reply.
func (r Reply) IsZero() bool { return r == Reply{} }

// Positive reports 2yz, Intermediate 3yz, Temporary 4yz and Permanent 5yz
// (RFC 5321 4.2.1). The zero Reply is Temporary. A code outside 2yz to 5yz is
// Temporary too: a reply that nobody can read is no reason to give up mail.
func (r Reply) Positive() bool     { return r.Code/100 == 2 }
func (r Reply) Intermediate() bool { return r.Code/100 == 3 }
func (r Reply) Permanent() bool    { return r.Code/100 == 5 }
func (r Reply) Temporary() bool {
	return !r.Positive() && !r.Intermediate() && !r.Permanent()
}

// temporarily is what the zero Reply stands for.
var temporarily = Reply{Code: 451, Status: Status{4, 3, 0}, Text: "Something went wrong here, try again later"}

// Normal returns r as it may be sent: the zero Code is 451, a code that RFC 5321
// 4.2 has no place for is 451 too, and a status agrees with the code. RFC 2034 4:
// "a 2xx response must incorporate a 2.X.X code, a 4xx response must incorporate
// a 4.X.X code, and a 5xx response must incorporate a 5.X.X code".
func (r Reply) Normal() Reply {
	if r.Code < 200 || r.Code > 599 {
		bad := temporarily
		if r.Text != "" {
			bad.Text = r.Text
		}
		return bad
	}
	switch class := uint8(r.Code / 100); {
	case r.Status.IsZero():
	case class == 3:
		r.Status = Status{}
	case r.Status.Class != class || r.Status.Subject > 999 || r.Status.Detail > 999:
		r.Status = Status{class, 0, 0}
	}
	return r
}

// String returns the reply in one line for logs and people, such as
// "550 5.1.1 No such user", in printable ASCII.
func (r Reply) String() string {
	r = r.Normal()
	b := strconv.AppendInt(nil, int64(r.Code), 10)
	if !r.Status.IsZero() {
		b = r.Status.appendTo(append(b, ' '))
	}
	if r.Text != "" {
		b = append(b, ' ')
		b = appendPrintable(b, r.Text)
	}
	return string(b)
}

// AppendTo appends r as it goes over the wire: one line for each line of its
// text, each with the code and, as RFC 2034 4 asks, with "the same status code
// [...] at the beginning of the text in each line". A line that would be longer
// than ReplyMax is folded, at a space if there is one. An octet that is no
// printable ASCII (RFC 5321 4.2, textstring) becomes "?".
func (r Reply) AppendTo(dst []byte) []byte { return r.appendTo(dst, false) }

// AppendUTF8 is AppendTo that keeps printable characters of UTF-8. RFC 6531 3.7.4
// allows them "in the limited cases specifically permitted": in the address of a
// 251 or 551 where MAIL had SMTPUTF8, and in replies to VRFY and EXPN that had it.
func (r Reply) AppendUTF8(dst []byte) []byte { return r.appendTo(dst, true) }

func (r Reply) appendTo(dst []byte, unicode bool) []byte {
	r = r.Normal()
	var status [len("5.65535.65535 ")]byte
	prefix := status[:0]
	if !r.Status.IsZero() {
		prefix = append(r.Status.appendTo(prefix), ' ')
	}
	room := ReplyMax - len("250-") - len(prefix) - len("\r\n")
	rest, more := r.Text, true
	for more {
		var line string
		line, rest, more = cutLine(rest, room)
		dst = strconv.AppendInt(dst, int64(r.Code), 10)
		if more {
			dst = append(dst, '-')
		} else {
			dst = append(dst, ' ')
		}
		dst = append(dst, prefix...)
		if unicode {
			dst = appendPrintableUTF8(dst, line)
		} else {
			dst = appendPrintable(dst, line)
		}
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// cutLine takes the next line of at most room octets from s.
func cutLine(s string, room int) (line, rest string, more bool) {
	line, rest, more = strings.Cut(s, "\n")
	if len(line) <= room {
		return line, rest, more
	}
	if at := strings.LastIndexByte(s[:room+1], ' '); at > 0 {
		return s[:at], s[at+1:], true
	}
	for n := room; n > room-utf8.UTFMax && n > 0; n-- { // no character is cut in two
		if utf8.RuneStart(s[n]) {
			room = n
			break
		}
	}
	return s[:room], s[room:], true
}

// appendPrintable appends s with a space for every white space, and "?" for
// every other octet that is not printable ASCII.
func appendPrintable[T string | []byte](dst []byte, s T) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\t' || c == '\n' || c == '\r':
			dst = append(dst, ' ')
		case c < ' ' || c > '~':
			dst = append(dst, '?')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// appendPrintableUTF8 is appendPrintable that keeps the printable characters of
// UTF-8.
func appendPrintableUTF8(dst []byte, s string) []byte {
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r >= utf8.RuneSelf && n > 1 && unicode.IsPrint(r) {
			dst = append(dst, s[:n]...)
		} else {
			dst = appendPrintable(dst, s[:n])
		}
		s = s[n:]
	}
	return dst
}

package smtp

import (
	"bytes"
	"strconv"
	"strings"
)

// A Chunk is the argument of BDAT (RFC 3030 2): how many octets of content follow
// the CRLF of the command, and whether they are the last.
type Chunk struct {
	Size int64
	Last bool
}

// ParseChunk parses the argument of BDAT. A nil Reply means success. With a Reply,
// sized says whether at least Size is known. Where it is not, nobody can tell the
// content that follows from commands, and the connection is of no more use.
func ParseChunk(arg string) (c Chunk, sized bool, no *Reply) {
	size, rest, more := strings.Cut(arg, " ")
	if !isDigits(size) {
		return Chunk{}, false, refuse(501, 5, 4, "Say BDAT, a number of octets, and LAST with the last of them")
	}
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return Chunk{}, false, refuse(501, 5, 4, "The chunk is larger than any message")
	}
	c = Chunk{Size: n, Last: strings.EqualFold(rest, "LAST")}
	if more && !c.Last {
		return c, true, refuse(501, 5, 4, "Nothing but LAST may follow the size of a chunk")
	}
	return c, true, nil
}

// AppendChunk appends the BDAT command for c, with its CRLF.
func AppendChunk(dst []byte, c Chunk) []byte {
	dst = strconv.AppendInt(append(dst, "BDAT "...), c.Size, 10)
	if c.Last {
		dst = append(dst, " LAST"...)
	}
	return append(dst, '\r', '\n')
}

// A LineCheck looks through a content that comes without dots added, in BDAT or
// from a program, for what a DotReader refuses: a CR or LF without the other, a
// NUL, a line over LineMax. RFC 3030 2: "text messages sent with the BDAT command
// MUST be sent in the canonical MIME format with lines delimited with a <CR><LF>."
// That the last line has no end is no fault.
type LineCheck struct {
	LineMax int // with the CRLF; zero: DefaultLineMax

	line int  // octets of the present line so far
	cr   bool // a CR was last
}

// Check looks at the octets that follow those it has seen, and returns the first
// fault, such as ErrBareLF. After a fault its answers mean nothing.
func (l *LineCheck) Check(p []byte) error {
	if after, ok := l.pass(p); ok {
		*l = after
		return nil
	}
	for _, c := range p {
		if l.line++; l.line > l.limit() {
			return ErrLineTooLong
		}
		switch {
		case l.cr && c != '\n':
			return ErrBareCR
		case l.cr:
			l.cr, l.line = false, 0
		case c == '\r':
			l.cr = true
		case c == '\n':
			return ErrBareLF
		case c == 0:
			return ErrNUL
		}
	}
	return nil
}

// pass goes through p line by line, and returns what is known behind it if there is
// no fault.
func (l LineCheck) pass(p []byte) (after LineCheck, ok bool) {
	// Where each LF has a CR before it, and there are no more of those, none is bare.
	crs := bytes.Count(p, crByte)
	if l.cr {
		crs++
	}
	if bytes.IndexByte(p, 0) >= 0 {
		return l, false
	}
	for len(p) > 0 {
		lf := bytes.IndexByte(p, '\n')
		n := lf + 1
		if lf < 0 {
			n = len(p)
		}
		if l.line += n; l.line > l.limit() {
			return l, false
		}
		if lf > 0 {
			l.cr = p[lf-1] == '\r'
		}
		if lf >= 0 {
			if !l.cr {
				return l, false
			}
			l.line = 0
			crs--
		}
		l.cr = p[n-1] == '\r'
		p = p[n:]
	}
	if l.cr {
		crs--
	}
	return l, crs == 0
}

func (l *LineCheck) limit() int {
	if l.LineMax <= 0 {
		return DefaultLineMax
	}
	return l.LineMax
}

// End returns the fault of a content that ends here, if that is one.
func (l *LineCheck) End() error {
	if l.cr {
		return ErrBareCR
	}
	return nil
}

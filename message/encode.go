package message

import (
	"encoding/base64"
	"io"
	"strings"
)

// Encode returns a reader of the message that r reads, and that s is the Structure
// of, in the shape to. Encodable(to) is nil. What fits already leaves as it came; of
// the rest, texts become quoted-printable and all else base64 (RFC 2045 6), their
// header fields say so, and the parts stay what and where they are. RFC 6152 3: the
// conversion "must cause no loss of information", and what comes of it is "valid
// 7-bit MIME"; RFC 3030 3: nothing is encoded twice.
func (s *Structure) Encode(r io.Reader, to Shape) io.Reader {
	e := &encoder{s: s, to: to}
	e.w = newWalker(r, e)
	return e
}

// An encoder is the visitor that writes a message in another shape.
type encoder struct {
	s   *Structure
	to  Shape
	w   *walker
	err error
	n   int    // entities so far
	now entity // of them the last
	out []byte
	off int
	qp  quoter
	b64 sextets
}

// Read implements io.Reader.
func (e *encoder) Read(p []byte) (int, error) {
	for e.off == len(e.out) {
		if e.err != nil {
			return 0, e.err
		}
		e.out, e.off = e.out[:0], 0
		e.err = e.w.step()
	}
	n := copy(p, e.out[e.off:])
	e.off += n
	return n, nil
}

func (e *encoder) head(_ *entity, raw []byte) {
	if e.n == len(e.s.entities) {
		e.err = io.ErrUnexpectedEOF // r reads another message
		return
	}
	e.now = e.s.entities[e.n]
	e.n++
	e.qp, e.b64 = quoter{}, sextets{}
	if !e.now.changes(e.to) {
		e.out = append(e.out, raw...)
		return
	}
	label := e.label()
	var rest []byte
	for f := range fields(raw) {
		switch name, _ := fieldOf(f); {
		case name == "content-transfer-encoding":
		case name == "":
			rest = append(rest, f...)
		default:
			e.out = append(e.out, f...)
		}
	}
	if e.now.top && !e.now.version {
		e.out = append(e.out, "MIME-Version: 1.0\r\n"...)
	}
	if e.now.top && !e.now.typed {
		// What nobody has said the character set of.
		e.out = append(e.out, "Content-Type: text/plain; charset=unknown-8bit\r\n"...)
	}
	e.out = append(e.out, "Content-Transfer-Encoding: "+label+"\r\n"...)
	e.out = append(e.out, rest...)
}

// label is the Content-Transfer-Encoding of the entity in hand.
func (e *encoder) label() string {
	switch {
	case !e.now.encodes(e.to):
		return max(e.to, e.now.shape).String()
	case e.now.text:
		return "quoted-printable"
	}
	return "base64"
}

func (e *encoder) piece(_ *entity, p []byte) {
	switch {
	case !e.now.encodes(e.to):
		e.out = append(e.out, p...)
	case e.now.text:
		e.out = e.qp.append(e.out, p)
	default:
		e.out = e.b64.append(e.out, p)
	}
}

func (e *encoder) end(*entity) {
	switch {
	case !e.now.encodes(e.to):
		return
	case e.now.text:
		e.out = e.qp.end(e.out)
	default:
		e.out = e.b64.end(e.out)
	}
	if len(e.w.open) == 0 && !e.bol() {
		if e.now.text {
			e.out = append(e.out, '=') // the end of the line is not the sender's
		}
		e.out = append(e.out, "\r\n"...)
	}
}

// bol reports whether what was written ends with a line.
func (e *encoder) bol() bool {
	if e.now.text {
		return e.qp.column == 0
	}
	return e.b64.column == 0
}

// between writes what no reader of mail shows; octets that the shape has no place
// for become question marks.
func (e *encoder) between(_ *entity, p []byte) {
	if shapeOf(p) <= e.to {
		e.out = append(e.out, p...)
		return
	}
	text, end := strings.CutSuffix(string(p), "\r\n")
	for _, c := range []byte(text) {
		if c == 0 || c == '\r' || c == '\n' || c >= 0x80 && e.to == Shape7Bit {
			c = '?'
		}
		e.out = append(e.out, c)
	}
	if end {
		e.out = append(e.out, "\r\n"...)
	}
}

// quotedMax is the width of a line (RFC 2045 6.7), and sextetsMax that of base64
// (RFC 2045 6.8).
const (
	quotedMax  = 76
	sextetsMax = 76
)

// A quoter writes quoted-printable (RFC 2045 6.7). Only a CRLF is the end of a line;
// a CR or LF alone is an octet.
type quoter struct {
	column int
	cr     bool // a CR was taken in
	blank  byte // a space or tab was; 0: none
}

func (q *quoter) append(dst, p []byte) []byte {
	for _, c := range p {
		switch {
		case q.cr && c == '\n':
			dst = append(q.flush(dst, true), "\r\n"...)
			q.column, q.cr = 0, false
			continue
		case q.cr:
			dst, q.cr = q.quote(q.flush(dst, false), '\r'), false
		}
		switch {
		case c == '\r':
			q.cr = true
			continue
		case c == ' ' || c == '\t':
			dst, q.blank = q.flush(dst, false), c
			continue
		}
		dst = q.flush(dst, false)
		if c > ' ' && c < 0x7f && c != '=' {
			dst = q.word(dst, string(c))
		} else {
			dst = q.quote(dst, c)
		}
	}
	return dst
}

// flush writes a space or tab that was taken in; RFC 2045 6.7 (3): at the end of a
// line it "MUST NOT" stand as it is.
func (q *quoter) flush(dst []byte, atEnd bool) []byte {
	c := q.blank
	q.blank = 0
	switch {
	case c == 0:
		return dst
	case atEnd:
		return q.quote(dst, c)
	}
	return q.word(dst, string(c))
}

func (q *quoter) quote(dst []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	return q.word(dst, string([]byte{'=', hex[c>>4], hex[c&15]}))
}

// word writes what stays on one line.
func (q *quoter) word(dst []byte, s string) []byte {
	if q.column+len(s) > quotedMax-len("=") {
		dst = append(dst, "=\r\n"...)
		q.column = 0
		if s == "-" {
			s = "=2D" // so that no line of ours looks like a boundary that the text has not
		}
	}
	q.column += len(s)
	return append(dst, s...)
}

func (q *quoter) end(dst []byte) []byte {
	if q.cr {
		dst, q.cr = q.quote(q.flush(dst, false), '\r'), false
	}
	return q.flush(dst, true)
}

// sextets writes base64 (RFC 2045 6.8) in lines, with a CRLF between them.
type sextets struct {
	column int
	part   [3]byte
	n      int
}

func (b *sextets) append(dst, p []byte) []byte {
	for _, c := range p {
		b.part[b.n] = c
		if b.n++; b.n == len(b.part) {
			dst = b.end(dst)
		}
	}
	return dst
}

// end writes what is in hand.
func (b *sextets) end(dst []byte) []byte {
	if b.n == 0 {
		return dst
	}
	if b.column == sextetsMax {
		dst, b.column = append(dst, "\r\n"...), 0
	}
	dst = base64.StdEncoding.AppendEncode(dst, b.part[:b.n])
	b.column, b.n = b.column+4, 0
	return dst
}

package message

import (
	"bufio"
	"bytes"
	"io"
	"mime"
	"strings"
)

// Bounds of a MIME structure that is looked into. What goes beyond is left as it is,
// and cannot be encoded.
const (
	entitiesMax = 10_000
	depthMax    = 100       // of multiparts and messages within each other
	headMax     = 256 << 10 // octets of the header section of one entity
	pieceMax    = 4096      // octets of a line that are in hand; longer than any boundary
)

// A shape is what a content needs to be sent as it is (RFC 2045 2.7 to 2.9).
type Shape uint8

// The shapes, each of which takes in those before it.
const (
	Shape7Bit   Shape = iota // lines of at most 998 octets of US-ASCII
	Shape8Bit                // lines of at most 998 octets
	ShapeBinary              // any octets
)

// String returns the shape as a Content-Transfer-Encoding.
func (s Shape) String() string {
	return [...]string{"7bit", "8bit", "binary"}[min(s, ShapeBinary)]
}

// An entity is a message or a part of one (RFC 2045 2.4), as far as its header tells.
type entity struct {
	kind     entityKind
	text     bool   // of a leaf: people read it
	label    string // Content-Transfer-Encoding, in lower case; empty: none
	fixed    bool   // its type allows no encoding but 7bit
	signed   bool   // it is within a multipart/signed
	signs    bool   // it is one
	broken   bool   // it is not in the form that MIME has
	top      bool   // of a message, and not of a part
	version  bool   // it has MIME-Version
	typed    bool   // it has Content-Type
	digest   bool   // of a multipart: its parts are messages
	boundary string // of a multipart
	head8    bool   // octets over 127 in its header section
	shape    Shape  // of its body, of a leaf
	// headBinary: its header section is in no lines.
	headBinary bool
}

type entityKind uint8

const (
	leaf entityKind = iota
	multi
	encapsulated // message/rfc822
)

// A visitor is told what a walker finds. The octets of all calls, in order, are the
// message; none of them lives on after its call.
type visitor interface {
	head(e *entity, raw []byte)  // a header section, with the empty line behind it
	piece(e *entity, p []byte)   // octets of the body of a leaf
	end(e *entity)               // of a leaf: its body is over
	between(e *entity, p []byte) // a delimiter, and what is before the first part and after the last
}

// A level is a multipart that is open.
type level struct {
	e     *entity
	depth int // of what is within it
}

// A walker reads a message and finds its MIME structure.
type walker struct {
	r      *bufio.Reader
	v      visitor
	open   []level
	e      *entity // in hand; nil: between parts
	outer  *entity // of what is between parts
	inHead bool
	raw    []byte // of the header section in hand
	eol    []byte // end of a line of a body, which may belong to a delimiter
	bol    bool   // at the beginning of a line
	crlf   bool   // the line before ended in CRLF
	count  int
	depth  int
}

func newWalker(r io.Reader, v visitor) *walker {
	w := &walker{r: bufio.NewReaderSize(r, pieceMax), v: v, bol: true, crlf: true}
	w.begin(&entity{top: true})
	return w
}

// begin takes up a header section.
func (w *walker) begin(e *entity) {
	w.count++
	e.signed = w.inSigned()
	w.e, w.inHead, w.raw = e, true, w.raw[:0]
}

func (w *walker) inSigned() bool {
	for _, l := range w.open {
		if l.e.signs {
			return true
		}
	}
	return false
}

// step takes the next piece of a line; io.EOF: there is none.
func (w *walker) step() error {
	p, err := w.r.ReadSlice('\n')
	if len(p) == 0 && err != nil {
		if err == io.EOF {
			w.finish()
		}
		return err
	}
	if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
		return err
	}
	if err == bufio.ErrBufferFull && p[len(p)-1] == '\r' {
		p = p[:len(p)-1] // a CRLF stays in one piece
		w.r.UnreadByte()
	}
	bol, after := w.bol, w.crlf
	w.bol, w.crlf = err == nil, bytes.HasSuffix(p, crlf)
	if bol && after && w.delimiter(p) {
		return nil
	}
	switch {
	case w.e == nil:
		w.v.between(w.outer, p)
	case w.inHead:
		w.headLine(p, bol)
	default:
		w.content(p)
	}
	return nil
}

// finish ends what is open when there is no more.
func (w *walker) finish() {
	if w.e != nil && w.inHead {
		w.e.broken = w.e.broken || len(w.raw) > 0 && !w.bol
		w.headDone(false)
	}
	w.endLeaf()
	w.e = nil
}

func (w *walker) endLeaf() {
	if w.e == nil || w.inHead {
		return
	}
	if len(w.eol) > 0 {
		w.v.piece(w.e, w.eol)
		w.eol = w.eol[:0]
	}
	w.v.end(w.e)
	w.e = nil
}

// content takes a piece of the body of a leaf. The end of a line waits, for RFC 2046
// 5.1.1: "The CRLF preceding the boundary delimiter line is conceptually attached to
// the boundary".
func (w *walker) content(p []byte) {
	if len(w.eol) > 0 {
		w.v.piece(w.e, w.eol)
		w.eol = w.eol[:0]
	}
	if len(w.open) > 0 && bytes.HasSuffix(p, crlf) {
		w.eol = append(w.eol, crlf...)
		p = p[:len(p)-len(crlf)]
	}
	if len(p) > 0 {
		w.v.piece(w.e, p)
	}
}

var crlf = []byte("\r\n")

// delimiter takes a line that begins or ends a part of an open multipart. RFC 2046
// 5.1.2: the boundary of an outer one ends all that is within it.
func (w *walker) delimiter(p []byte) bool {
	if len(w.open) == 0 || !bytes.HasPrefix(p, []byte("--")) || bytes.HasSuffix(p, []byte("\n")) && !bytes.HasSuffix(p, crlf) {
		return false
	}
	line := bytes.TrimSuffix(p, crlf)
	for i := len(w.open) - 1; i >= 0; i-- {
		l := w.open[i]
		rest, ok := bytes.CutPrefix(line[2:], []byte(l.e.boundary))
		rest = bytes.TrimRight(rest, " \t")
		last := string(rest) == "--"
		if !ok || len(rest) > 0 && !last {
			continue
		}
		w.part(i, p, last)
		return true
	}
	return false
}

// part ends what is within level i, at the delimiter p, and begins the next part.
func (w *walker) part(i int, p []byte, last bool) {
	l := w.open[i]
	if w.e != nil && w.inHead {
		w.e.broken = true
		w.headDone(false)
	}
	eol := append([]byte(nil), w.eol...)
	w.eol = w.eol[:0]
	w.endLeaf()
	w.v.between(l.e, append(eol, p...))
	w.open = w.open[:i+1]
	w.depth = l.depth
	if last {
		w.open = w.open[:i]
		w.e, w.outer = nil, l.e
		return
	}
	e := &entity{}
	if l.e.digest {
		e.kind = encapsulated // RFC 2046 5.1.5: its default
	}
	w.begin(e)
}

// headLine takes a piece of a header section.
func (w *walker) headLine(p []byte, bol bool) {
	empty := bol && (string(p) == "\r\n" || string(p) == "\n")
	switch {
	case empty:
		w.e.broken = w.e.broken || len(p) == 1
		w.raw = append(w.raw, p...)
		w.headDone(true)
	case len(w.raw)+len(p) > headMax, bol && !isField(p, len(w.raw) > 0):
		// What is no field begins the body, as every reader of mail takes it.
		w.e.broken = true
		w.headDone(false)
		w.bol = bytes.HasSuffix(p, []byte("\n"))
		if w.e != nil {
			w.content(p)
		} else {
			w.v.between(w.outer, p)
		}
	default:
		w.raw = append(w.raw, p...)
	}
}

// isField reports whether a line begins a field, or continues one.
func isField(p []byte, some bool) bool {
	if isBlank(p[0]) {
		return some
	}
	i := 0
	for i < len(p) && isFtext(p[i]) {
		i++
	}
	if i == 0 {
		return false
	}
	for i < len(p) && isBlank(p[i]) {
		i++
	}
	return i < len(p) && p[i] == ':' || i == len(p)
}

// headDone reads a header section, and takes up what is behind it.
func (w *walker) headDone(body bool) {
	e := w.e
	e.read(w.raw)
	if e.kind == encapsulated && !body {
		e.kind, e.broken = leaf, true
	}
	if w.depth >= depthMax || w.count > entitiesMax {
		e.broken, e.kind = e.broken || e.kind != leaf, leaf
	}
	w.v.head(e, w.raw)
	w.inHead = false
	w.eol = w.eol[:0]
	switch {
	case e.kind == multi:
		w.depth++
		w.open = append(w.open, level{e, w.depth})
		w.e, w.outer = nil, e
	case e.kind == encapsulated && body:
		w.depth++
		w.begin(&entity{top: true})
	}
}

// read finds in a header section what decides how the entity can be transported.
func (e *entity) read(raw []byte) {
	e.head8 = hasEightBit(raw)
	e.headBinary = shapeOf(raw) == ShapeBinary
	kind := "text/plain"
	if e.kind == encapsulated {
		kind = "message/rfc822"
	}
	e.kind = leaf
	var params map[string]string
	for f := range fields(raw) {
		switch name, value := fieldOf(f); name {
		case "mime-version":
			e.version = true
		case "content-transfer-encoding":
			e.broken = e.broken || e.label != "" // readers of mail do not agree on which counts
			e.label = strings.ToLower(value)
		case "content-type":
			e.broken = e.broken || e.typed
			e.typed = true
			t, p, err := mime.ParseMediaType(value)
			if err != nil {
				t, p = strings.ToLower(strings.TrimSpace(strings.SplitN(value, ";", 2)[0])), nil
			}
			kind, params = t, p
		}
	}
	e.text = strings.HasPrefix(kind, "text/") || !strings.Contains(kind, "/")
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		e.boundary = params["boundary"]
		if e.boundary == "" || !e.label7() {
			e.broken, e.fixed = true, true
			return
		}
		e.kind, e.signs, e.digest = multi, kind == "multipart/signed", kind == "multipart/digest"
	case kind == "message/rfc822" && e.label7():
		e.kind = encapsulated
	case strings.HasPrefix(kind, "message/"):
		// RFC 2046 5.2 and RFC 3464 2.1 allow these no encoding; RFC 6532 3.5 and
		// RFC 6533 4.4 allow the message/global kinds any.
		e.fixed, e.text = !strings.HasPrefix(kind, "message/global"), true
	}
}

// label7 reports that the body of the entity is not encoded (RFC 2045 6.4: a
// composite type has no encoding but "7bit", "8bit" or "binary").
func (e *entity) label7() bool {
	switch e.label {
	case "", "7bit", "8bit", "binary":
		return true
	}
	return false
}

// fields yields the fields of a header section, with their continuation lines.
func fields(raw []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(raw) > 0 {
			n := 0
			for {
				lf := bytes.IndexByte(raw[n:], '\n')
				if lf < 0 {
					n = len(raw)
					break
				}
				if n += lf + 1; n == len(raw) || !isBlank(raw[n]) {
					break
				}
			}
			if !yield(raw[:n]) {
				return
			}
			raw = raw[n:]
		}
	}
}

// fieldOf returns the name of a field in lower case, and its value unfolded.
func fieldOf(f []byte) (name, value string) {
	n, v, ok := strings.Cut(string(f), ":")
	if !ok {
		return "", ""
	}
	v = strings.NewReplacer("\r\n", "", "\n", "").Replace(v)
	return strings.ToLower(strings.TrimRight(n, " \t")), strings.TrimSpace(v)
}

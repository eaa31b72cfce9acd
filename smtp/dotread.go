package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Why a DotReader refuses a content, or a DotWriter to send one.
var (
	ErrBareCR      = errors.New("smtp: a CR without LF in the content")
	ErrBareLF      = errors.New("smtp: an LF without CR in the content")
	ErrNUL         = errors.New("smtp: a NUL octet in the content")
	ErrLineTooLong = errors.New("smtp: a line of the content is too long")

	errClosed = errors.New("smtp: the content has ended")
)

// DefaultLineMax is the longest line that a DotReader takes unless it is told
// otherwise, in octets with the CRLF. RFC 5321 4.5.3.1.6 asks for 1000 at least
// and lets servers take more. Much real mail has longer lines, most of it HTML;
// to refuse it, or to fold it and break its signature, would serve nobody, since
// a DotReader holds no line in memory. The limit is there for the readers of a
// header section, which do.
const DefaultLineMax = 64 << 10

// A DotReader reads the content that follows DATA, up to its end and not
// further, with the added dots taken out (RFC 5321 4.5.2).
//
// Only CRLF "." CRLF ends a content, or "." CRLF at its very start. RFC 5321
// 4.1.1.4: "The custom of accepting lines ending only in <LF> [...] has proven to
// cause more interoperability problems than it solves, and SMTP server systems
// MUST NOT do this". A CR or LF without the other is no line end anywhere, and
// makes Read return an error in place of io.EOF, and so does a NUL or a line
// over LineMax: but only when the true end has come, so that the command after
// it is read as a command. What lies between the fault and the end is read away.
//
// A connection that is lost before the end gives io.ErrUnexpectedEOF, or the
// error of the source; never io.EOF.
//
// The zero DotReader has no source: its owner reads, and hands what came to Next.
type DotReader struct {
	// LineMax is the longest line with its CRLF, without an added dot. Zero:
	// DefaultLineMax. It must not change after the first Read.
	LineMax int

	r      *bufio.Reader
	pair   [2]byte // CRLF, for Next
	state  dotState
	line   int   // octets of the present line so far, as they stand in the content
	owesLF bool  // the CR of a line end was given out and its LF had no room
	fault  error // first reason to refuse the content
	done   error // io.EOF at the end, or why there is no more to read
}

// NewDotReader returns a DotReader on r, which must stand at the first octet
// after the CRLF of the DATA command.
func NewDotReader(r *bufio.Reader) *DotReader { return &DotReader{r: r} }

type dotState uint8

// What was read last.
const (
	atStart  dotState = iota // a CRLF, or nothing yet
	atDot                    // a dot at the start of a line
	atDotCR                  // a dot at the start of a line, and a CR
	inLine                   // any other octet of a line
	atCR                     // a CR elsewhere
	atFinish                 // CRLF . CRLF
)

// Read implements io.Reader.
func (d *DotReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if d.owesLF {
		d.owesLF = false
		p[0] = '\n'
		return 1, nil
	}
	n := 0
	for n == 0 && d.done == nil {
		if _, err := d.r.Peek(1); err != nil {
			d.done = err
			if errors.Is(err, io.EOF) {
				d.done = io.ErrUnexpectedEOF
			}
			break
		}
		block, _ := d.r.Peek(d.r.Buffered())
		var used int
		used, n = d.step(p, block)
		_, _ = d.r.Discard(used)
		_ = d.end()
	}
	if n > 0 {
		return n, nil
	}
	return 0, d.done
}

// Next takes octets of a block that was read, which it may change, and returns what
// of them is content and how many it took: the content is a part of the block, or a
// CRLF whose CR was the last octet of the block before. The error is io.EOF at the
// end of the content, or why it is refused, when the end has come; what follows in
// the block is no content. Until there is an error, all that is left of a block is
// for Next to be called with again. It takes the place of Read, and is not to be
// mixed with it.
func (d *DotReader) Next(block []byte) (content []byte, used int, err error) {
	switch {
	case d.done != nil:
		return nil, 0, d.done
	case len(block) == 0:
		return nil, 0, nil
	case d.state == atCR: // two octets are content of this one
		var n int
		used, n = d.step(d.pair[:], block[:1])
		content = d.pair[:n]
	default:
		var n int
		used, n = d.step(block, block)
		content = block[:n]
	}
	return content, used, d.end()
}

// end takes note of the end of the content, and returns it or why it is refused.
func (d *DotReader) end() error {
	if d.state == atFinish {
		d.done = io.EOF
		if d.fault != nil {
			d.done = d.fault
		}
	}
	return d.done
}

// step takes octets of block, writes content to p, and returns how many of each.
// It stops at the end of the content, and when p or block is used up. If it does not
// begin behind a CR there is never more content than was taken, so that p may be the
// block itself.
func (d *DotReader) step(p, block []byte) (used, n int) {
	same := &p[0] == &block[0]
	for used < len(block) && n < len(p) && d.state != atFinish {
		run := 0
		if d.state == atStart && d.fault == nil {
			run = d.lines(block[used:], len(p)-n)
		} else if d.state == inLine && d.fault == nil {
			run = d.plain(block[used:], len(p)-n)
			d.line += run
		}
		if run > 0 {
			if !same || n != used { // what stands where it belongs is not copied
				copy(p[n:], block[used:used+run])
			}
			used, n = used+run, n+run
			continue
		}
		c := block[used]
		used++
		if !d.next(c) || d.fault != nil {
			continue
		}
		if c == '\n' {
			p[n] = '\r'
			n++
			if d.owesLF = n == len(p); d.owesLF {
				break
			}
		}
		p[n] = c
		n++
	}
	return used, n
}

// lines returns how many octets at the front of block are whole lines without
// further thought: no dot at their beginning, no CR or LF but at their end, no
// NUL, within the line limit, and at most room.
func (d *DotReader) lines(block []byte, room int) int {
	block = block[:min(len(block), room)]
	n, lines := 0, 0
	for n < len(block) && block[n] != '.' {
		lf := bytes.IndexByte(block[n:], '\n')
		if lf <= 0 || lf >= d.limit() || block[n+lf-1] != '\r' {
			break
		}
		n, lines = n+lf+1, lines+1
	}
	// Each LF has a CR before it: no CR is bare where there are no more of those.
	if bytes.Count(block[:n], crByte) == lines && bytes.IndexByte(block[:n], 0) < 0 {
		return n
	}
	return linesBeforeFault(block[:n])
}

// linesBeforeFault returns how many octets at the front of some lines come before
// the one with a NUL or a bare CR.
func linesBeforeFault(block []byte) int {
	n := bytes.IndexByte(block, 0)
	if n < 0 {
		n = len(block)
	}
	for at := 0; at < n; {
		cr := bytes.IndexByte(block[at:n], '\r')
		if cr < 0 {
			break
		}
		if at += cr + 1; at == len(block) || block[at] != '\n' {
			n = at - 1
		}
	}
	return bytes.LastIndexByte(block[:n], '\n') + 1
}

// plain returns how many octets at the front of block are content without
// further thought: no CR, LF or NUL, within the line limit, and at most room.
func (d *DotReader) plain(block []byte, room int) int {
	block = block[:min(len(block), room, max(0, d.limit()-d.line))]
	for i, c := range block {
		if c <= '\r' && (c == '\r' || c == '\n' || c == 0) {
			return i
		}
	}
	return len(block)
}

// next takes one octet, and reports whether it is given out as content: an LF
// together with the CR before it, a CR never by itself.
func (d *DotReader) next(c byte) bool {
	switch d.state {
	case atStart:
		if c == '.' {
			d.state = atDot
			return false
		}
	case atDot:
		if c == '\r' {
			d.state = atDotCR
			return false
		}
	case atDotCR:
		if c == '\n' {
			d.state = atFinish
			return false
		}
		d.refuse(ErrBareCR)
	case atCR:
		if c == '\n' {
			d.grow()
			d.state, d.line = atStart, 0
			return true
		}
		d.refuse(ErrBareCR)
	}
	d.state = inLine
	d.grow()
	switch c {
	case '\r':
		d.state = atCR
		return false
	case '\n':
		d.refuse(ErrBareLF)
	case 0:
		d.refuse(ErrNUL)
	}
	return true
}

func (d *DotReader) limit() int {
	if d.LineMax <= 0 {
		return DefaultLineMax
	}
	return d.LineMax
}

func (d *DotReader) grow() {
	if d.line++; d.line > d.limit() {
		d.refuse(ErrLineTooLong)
	}
}

// refuse notes the first fault. Nothing is given out after it.
func (d *DotReader) refuse(fault error) {
	if d.fault == nil {
		d.fault = fault
	}
}

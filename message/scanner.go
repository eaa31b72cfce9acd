package message

import (
	"bytes"
	"encoding/binary"
)

// A Scanner looks at a message as it streams by. It is an io.Writer that never
// fails, keeps nothing of what it sees, and comes to the same answers however
// the octets are cut into writes. The zero Scanner stands before the first octet.
//
// The header section ends before an empty line, and before a line that is
// neither a field nor the continuation of one: what follows is body, as every
// reader of mail takes it. Lines end in CRLF or LF.
type Scanner struct {
	size       int64 // octets written so far
	header     int64 // octets of the header section so far, whole lines
	hops       int
	state      scanState
	matched    int  // octets of the field name that agree with "received"; -1: it is another name
	fields     bool // a field was seen, so that a line may continue it
	eightBit   bool
	headBit    bool // eightBit in the header section
	headerDone bool
}

// receivedName is the name of the field that is counted, in lower case.
const receivedName = "received"

// A scanState says where in a line of the header section the Scanner stands.
type scanState uint8

const (
	atLineStart scanState = iota
	afterCR               // after a CR that opened the line
	inName                // within a field name
	afterName             // in white space between name and colon (RFC 5322 4.5.8)
	inValue               // behind the colon, or in a continuation
)

// Write looks at p. It returns len(p) and no error.
func (s *Scanner) Write(p []byte) (int, error) {
	rest := p
	for len(rest) > 0 && !s.headerDone {
		rest = s.step(rest)
	}
	s.size += int64(len(rest))
	if !s.eightBit && hasEightBit(rest) {
		s.eightBit = true
	}
	return len(p), nil
}

// Hops returns how many Received fields the header section holds so far.
// RFC 5321 6.3: "Simple counting of the number of "Received:" header fields in
// a message has proven to be an effective, although rarely optimal, method of
// detecting loops in mail systems."
func (s *Scanner) Hops() int { return s.hops }

// EightBit reports an octet over 127 anywhere so far: the message cannot go to
// a host without 8BITMIME as it is (RFC 6152).
func (s *Scanner) EightBit() bool { return s.eightBit }

// HeaderEightBit reports an octet over 127 in the header section (RFC 6532).
func (s *Scanner) HeaderEightBit() bool { return s.headBit }

// HeaderDone reports that the end of the header section was seen.
func (s *Scanner) HeaderDone() bool { return s.headerDone }

// HeaderSize returns the octets of the header section, without the empty line
// behind it; while HeaderDone is false, all octets that may still belong to it.
func (s *Scanner) HeaderSize() int64 {
	if s.headerDone {
		return s.header
	}
	return s.size
}

// step takes one octet, or a run of octets of a value, and returns what is left.
// When it finds the end of the header section it leaves the octet in hand to the
// body.
func (s *Scanner) step(p []byte) []byte {
	if s.state == inValue {
		return s.value(p)
	}
	c := p[0]
	switch s.state {
	case atLineStart:
		switch {
		case c == '\r':
			s.state = afterCR
		case s.fields && (c == ' ' || c == '\t'):
			s.state = inValue
		case isFtext(c):
			s.state, s.matched = inName, 0
			s.matchName(c)
		default: // LF, or what can begin no field
			s.headerDone = true
			return p
		}
	case afterCR:
		s.headerDone = true
		return p
	case inName, afterName:
		switch {
		case c == ':':
			s.state, s.fields = inValue, true
			if s.matched == len(receivedName) {
				s.hops++
			}
		case c == ' ' || c == '\t':
			s.state = afterName
		case s.state == inName && isFtext(c):
			s.matchName(c)
		default:
			s.headerDone = true
			return p
		}
	}
	s.size++
	return p[1:]
}

// value takes octets of a field's value up to the end of the line.
func (s *Scanner) value(p []byte) []byte {
	n := bytes.IndexByte(p, '\n') + 1
	line := p
	if n > 0 {
		line = p[:n]
	}
	s.size += int64(len(line))
	if !s.headBit && hasEightBit(line) {
		s.eightBit, s.headBit = true, true
	}
	if n > 0 {
		s.header, s.state = s.size, atLineStart
	}
	return p[len(line):]
}

// matchName compares one more octet of a field name, without case.
func (s *Scanner) matchName(c byte) {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	if s.matched >= 0 && s.matched < len(receivedName) && receivedName[s.matched] == c {
		s.matched++
		return
	}
	s.matched = -1
}

// isFtext reports an octet of a field name. RFC 5322 3.6.8: "Printable US-ASCII
// characters not including ":"."
func isFtext(c byte) bool { return c > ' ' && c < 0x7f && c != ':' }

// hasEightBit reports an octet over 127, eight at a time.
func hasEightBit(p []byte) bool {
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p)&0x8080808080808080 != 0 {
			return true
		}
		p = p[8:]
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

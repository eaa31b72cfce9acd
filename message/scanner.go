package message

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode"
)

// A Scanner looks at a message as it streams by. It is an io.Writer that never
// fails, keeps nothing of what it sees but one Message-ID, and comes to the same
// answers however the octets are cut into writes. The zero Scanner stands before the first octet.
//
// The header section ends before an empty line, and before a line that is
// neither a field nor the continuation of one: what follows is body, as every
// reader of mail takes it. Lines end in CRLF or LF.
type Scanner struct {
	Addresses *Addresses // who looks at the address fields; nil: nobody

	size       int64 // octets written so far
	header     int64 // octets of the header section so far, whole lines
	hops       int
	state      scanState
	name       [nameMax]byte // of the field in hand, in lower case
	named      int           // octets of it; over nameMax: it is a name that nobody looks for
	id         string        // value of the first Message-ID, as it came, without ends of lines
	inID       bool          // the field in hand is that one
	hasID      bool
	hasDate    bool
	automatic  bool
	fields     bool // a field was seen, so that a line may continue it
	eightBit   bool
	headBit    bool // eightBit in the header section
	headerDone bool
	noHeader   bool
	indented   bool
	hasFrom    bool
}

// Bounds of what a Scanner keeps, in octets.
const (
	nameMax = len("auto-submitted") // of a field name
	idMax   = LineMax               // of the value of Message-ID
)

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

// HasDate, HasFrom and HasMessageID report whether the header section holds such a
// field so far, whatever stands in it.
func (s *Scanner) HasDate() bool      { return s.hasDate }
func (s *Scanner) HasFrom() bool      { return s.hasFrom }
func (s *Scanner) HasMessageID() bool { return s.hasID }

// Automatic reports a field by which programs and lists say that no person has
// written this to be answered: Auto-Submitted (RFC 3834 5), List-Id (RFC 2919),
// and the older Precedence, whatever stands in it.
func (s *Scanner) Automatic() bool { return s.automatic }

// MessageID returns what the first Message-ID of the header section holds between
// its angle brackets, or all of it where there are none, without white space and
// control characters: for people who search, not for anything that is sent. It is
// valid UTF-8 of at most 998 octets, and empty where there is no such field.
func (s *Scanner) MessageID() string {
	id := s.id
	if _, inner, ok := strings.Cut(id, "<"); ok {
		id, _, _ = strings.Cut(inner, ">")
	}
	id = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(id, "?"))
	return id
}

// EightBit reports an octet over 127 anywhere so far: the message cannot go to
// a host without 8BITMIME as it is (RFC 6152).
func (s *Scanner) EightBit() bool { return s.eightBit }

// HeaderEightBit reports an octet over 127 in the header section (RFC 6532).
func (s *Scanner) HeaderEightBit() bool { return s.headBit }

// HeaderDone reports that the end of the header section was seen.
func (s *Scanner) HeaderDone() bool { return s.headerDone }

// NoHeader reports that the message begins with its body: there is no field, nor
// an empty line before the body.
func (s *Scanner) NoHeader() bool { return s.noHeader }

// Indented reports that it begins with a blank: right behind a field it would be taken
// for the rest of that.
func (s *Scanner) Indented() bool { return s.indented }

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
			s.state, s.named, s.inID = inName, 0, false
			s.spell(c)
		default: // LF, or what can begin no field
			s.headerDone, s.noHeader = true, s.header == 0 && c != '\n'
			s.indented = s.noHeader && (c == ' ' || c == '\t')
			return p
		}
	case afterCR:
		s.headerDone = true
		return p
	case inName, afterName:
		switch {
		case c == ':':
			s.state, s.fields = inValue, true
			s.field()
		case c == ' ' || c == '\t':
			s.state = afterName
		case s.state == inName && isFtext(c):
			s.spell(c)
		default:
			s.headerDone, s.noHeader = true, s.header == 0
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
	if s.Addresses != nil {
		s.Addresses.text(line)
	}
	if s.inID && len(s.id) < idMax {
		text := bytes.TrimRight(line, "\r\n")
		s.id += string(text[:min(len(text), idMax-len(s.id))])
	}
	if n > 0 {
		s.header, s.state = s.size, atLineStart
	}
	return p[len(line):]
}

// spell takes one more octet of a field name.
func (s *Scanner) spell(c byte) {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	if s.named < nameMax {
		s.name[s.named] = c
	}
	if s.named <= nameMax {
		s.named++
	}
}

// field takes note of a field whose name is complete.
func (s *Scanner) field() {
	if s.Addresses != nil {
		s.Addresses.begin(string(s.name[:min(s.named, nameMax)]))
	}
	if s.named > nameMax {
		return
	}
	switch string(s.name[:s.named]) {
	case "received":
		s.hops++
	case "from":
		s.hasFrom = true
	case "date":
		s.hasDate = true
	case "message-id":
		s.inID, s.hasID = !s.hasID, true
	case "auto-submitted", "precedence", "list-id":
		s.automatic = true
	}
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

package message

import (
	"bytes"
	"io"
	"strings"
)

// heldMax is how much of a line is kept back until its colon shows which field it
// is, in octets. Longer beginnings are of no field that is dropped.
const heldMax = LineMax

// A Filter is a writer that drops fields of the header section, with their
// continuation lines, and writes all else on as it came. It finds the same header
// section as a Scanner does, and does the same however the octets are cut into
// writes. Flush ends it.
type Filter struct {
	w        io.Writer
	drop     []string
	held     []byte // the beginning of a line whose name is not known yet
	out      []byte // of one Write
	state    scanState
	fields   bool // a field was seen, so that a line may continue it
	passed   bool // this line is of a field that stays, and nothing of it is held
	dropping bool // the field in hand is dropped
	done     bool // the header section has ended
}

// NewFilter returns a Filter that writes to w what is in no field of one of the
// names, given without colon, in any case.
func NewFilter(w io.Writer, names ...string) *Filter {
	return &Filter{w: w, drop: names}
}

// Write takes p, and returns the error of the writer below.
func (f *Filter) Write(p []byte) (int, error) {
	rest := p
	f.out = f.out[:0]
	for len(rest) > 0 && !f.done {
		rest = f.step(rest)
	}
	if len(f.out) > 0 {
		if _, err := f.w.Write(f.out); err != nil {
			return 0, err
		}
	}
	if len(rest) > 0 {
		if _, err := f.w.Write(rest); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Flush writes what is kept back of a line that was cut short. Nothing is
// written after it.
func (f *Filter) Flush() error {
	if len(f.held) == 0 {
		return nil
	}
	_, err := f.w.Write(f.held)
	f.held = f.held[:0]
	return err
}

// step takes one octet, or a run of octets of a value, and returns what is left.
// When it finds the end of the header section it leaves the octet in hand to the
// body.
func (f *Filter) step(p []byte) []byte {
	if f.state == inValue {
		return f.value(p)
	}
	c := p[0]
	switch {
	case f.state == atLineStart && f.fields && isBlank(c):
		f.state = inValue
		return p
	case f.state == atLineStart && isFtext(c):
		f.state, f.passed, f.dropping = inName, false, false
	case f.state == atLineStart: // the empty line, or what can begin no field
		return f.end(p)
	case c == ':':
		f.state, f.fields, f.dropping = inValue, true, f.drops()
		if f.dropping {
			f.held = f.held[:0]
		}
		f.release()
		return p
	case isBlank(c):
		f.state = afterName
	case f.state == afterName || !isFtext(c):
		return f.end(p)
	}
	f.held = append(f.held, c)
	if f.passed || len(f.held) > heldMax {
		f.passed = true
		f.release()
	}
	return p[1:]
}

// end leaves p to the body.
func (f *Filter) end(p []byte) []byte {
	f.release()
	f.done = true
	return p
}

// release gives up what is kept back.
func (f *Filter) release() {
	f.out = append(f.out, f.held...)
	f.held = f.held[:0]
}

// drops reports whether the name that is kept back is one to be dropped.
func (f *Filter) drops() bool {
	if f.passed {
		return false
	}
	name := strings.TrimRight(string(f.held), " \t")
	for _, d := range f.drop {
		if strings.EqualFold(d, name) {
			return true
		}
	}
	return false
}

// value takes octets up to the end of the line.
func (f *Filter) value(p []byte) []byte {
	line := p
	if n := bytes.IndexByte(p, '\n') + 1; n > 0 {
		line, f.state = p[:n], atLineStart
	}
	if !f.dropping {
		f.out = append(f.out, line...)
	}
	return p[len(line):]
}

// isBlank reports a space or a tab (RFC 5234, WSP).
func isBlank(c byte) bool { return c == ' ' || c == '\t' }

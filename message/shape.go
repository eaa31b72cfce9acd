package message

import (
	"errors"
	"io"
)

// Errors of Structure.Encodable.
var (
	// ErrHeader: a header section holds octets over 127, which no encoding can do
	// anything about. RFC 6531 3.5: the message needs SMTPUTF8.
	ErrHeader = errors.New("its header section is not ASCII")
	// ErrSigned: to encode a part of a multipart/signed would break the signature, which
	// is part of what the sender wrote (RFC 6152 3: the conversion "must cause no loss of
	// information"). A DKIM-Signature is another thing: the sender has not made it, and a
	// message whose signature does not verify is as good as one without (RFC 6376 6.3).
	ErrSigned = errors.New("what would have to be encoded is signed")
	// ErrStructure: it is not in the form that MIME has, or in one that allows no
	// encoding.
	ErrStructure = errors.New("it is not in a form of MIME that can be encoded")
)

// A Structure is the MIME structure of a message, as far as it decides how the
// message can be transported. See Survey.
type Structure struct {
	entities []entity
	many     bool  // there are more than entitiesMax, of which nothing is kept
	head8    bool  // octets over 127 in the header section of any
	signed   Shape // the most of what is between parts within a multipart/signed
}

// Survey reads a message to its end, and finds what it needs to be transported. It
// never holds more than a line, and a few words for each part. The error is that of r.
func Survey(r io.Reader) (*Structure, error) {
	s := &Structure{}
	v := &surveyor{s: s}
	w := newWalker(r, v)
	for {
		if err := w.step(); err == io.EOF {
			return s, nil
		} else if err != nil {
			return nil, err
		}
	}
}

// A surveyor makes a Structure.
type surveyor struct {
	s    *Structure
	body measure
}

func (v *surveyor) head(e *entity, _ []byte) {
	v.s.head8 = v.s.head8 || e.head8
	if v.s.many = len(v.s.entities) == entitiesMax; !v.s.many {
		v.s.entities = append(v.s.entities, *e)
	}
	v.body = measure{}
}

func (v *surveyor) piece(_ *entity, p []byte) {
	v.body.write(p)
}

func (v *surveyor) end(*entity) {
	if !v.s.many {
		last := &v.s.entities[len(v.s.entities)-1]
		last.shape = v.body.shape()
	}
}

func (v *surveyor) between(e *entity, p []byte) {
	if e.signed {
		v.s.signed = max(v.s.signed, shapeOf(p))
	}
}

// HeaderEightBit reports octets over 127 in a header section of the message or of a
// part of it. RFC 6531 3.2: to a server without SMTPUTF8 a client "MUST NOT transmit a
// mail message containing internationalized mail headers as described in RFC 6532 at
// any level within its MIME structure".
func (s *Structure) HeaderEightBit() bool { return s.head8 }

// Encodable reports whether the message can be given the shape to: nil, ErrHeader,
// ErrSigned or ErrStructure.
func (s *Structure) Encodable(to Shape) error {
	switch {
	case s.many:
		return ErrStructure
	case s.signed > to:
		return ErrSigned // encoder.between would write something else there
	}
	for i := range s.entities {
		e := &s.entities[i]
		switch {
		case e.head8 && to == Shape7Bit:
			return ErrHeader
		case e.headBinary && to < ShapeBinary:
			return ErrStructure
		case !e.changes(to):
		case e.signed:
			return ErrSigned
		case e.broken || e.encodes(to) && (e.fixed || !e.label7()):
			return ErrStructure
		}
	}
	return nil
}

// encodes reports whether the body of the entity must be encoded to have a shape.
func (e *entity) encodes(to Shape) bool { return e.kind == leaf && e.shape > to }

// changes reports whether anything of the entity becomes another for a shape: its
// body, or what its header says of it.
func (e *entity) changes(to Shape) bool {
	over := e.label == "binary" && to < ShapeBinary || e.label == "8bit" && to < Shape8Bit
	return e.encodes(to) || over && !e.signed // a label that promises more than there is harms nobody
}

// A measure finds the shape of octets, however they are cut.
type measure struct {
	width int
	cr    bool
	most  Shape
}

func (m *measure) write(p []byte) {
	for _, c := range p {
		switch {
		case m.most == ShapeBinary:
			return
		case c == '\n':
			if !m.cr {
				m.most = ShapeBinary
			}
			m.cr, m.width = false, 0
			continue
		case c == 0, m.cr:
			m.most = ShapeBinary
		case c == '\r':
			m.cr = true
			continue
		case c >= 0x80:
			m.most = max(m.most, Shape8Bit)
		}
		if m.width++; m.width > LineMax {
			m.most = ShapeBinary
		}
	}
}

func (m *measure) shape() Shape {
	if m.cr {
		return ShapeBinary
	}
	return m.most
}

func shapeOf(b []byte) Shape {
	var m measure
	m.write(b)
	return m.shape()
}

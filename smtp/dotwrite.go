package smtp

import "io"

// A DotWriter sends a content after the 354 reply to DATA: it adds the dots of
// RFC 5321 4.5.2 and the end. What it writes to its destination never holds a
// CR or LF that is not of a CRLF, and no line of one dot but the last, so that a
// content which came from somewhere else cannot end early at a peer that is lax.
// A content with a bare CR or LF, or with a NUL, is an error. After an error the
// end is never sent, and the connection can only be closed.
type DotWriter struct {
	w   io.Writer
	bol bool  // at the beginning of a line
	cr  bool  // a CR was taken in; it goes out with its LF
	err error // what stopped it
	buf []byte
}

// NewDotWriter returns a DotWriter that writes to w, in pieces as large as it is
// given.
func NewDotWriter(w io.Writer) *DotWriter { return &DotWriter{w: w, bol: true} }

// Write implements io.Writer. It counts octets of p.
func (d *DotWriter) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	out, fault := d.stuff(d.buf[:0], p)
	d.buf = out[:0]
	if fault == nil && len(out) > 0 {
		_, fault = d.w.Write(out)
	}
	if fault != nil {
		d.err = fault
		return 0, fault
	}
	return len(p), nil
}

// stuff appends p with dots added.
func (d *DotWriter) stuff(dst, p []byte) ([]byte, error) {
	for _, c := range p {
		switch {
		case d.cr && c != '\n':
			return dst, ErrBareCR
		case d.cr:
			dst = append(dst, '\r', '\n')
			d.cr, d.bol = false, true
			continue
		case c == '\r':
			d.cr = true
			continue
		case c == '\n':
			return dst, ErrBareLF
		case c == 0:
			return dst, ErrNUL
		case c == '.' && d.bol:
			dst = append(dst, '.')
		}
		dst = append(dst, c)
		d.bol = false
	}
	return dst, nil
}

// Close ends the content: RFC 5321 4.1.1.4: "An extra <CRLF> MUST NOT be added",
// unless the last line lacks its own. It does not close the destination. After
// an error Close writes nothing and returns that error.
func (d *DotWriter) Close() error {
	if d.err != nil {
		return d.err
	}
	if d.cr {
		d.err = ErrBareCR
		return d.err
	}
	end := "\r\n.\r\n"
	if d.bol {
		end = ".\r\n"
	}
	if _, err := io.WriteString(d.w, end); err != nil {
		d.err = err
		return err
	}
	d.err = errClosed
	return nil
}

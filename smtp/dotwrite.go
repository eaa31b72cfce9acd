package smtp

import (
	"bytes"
	"io"
)

var crByte = []byte{'\r'}

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
	out, fault := d.stuff(p)
	if fault == nil && len(out) > 0 {
		_, fault = d.w.Write(out)
	}
	if fault != nil {
		d.err = fault
		return 0, fault
	}
	return len(p), nil
}

// stuff returns p with dots added: p itself where it needs none, which is nearly
// always, and else what is built in the buffer.
func (d *DotWriter) stuff(p []byte) ([]byte, error) {
	if bytes.IndexByte(p, 0) >= 0 {
		return nil, ErrNUL
	}
	built, from := d.cr, 0 // whether there is a buffer, and what of p is not in it
	out := d.buf[:0]
	if d.cr && len(p) > 0 {
		if p[0] != '\n' {
			return nil, ErrBareCR
		}
		out, from = append(out, "\r\n"...), 1
		d.cr, d.bol = false, true
	}
	// Each LF has a CR before it, and there are no more of those: so none is bare.
	crs := bytes.Count(p[from:], crByte)
	for at := from; at < len(p); {
		if d.bol && p[at] == '.' {
			out, from, built = append(append(out, p[from:at]...), '.'), at, true
		}
		lf := bytes.IndexByte(p[at:], '\n')
		if lf < 0 {
			d.bol = false
			break
		}
		if lf == 0 || p[at+lf-1] != '\r' {
			return nil, ErrBareLF
		}
		d.bol, at = true, at+lf+1
		crs--
	}
	if last := len(p) - 1; crs > 0 && p[last] == '\r' {
		// A CR goes out with its LF.
		d.cr, p = true, p[:last]
		crs--
	}
	if crs > 0 {
		return nil, ErrBareCR
	}
	if !built {
		return p, nil
	}
	out = append(out, p[min(from, len(p)):]...)
	d.buf = out[:0]
	return out, nil
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

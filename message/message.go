// Package message handles the header section of RFC 5322 messages as octets: it
// looks at what streams by, prints our trace fields, and changes nothing. What a
// sender wrote, right or wrong, leaves as it came, for every change breaks a
// signature somewhere.
package message

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// Limits of RFC 5322 2.1.1, in octets without CRLF.
const (
	LineMax  = 998 // "Each line of characters MUST be no more than 998 characters"
	LineWant = 78  // "and SHOULD be no more than 78 characters"
)

// headerChunk is how much Header reads at once, in octets.
const headerChunk = 4096

// Header returns the header section at the beginning of r, without the empty
// line that ends it, in the octets it came in. It reads little more than it
// needs. Of a header section over limit octets it returns the first fields that
// fit, or the first lines where one field alone does not fit. An error is one of
// r, and what was read until then comes with it.
func Header(r io.Reader, limit int) ([]byte, error) {
	var (
		s     Scanner
		buf   []byte
		chunk = make([]byte, headerChunk)
	)
	for {
		n, err := r.Read(chunk)
		buf = append(buf, chunk[:n]...)
		s.Write(chunk[:n])
		eof := errors.Is(err, io.EOF)
		switch {
		case s.HeaderDone(), eof, err != nil, s.HeaderSize() > int64(limit):
			if eof {
				s.Write([]byte("\n")) // ends a line that was cut short
				err = nil
			}
			return cutHeader(buf, min(int(s.HeaderSize()), len(buf)), limit), err
		}
	}
}

// cutHeader returns the header section buf[:end], or the part of it that limit
// leaves.
func cutHeader(buf []byte, end, limit int) []byte {
	if end <= limit {
		return buf[:end]
	}
	if f := fieldBefore(buf[:end], limit); f > 0 {
		return buf[:f]
	}
	return buf[:bytes.LastIndexByte(buf[:max(limit, 0)], '\n')+1]
}

// fieldBefore returns the greatest offset of at most limit at which a field begins.
func fieldBefore(header []byte, limit int) int {
	for at := limit; at > 0; {
		lf := bytes.LastIndexByte(header[:at], '\n')
		if lf < 0 {
			return 0
		}
		if start := lf + 1; start < len(header) && header[start] != ' ' && header[start] != '\t' {
			return start
		}
		at = lf
	}
	return 0
}

// AppendDate appends t as a date-time of RFC 5322 3.3, with its offset as
// RFC 5321 4.4 asks: "SHOULD use explicit offsets in the dates".
func AppendDate(dst []byte, t time.Time) []byte {
	return t.AppendFormat(dst, "Mon, 02 Jan 2006 15:04:05 -0700")
}

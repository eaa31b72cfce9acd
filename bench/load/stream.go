package load

import (
	"bytes"
	"io"
	"time"
)

// content reads to the final dot and hands on what it was before the dots of
// transparency went in (RFC 5321 4.5.2). Nothing but CR LF ends a line.
func (c *guest) content(to io.Writer) (octets int64, err error) {
	take := func(b []byte) error {
		octets += int64(len(b))
		if to != nil {
			if _, err := to.Write(b); err != nil {
				return err
			}
		}
		return c.halfway(len(b))
	}
	begins := true // of a line
	for {
		b := c.buf[c.r:c.w]
		if begins {
			switch {
			case len(b) == 0, b[0] == '.' && len(b) < 3:
				if err := c.fill(); err != nil {
					return octets, err
				}
				continue
			case bytes.HasPrefix(b, []byte(".\r\n")):
				c.r += 3
				return octets, nil
			case b[0] == '.':
				c.r++
			}
			begins = false
			continue
		}
		if i := bytes.Index(b, []byte("\r\n.")); i >= 0 {
			c.r += i + 2
			begins = true
			if err := take(b[:i+2]); err != nil {
				return octets, err
			}
			continue
		}
		whole := len(b) - held(b)
		c.r += whole
		if err := take(b[:whole]); err != nil {
			return octets, err
		}
		if err := c.fill(); err != nil {
			return octets, err
		}
	}
}

// held is how many octets at the end of b may begin what ends a content.
func held(b []byte) int {
	switch {
	case bytes.HasSuffix(b, []byte("\r\n")):
		return 2
	case bytes.HasSuffix(b, []byte("\r")):
		return 1
	}
	return 0
}

// halfway is where a content is slowed down, or goes wrong.
func (c *guest) halfway(octets int) error {
	if octets == 0 {
		return nil
	}
	switch c.fate {
	case reset:
		c.abort()
		return errMishap
	case silent:
		c.hush()
		return errMishap
	}
	if c.s.Slow > 0 {
		c.s.wait(time.Duration(octets) * time.Second / time.Duration(c.s.Slow))
	}
	return nil
}

// hush says and reads nothing, until the client leaves or the silence is over.
func (c *guest) hush() {
	if c.s.Silence > 0 {
		c.s.wait(c.s.Silence)
		return
	}
	for {
		if _, err := c.conn.Read(c.buf); err != nil {
			return
		}
	}
}

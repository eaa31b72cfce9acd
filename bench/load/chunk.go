package load

import (
	"bytes"
	"strconv"
	"time"
)

// chunk takes what follows a BDAT (RFC 3030 2). What is not wanted is read away: "the
// receiver-SMTP MUST accept and discard the associated message data".
func (c *guest) chunk(arg []byte) error {
	left, last, ok := parseChunk(arg)
	if !ok {
		c.say("501 5.5.4 Say BDAT, a number of octets, and LAST with the last of them\r\n")
		_ = c.flush()
		return errLine // nobody can tell where the content ends
	}
	if c.rcpts == 0 {
		if err := c.pass(left, func([]byte) error { return nil }); err != nil {
			return err
		}
		c.reset()
		c.say("503 5.5.1 Say MAIL and RCPT first\r\n")
		return nil
	}
	if c.began.IsZero() {
		c.began = time.Now()
		if c.s.Keep != nil {
			var err error
			if c.to, err = c.s.Keep(); err != nil {
				return c.whole(c.began, 0, err)
			}
		}
	}
	if err := c.pass(left, c.keep); err != nil {
		return err
	}
	if !last {
		c.say("250 2.0.0 Go on\r\n")
		return nil
	}
	began, octets := c.began, c.octets
	c.s.chunked.Add(1)
	return c.whole(began, octets, c.finish())
}

// keep hands on a part of a content.
func (c *guest) keep(b []byte) error {
	c.octets += int64(len(b))
	if c.to != nil {
		if _, err := c.to.Write(b); err != nil {
			return err
		}
	}
	return c.halfway(len(b))
}

// pass reads so many octets.
func (c *guest) pass(left int64, take func([]byte) error) error {
	for left > 0 {
		if c.r == c.w {
			if err := c.fill(); err != nil {
				return err
			}
		}
		b := c.buf[c.r:c.w]
		b = b[:min(int64(len(b)), left)]
		c.r += len(b)
		left -= int64(len(b))
		if err := take(b); err != nil {
			return err
		}
	}
	return nil
}

// parseChunk reads the argument of BDAT.
func parseChunk(arg []byte) (n int64, last, ok bool) {
	arg = bytes.TrimLeft(arg, " ")
	digits, rest := 0, arg
	for len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' && digits < numberLen {
		n = n*10 + int64(rest[0]-'0')
		rest = rest[1:]
		digits++
	}
	rest = bytes.TrimSpace(rest)
	last = bytes.EqualFold(rest, []byte("LAST"))
	return n, last, digits > 0 && (last || len(rest) == 0)
}

// atOnce is one transaction in one group: MAIL, RCPT, and the content behind BDAT LAST.
func (c *client) atOnce(s *run, n int) (octets int64, err error) {
	c.out = s.mail(c.out[:0], n)
	for k := range s.Rcpts {
		c.out = s.rcpt(c.out, n*s.Rcpts+k)
	}
	octets = s.corpus.length(n)
	c.out = append(c.out, "BDAT "...)
	c.out = strconv.AppendInt(c.out, octets, 10)
	c.out = append(c.out, " LAST\r\n"...)
	c.out, _ = s.corpus.content(c.out, n)
	c.out = c.out[:len(c.out)-len(".\r\n")]
	return octets, c.group(s.Rcpts + 2)
}

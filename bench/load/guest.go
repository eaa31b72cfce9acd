package load

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// guestBuf is how many octets of a connection are read at once; a longer line ends
// it.
const guestBuf = 32 << 10

// A guest is one connection of a sink.
type guest struct {
	s    *Sink
	conn net.Conn
	*buffers
	r, w int // what is read and not yet looked at: buf[r:w]

	mail  bool // a transaction is open
	rcpts int
	from  int // the number in the reverse-path; -1: none
	fate  mishap

	// Of a content that comes in chunks.
	began  time.Time      // zero: none has come yet
	to     io.WriteCloser // nil: nowhere
	octets int64          // so far
}

// Buffers are what a connection needs that another can use after it.
type buffers struct{ buf, out []byte }

var (
	errLine   = errors.New("a line is too long")
	errMishap = errors.New("as told")
)

func (s *Sink) serve(conn net.Conn) {
	b, _ := s.bufs.Get().(*buffers)
	if b == nil {
		b = &buffers{buf: make([]byte, guestBuf)}
	}
	b.out = b.out[:0]
	c := &guest{s: s, conn: conn, buffers: b}
	defer s.leave(c)
	defer c.reset()
	c.say("220 sink.invalid ESMTP\r\n")
	for {
		line, err := c.line()
		if err != nil {
			switch {
			case errors.Is(err, errLine):
				c.say("500 5.5.6 A line is too long\r\n")
			case errors.Is(err, os.ErrDeadlineExceeded):
				c.say("421 4.3.2 Closing\r\n")
			}
			_ = c.flush()
			return
		}
		if err := c.command(line); err != nil {
			return
		}
	}
}

func (c *guest) say(reply string) { c.out = append(c.out, reply...) }

func (c *guest) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// fill reads more. What was said goes out before, so replies to a group of
// commands go together.
func (c *guest) fill() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		return errLine
	}
	n, err := c.conn.Read(c.buf[c.w:])
	c.w += n
	if n > 0 {
		return nil
	}
	return err
}

// line returns the next line without CR LF, until the next call.
func (c *guest) line() ([]byte, error) {
	for {
		if i := bytes.Index(c.buf[c.r:c.w], []byte("\r\n")); i >= 0 {
			line := c.buf[c.r : c.r+i]
			c.r += i + 2
			return line, nil
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// is reports whether a line begins with a verb of four letters, in capitals.
func is(line []byte, verb string) bool {
	return len(line) >= 4 && line[0]&^0x20 == verb[0] && line[1]&^0x20 == verb[1] && line[2]&^0x20 == verb[2] && line[3]&^0x20 == verb[3]
}

// command answers one. An error ends the connection.
func (c *guest) command(line []byte) error {
	switch {
	case is(line, "MAIL"):
		return c.begin(line)
	case is(line, "RCPT"):
		c.recipient()
	case is(line, "DATA"):
		return c.data()
	case is(line, "BDAT"):
		return c.chunk(line[4:])
	case is(line, "EHLO"):
		c.reset()
		c.say("250-sink.invalid\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE\r\n")
	case is(line, "HELO"):
		c.reset()
		c.say("250 sink.invalid\r\n")
	case is(line, "RSET"):
		c.reset()
		c.say("250 2.0.0 Ok\r\n")
	case is(line, "NOOP"):
		c.say("250 2.0.0 Ok\r\n")
	case is(line, "VRFY"):
		c.say("252 2.1.5 Send some mail\r\n")
	case is(line, "QUIT"):
		c.say("221 2.0.0 Bye\r\n")
		if err := c.flush(); err != nil {
			return err
		}
		return io.EOF
	default:
		c.say("500 5.5.1 Unknown\r\n")
	}
	return nil
}

func (c *guest) reset() {
	c.mail, c.rcpts = false, 0
	if !c.began.IsZero() {
		c.s.failed("a content that breaks off")
		c.finish()
	}
}

// finish ends a content that came in chunks.
func (c *guest) finish() (err error) {
	if c.to != nil {
		err = c.to.Close()
	}
	c.began, c.to, c.octets = time.Time{}, nil, 0
	return err
}

func (c *guest) begin(line []byte) error {
	if c.mail {
		c.say("503 5.5.1 A transaction is open\r\n")
		return nil
	}
	open, end := bytes.IndexByte(line, '<'), bytes.IndexByte(line, '>')
	if open < 0 || end < open {
		c.say("501 5.5.4 Say MAIL FROM:<address>\r\n")
		return nil
	}
	c.mail, c.rcpts, c.fate, c.from = true, 0, c.s.fate(), -1
	if c.s.Track > 0 {
		c.from = numberOf(line[open+1 : end])
	}
	c.say("250 2.1.0 Ok\r\n")
	return nil
}

// numberOf returns the number that the digits before the "@" are; -1: none.
func numberOf(address []byte) int {
	at := bytes.LastIndexByte(address, '@')
	n, unit, digits := 0, 1, 0
	for i := at - 1; i >= 0 && address[i] >= '0' && address[i] <= '9' && digits < numberLen; i-- {
		n += int(address[i]-'0') * unit
		unit *= 10
		digits++
	}
	if digits == 0 {
		return -1
	}
	return n
}

func (c *guest) recipient() {
	switch {
	case !c.mail:
		c.say("503 5.5.1 Say MAIL first\r\n")
	case c.fate == refused:
		c.s.failed("451 to RCPT")
		c.say("451 4.7.1 Try later, as told\r\n")
	default:
		c.rcpts++
		c.say("250 2.1.5 Ok\r\n")
	}
}

func (c *guest) data() error {
	switch {
	case !c.mail:
		c.say("503 5.5.1 Say MAIL first\r\n")
		return nil
	case c.rcpts == 0:
		c.reset()
		c.say("554 5.5.1 No valid recipients\r\n")
		return nil
	case !c.began.IsZero():
		c.say("503 5.5.1 The content comes in chunks\r\n")
		return nil
	}
	began := time.Now()
	c.say("354 Go on\r\n")
	var to io.WriteCloser
	if c.s.Keep != nil {
		var err error
		if to, err = c.s.Keep(); err != nil {
			return c.whole(began, 0, err)
		}
	}
	octets, err := c.content(to)
	if to != nil {
		if closeErr := to.Close(); err == nil && closeErr != nil {
			return c.whole(began, octets, closeErr)
		}
	}
	if err != nil {
		c.s.failed("a content that breaks off")
		return err
	}
	return c.whole(began, octets, nil)
}

// whole answers a content that came to its end, or could not be kept.
func (c *guest) whole(began time.Time, octets int64, err error) error {
	if c.s.Latency > 0 {
		if err := c.flush(); err != nil {
			return err
		}
		c.s.wait(c.s.Latency)
	}
	if err != nil {
		c.s.failed("not kept: " + err.Error())
		c.say("451 4.3.0 Not kept\r\n")
		_ = c.flush()
		return err
	}
	ended := time.Now()
	c.s.took(octets, began, ended, c.from)
	c.reset()
	if c.fate == lost {
		c.abort()
		return errMishap
	}
	c.say("250 2.0.0 Ok\r\n")
	return nil
}

// abort resets the connection.
func (c *guest) abort() {
	if t, ok := c.conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.conn.Close()
}

package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	replyMax  = 4096      // octets of a line of a reply
	rcptGroup = 500       // recipients that go without waiting for their replies: neither side then fills the other's buffers
	joinMax   = 256 << 10 // octets of content that are copied behind each other, to go in one write
)

// A client is one connection of a source.
type client struct {
	conn    net.Conn
	r       *bufio.Reader
	out     []byte
	stop    func() bool // ends the watch over the context
	timeout time.Duration
	armed   time.Time // when the deadline was set last
}

// An offer is what a server offers, of what a source can use.
type offer struct{ pipelining, chunking bool }

// connect opens a connection, and says EHLO. What was another one's buffers may
// be handed in, else nil.
func (s *Source) connect(ctx context.Context, was *client) (c *client, has offer, err error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, has, err
	}
	c = &client{conn: conn, timeout: s.timeout()}
	if was != nil {
		c.r, c.out = was.r, was.out[:0]
		c.r.Reset(conn)
	} else {
		c.r = bufio.NewReaderSize(conn, replyMax)
	}
	c.stop = context.AfterFunc(ctx, func() { conn.Close() })
	c.arm(time.Now())
	if err := c.want('2'); err != nil {
		c.drop()
		return nil, has, err
	}
	c.out = append(c.out[:0], "EHLO bench.example\r\n"...)
	if err := c.flush(); err != nil {
		c.drop()
		return nil, has, err
	}
	for {
		line, err := c.line()
		if err == nil && line[0] != '2' {
			err = refusal(line)
		}
		if err != nil {
			c.drop()
			return nil, has, err
		}
		has.pipelining = has.pipelining || strings.EqualFold(string(line[4:]), "PIPELINING")
		has.chunking = has.chunking || strings.EqualFold(string(line[4:]), "CHUNKING")
		if line[3] != '-' {
			return c, has, nil
		}
	}
}

func (s *Source) dial(ctx context.Context) (net.Conn, error) {
	if s.Dial != nil {
		return s.Dial(ctx)
	}
	d := net.Dialer{Timeout: s.timeout()}
	return d.DialContext(ctx, "tcp", s.Server)
}

// arm sets the deadline, at most once a second: a timer for each message would
// be a good part of what a message costs.
func (c *client) arm(now time.Time) {
	if now.Sub(c.armed) > time.Second {
		c.armed = now
		c.conn.SetDeadline(now.Add(c.timeout))
	}
}

// drop ends the connection at once.
func (c *client) drop() {
	c.stop()
	c.conn.Close()
}

// quit ends it as RFC 5321 4.1.1.10 asks.
func (c *client) quit() {
	c.out = append(c.out[:0], "QUIT\r\n"...)
	if c.flush() == nil {
		_ = c.want('2')
	}
	c.drop()
}

func (c *client) flush() error {
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// line reads a line of a reply, without its end: a code, and a hyphen or a space.
func (c *client) line() ([]byte, error) {
	b, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	if len(b) == 3 {
		b = append(b, ' ')
	}
	if len(b) < 4 {
		return nil, fmt.Errorf("%q is no reply", b)
	}
	return b, nil
}

// want reads a reply that begins with a digit.
func (c *client) want(digit byte) error {
	for {
		b, err := c.line()
		switch {
		case err != nil:
			return err
		case b[0] != digit:
			return refusal(b)
		case b[3] != '-':
			return nil
		}
	}
}

// A refusal is a reply that was not wanted.
type refusal string

func (r refusal) Error() string { return string(r) }

// cause is an error in few words, the same for all that are alike.
func cause(err error) string {
	var said refusal
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &said):
		return strings.ToValidUTF8(string(said[:min(len(said), 80)]), "?")
	case errors.Is(err, context.Canceled):
		return "stopped"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return "connection closed"
	}
	return err.Error()
}

// send is one transaction. On an error the connection is of no more use.
func (c *client) send(s *run, n int) (octets int64, err error) {
	if s.Chunk {
		return c.atOnce(s, n)
	}
	if s.Pipeline {
		err = c.envelopeAtOnce(s, n)
	} else {
		err = c.envelope(s, n)
	}
	if err != nil {
		return 0, err
	}
	if s.Size <= joinMax {
		c.out, octets = s.corpus.content(c.out[:0], n)
		err = c.flush()
	} else {
		c.out = s.corpus.header(c.out[:0], n)
		body := s.corpus.body(n)
		octets = int64(len(c.out) + len(body) + len("\r\n"))
		parts := net.Buffers{c.out, body, []byte("\r\n.\r\n")}
		_, err = parts.WriteTo(c.conn)
	}
	if err != nil {
		return 0, err
	}
	return octets, c.want('2')
}

// envelope waits for each reply, as a client does that was not offered
// PIPELINING.
func (c *client) envelope(s *run, n int) error {
	c.out = s.mail(c.out[:0], n)
	if err := c.step('2'); err != nil {
		return err
	}
	for k := range s.Rcpts {
		c.out = s.rcpt(c.out[:0], n*s.Rcpts+k)
		if err := c.step('2'); err != nil {
			return err
		}
	}
	c.out = append(c.out[:0], "DATA\r\n"...)
	return c.step('3')
}

func (c *client) step(digit byte) error {
	if err := c.flush(); err != nil {
		return err
	}
	return c.want(digit)
}

// envelopeAtOnce sends it in groups (RFC 2920 3.1), and in one where it has few
// recipients.
func (c *client) envelopeAtOnce(s *run, n int) error {
	c.out = s.mail(c.out[:0], n)
	waiting := 1
	for k := range s.Rcpts {
		c.out = s.rcpt(c.out, n*s.Rcpts+k)
		if waiting++; waiting >= rcptGroup {
			if err := c.group(waiting); err != nil {
				return err
			}
			waiting = 0
		}
	}
	c.out = append(c.out, "DATA\r\n"...)
	if err := c.group(waiting); err != nil {
		return err
	}
	return c.want('3')
}

// group sends what is there, and reads so many positive replies.
func (c *client) group(replies int) error {
	if err := c.flush(); err != nil {
		return err
	}
	for range replies {
		if err := c.want('2'); err != nil {
			return err
		}
	}
	return nil
}

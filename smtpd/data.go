package smtpd

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/postrider/postrider/smtp"
)

// data answers DATA, takes the content, and answers that.
func (c *conn) data(ctx context.Context, _ string) smtp.Reply {
	if c.state.binary {
		// RFC 3030 3: "If a DATA command is issued after a MAIL command containing the
		// body-value of "BINARYMIME", a 503 "Bad sequence of commands" response MUST be
		// sent."
		return *no(503, 5, 1, "A binary message comes by BDAT")
	}
	c.answer(smtp.Reply{Code: 354, Text: "Send the message, end with <CRLF>.<CRLF>"}, false)
	if c.dead != nil {
		return smtp.Reply{}
	}
	want, each := 1, c.state.rcpts
	if c.client.LMTP {
		want, each = each, 1
	}
	// The transaction ends here, whatever comes: RFC 5321 4.1.1.4: "on the
	// completion of this command these buffers are cleared".
	c.state.reset()
	c.begin()
	r := c.openContent()
	replies := c.session.Data(ctx, r)
	c.away = true
	_, _ = r.WriteTo(io.Discard)
	r.close()
	c.done()

	if bad, ok := r.err.(*ContentError); ok {
		replies = []smtp.Reply{bad.Reply}
	} else if r.err != io.EOF {
		// The client was lost before the end. There is nobody to answer, and what
		// the session did with half a message is undone by the error that it saw.
		_ = c.die(r.err)
		return smtp.Reply{}
	}
	return c.verdicts(replies, want, each)
}

// begin is before the first read of a content.
func (c *conn) begin() {
	c.content, c.pace, c.deadline = true, c.server.pace(), time.Time{}
}

// done is after the last read of a content.
func (c *conn) done() { c.content, c.away = false, false }

// verdicts answers a content so many times, each time for so many recipients, and
// returns the last of the replies.
func (c *conn) verdicts(replies []smtp.Reply, want, each int) (last smtp.Reply) {
	for i := range want {
		if i > 0 {
			c.answer(last, true)
		}
		last = smtp.Reply{}
		if n := len(replies); n > 0 {
			last = replies[min(i, n-1)]
		}
		last = final(last)
		if c.state.data(last, each); last.Positive() {
			c.since = time.Now()
		}
		c.closing = c.closing || last.Code == 421
	}
	return last
}

// A content is the reader that Session.Data is given. What it gives out stands in
// the buffer of the connection: nothing is copied for a session that lets it write.
type content struct {
	c     *conn
	dots  smtp.DotReader
	have  []byte // taken from the buffer, and not given out yet
	limit int64  // 0: none
	size  int64
	err   error // lasts
}

// errOver is of a content that is read when Data has returned.
var errOver = errors.New("smtpd: the content is read after its time")

// openContent lays a larger buffer on the desk for as long as the content comes,
// so that only connections with mail in hand need one.
func (c *conn) openContent() *content {
	c.resize(contentSize)
	return &content{c: c, limit: c.server.MaxSize}
}

// close takes the connection from a content. What was read after the end of the
// content is the next command. RFC 2920 3.2: a server "MUST NOT flush or otherwise lose the
// contents of the TCP input buffer under any circumstances whatsoever".
func (r *content) close() {
	r.c, r.have = nil, nil
	if r.err == nil {
		r.err = errOver
	}
}

// Read implements io.Reader.
func (r *content) Read(p []byte) (int, error) {
	if len(r.have) == 0 {
		r.have = r.next()
	}
	if len(r.have) == 0 {
		return 0, r.err
	}
	n := copy(p, r.have)
	r.have = r.have[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (r *content) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if len(r.have) == 0 {
			r.have = r.next()
		}
		if len(r.have) == 0 {
			if r.err == io.EOF {
				return total, nil
			}
			return total, r.err
		}
		n, err := w.Write(r.have)
		r.have = nil
		if total += int64(n); err != nil {
			return total, err
		}
	}
}

// next returns the next octets of the content. There are none when r.err is set.
func (r *content) next() []byte {
	for r.err == nil {
		c := r.c
		if c.r == c.w {
			if r.err = c.fill(); errors.Is(r.err, io.EOF) {
				r.err = io.ErrUnexpectedEOF
			}
			if r.err != nil {
				break
			}
		}
		part, used, err := r.dots.Next(c.buf[c.r:c.w])
		c.r += used
		r.size += int64(len(part))
		tooMuch := r.limit > 0 && r.size > r.limit
		if r.err = err; err != nil && tooMuch {
			r.err = &ContentError{tooLarge(r.limit)}
		} else if reply := contentReply(err); reply != nil {
			r.err = &ContentError{*reply}
		}
		// What is too much does not go to the session, and is read away to the true end.
		if len(part) > 0 && !tooMuch {
			return part
		}
		c.away = c.away || tooMuch
	}
	return nil
}

// contentReply is what the client hears of a content that a DotReader refused,
// or nil if err is no such refusal.
func contentReply(err error) *smtp.Reply {
	switch err {
	case smtp.ErrBareCR, smtp.ErrBareLF:
		return no(550, 6, 0, "A line of the message ends in CR or LF alone; RFC 5321 2.3.8 wants CR LF")
	case smtp.ErrNUL:
		return no(550, 6, 0, "The message holds a NUL octet")
	case smtp.ErrLineTooLong:
		// RFC 5321 4.5.3.1.9: "500 Line too long."
		return no(500, 6, 0, "A line of the message is too long")
	}
	return nil
}

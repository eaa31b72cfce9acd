package smtpd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"time"

	"github.com/postrider/postrider/smtp"
)

// contentSize is the buffer that content is read through.
const contentSize = 32 << 10

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
	c.content, c.pace = true, c.server.pace()
	r := c.openContent()
	replies := c.session.Data(ctx, r)
	_, _ = io.Copy(io.Discard, r)
	c.closeContent(r)
	c.content = false

	var bad *ContentError
	if errors.As(r.err, &bad) {
		replies = []smtp.Reply{bad.Reply}
	} else if r.err != io.EOF {
		// The client was lost before the end. There is nobody to answer, and what
		// the session did with half a message is undone by the error that it saw.
		_ = c.die(r.err)
		return smtp.Reply{}
	}
	return c.verdicts(replies, want, each)
}

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

// A content is the reader that Session.Data is given.
type content struct {
	in    *bufio.Reader
	dots  *smtp.DotReader
	limit int64 // 0: none
	size  int64
	err   error // lasts
}

// openContent lays a larger buffer over c.in for as long as the content comes,
// so that only connections with mail in hand need one.
func (c *conn) openContent() *content {
	in, ok := c.server.buffers.Get().(*bufio.Reader)
	if !ok {
		in = bufio.NewReaderSize(nil, contentSize)
	}
	in.Reset(c.in)
	return &content{in: in, dots: smtp.NewDotReader(in), limit: c.server.MaxSize}
}

// closeContent puts back what was read after the end of the content. Nothing of
// it is lost: RFC 2920 3.2: a server "MUST NOT flush or otherwise lose the
// contents of the TCP input buffer under any circumstances whatsoever".
func (c *conn) closeContent(r *content) {
	// The larger buffer has emptied c.in whenever it was filled.
	rest, _ := r.in.Peek(r.in.Buffered())
	c.pre = append(append([]byte(nil), rest...), c.pre...)
	r.in.Reset(nil)
	c.server.buffers.Put(r.in)
	r.in, r.dots = nil, nil
}

// Read implements io.Reader.
func (r *content) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.dots.Read(p)
	if r.size += int64(n); r.limit > 0 && r.size > r.limit {
		// Nothing more goes to the session; the rest is read away to the true end.
		n = 0
		if err == nil {
			_, err = io.Copy(io.Discard, r.dots)
		}
		if err == nil || err == io.EOF || contentReply(err) != nil {
			r.err = &ContentError{tooLarge(r.limit)}
			return 0, r.err
		}
	}
	if err != nil {
		r.err = err
		if reply := contentReply(err); reply != nil {
			r.err = &ContentError{*reply}
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, r.err
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

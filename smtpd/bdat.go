package smtpd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"strconv"

	"github.com/postrider/postrider/smtp"
)

// ErrAbandoned comes from the content reader of Session.Data when the client has
// given up a message in the middle, with RSET or another command that resets,
// between two chunks of BDAT.
var ErrAbandoned = errors.New("smtpd: the client has given the message up")

// unsaid is the reply of a command that has been answered already, or by nothing.
var unsaid = smtp.Reply{Code: -1}

// chunks is the content of a message that comes by BDAT (RFC 3030), as Session.Data
// reads it. It pulls: when the present chunk is used up it answers that, and reads
// commands until the next. So a message needs no goroutine of its own, no more of
// it is in hand than the session reads, and its commands are in the same order of
// things as all others; the phase chunking says what may come between.
type chunks struct {
	c      *conn
	ctx    context.Context
	chunk  smtp.Chunk     // the present one
	left   int64          // octets of it that have not been read
	fresh  bool           // a chunk was announced that nobody has read of
	size   int64          // of all chunks so far
	binary bool           // BODY=BINARYMIME: any octets
	lines  smtp.LineCheck // else
	err    error          // lasts; io.EOF at the true end
}

// bdat answers BDAT where the state allows it.
func (c *conn) bdat(ctx context.Context, arg string) smtp.Reply {
	chunk, sized, bad := smtp.ParseChunk(arg)
	switch {
	case c.state.phase == chunking:
		c.pace.read(-len("BDAT \r\n")-len(arg), 0) // it is no content
		c.chunks.announce(chunk, sized, bad)
		return unsaid // by who reads
	case !sized:
		c.hopeless = true
		return *bad
	case c.state.phase == spoilt:
		return c.spoiltChunk(chunk)
	case bad != nil:
		c.state.spoil(*bad)
		c.session.Reset() // it has not heard of this content, and now never will
		if !c.discard(chunk.Size) {
			return unsaid
		}
		return *bad
	case !c.state.ext.Has(smtp.ExtChunking):
		return c.swallow(arg, *no(503, 5, 1, "BDAT needs EHLO"))
	}
	k := &chunks{c: c, ctx: ctx, binary: c.state.binary}
	c.state.chunk()
	c.begin()
	c.chunks = k
	c.resize(contentSize)
	k.announce(chunk, sized, bad)
	replies := c.session.Data(ctx, k)
	r := k.finish(replies)
	c.chunks = nil
	c.done()
	return r
}

// announce takes note of a chunk that is to come.
func (k *chunks) announce(chunk smtp.Chunk, sized bool, bad *smtp.Reply) {
	k.chunk, k.left, k.fresh = chunk, chunk.Size, true
	limit := k.c.server.MaxSize
	if limit <= 0 {
		limit = math.MaxInt64
	}
	if chunk.Size == 0 && !chunk.Last {
		k.c.state.idle++ // brings nothing, for ever
	}
	switch {
	case !sized:
		k.c.hopeless = true
		k.err = &ContentError{*bad}
	case bad != nil:
		k.fail(bad)
	case chunk.Size > limit-k.size:
		refusal := tooLarge(limit)
		k.fail(&refusal)
	}
	k.size += chunk.Size
}

// Read implements io.Reader.
func (k *chunks) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	part := k.next(len(p))
	if k.err != nil {
		return 0, k.err
	}
	return copy(p, part), nil
}

// WriteTo implements io.WriterTo.
func (k *chunks) WriteTo(w io.Writer) (total int64, err error) {
	for {
		part := k.next(contentSize)
		switch {
		case k.err == io.EOF:
			return total, nil
		case k.err != nil:
			return total, k.err
		}
		n, err := w.Write(part)
		if total += int64(n); err != nil {
			return total, err
		}
	}
}

// next returns the next octets of the content, at most so many, as they stand in
// the buffer of the connection. There are none when k.err is set.
func (k *chunks) next(most int) []byte {
	for k.left == 0 && k.err == nil {
		k.more()
	}
	c := k.c
	for k.err == nil && c.r == c.w {
		if err := c.fill(); err != nil {
			k.lose(err)
		}
	}
	if k.err != nil {
		return nil
	}
	part := c.buf[c.r : c.r+int(min(k.left, int64(c.w-c.r), int64(most)))]
	c.r += len(part)
	k.left -= int64(len(part))
	if !k.binary {
		if reply := contentReply(k.lines.Check(part)); reply != nil {
			k.fail(reply)
			return nil
		}
	}
	return part
}

// more goes on after the end of a chunk: to the end of the content, or to the next
// chunk, or to why there is none.
func (k *chunks) more() {
	c := k.c
	if k.chunk.Last {
		k.err = io.EOF
		if reply := contentReply(k.lines.End()); reply != nil && !k.binary {
			k.err = &ContentError{*reply}
		}
		return
	}
	c.answer(smtp.Reply{Code: 250, Status: smtp.Status{Class: 2}, Text: strconv.FormatInt(k.chunk.Size, 10) + " octets received"}, true)
	for k.fresh = false; !k.fresh && k.err == nil; {
		switch {
		case c.next(k.ctx):
		case c.again != nil:
			k.err = ErrAbandoned
		case c.dead != nil:
			k.lose(c.dead)
		default:
			k.err = io.ErrUnexpectedEOF // it was the last command of this connection
			c.cancel()
		}
	}
}

// fail refuses the content. RFC 3030 2: "If a failure occurs after a BDAT command is
// received, the receiver-SMTP MUST accept and discard the associated message data
// before sending the appropriate 5XX or 4XX code."
func (k *chunks) fail(reply *smtp.Reply) {
	k.err = &ContentError{*reply}
	k.skip()
}

// skip reads the present chunk away.
func (k *chunks) skip() {
	if err := k.c.skip(k.left); err != nil {
		k.lose(err)
	}
	k.left = 0
}

// lose takes note of a connection that is lost. That is never the end of a message.
func (k *chunks) lose(err error) {
	if k.err = err; errors.Is(err, io.EOF) {
		k.err = io.ErrUnexpectedEOF
	}
	_ = k.c.die(k.err)
}

// finish answers the chunk that Data has come to with its replies.
func (k *chunks) finish(replies []smtp.Reply) smtp.Reply {
	c := k.c
	want, each := 1, c.state.rcpts
	if c.client.LMTP {
		want, each = each, 1
	}
	taken := false
	for _, r := range replies {
		taken = taken || r.Positive()
	}
	switch {
	case k.err != nil:
	case taken:
		c.away = true
		_, _ = io.Copy(io.Discard, k) // what Data does not read is read away
	default:
		k.skip() // and the others when they come
	}
	bad, refused := k.err.(*ContentError)
	switch {
	case refused:
		replies = []smtp.Reply{bad.Reply}
	case k.err != nil && k.err != io.EOF:
		c.state.reset()
		return unsaid
	}
	if k.chunk.Last {
		c.state.reset()
		return c.verdicts(replies, want, each)
	}
	r := c.verdicts(replies, 1, each)
	c.state.spoil(r)
	return r
}

// spoiltChunk answers a chunk of a message that has failed before. A client that
// pipelines has sent it already; RFC 3030 2: the server "MUST be prepared to accept
// and discard additional BDAT chunks already in the pipeline after the failed BDAT."
func (c *conn) spoiltChunk(chunk smtp.Chunk) smtp.Reply {
	if !c.discard(chunk.Size) {
		return unsaid
	}
	want, r := 1, *c.state.spoilt
	if !chunk.Last {
		return r
	}
	if c.client.LMTP {
		want = c.state.rcpts
	}
	c.state.reset()
	return c.verdicts([]smtp.Reply{r}, want, 1)
}

// isChunk reports whether a line that is no command may be meant for a BDAT, so that
// content follows it.
func isChunk(line []byte) bool {
	return len(line) >= len("BDAT") && bytes.EqualFold(line[:len("BDAT")], []byte("BDAT"))
}

// swallow answers a BDAT that is not allowed with r, after its chunk: what the
// client means for content must never be taken for commands.
func (c *conn) swallow(arg string, r smtp.Reply) smtp.Reply {
	chunk, sized, bad := smtp.ParseChunk(arg)
	if !sized {
		c.hopeless = true
		return *bad
	}
	if !c.discard(chunk.Size) {
		return unsaid
	}
	// RFC 2033 4.3: "If there were no previously successful RCPT commands in the mail
	// transaction, then the BDAT LAST command returns zero replies."
	if c.client.LMTP && chunk.Last && (c.state.phase == mailing || c.state.excused > 0) {
		return unsaid
	}
	return r
}

// discard reads octets away, and reports whether the connection is still there.
func (c *conn) discard(n int64) bool {
	c.begin()
	err := c.skip(n)
	c.done()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err == nil || c.die(err) == nil
}

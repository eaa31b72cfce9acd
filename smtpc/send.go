package smtpc

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A Transaction is one message on its way to some recipients.
type Transaction struct {
	From smtp.Path
	// Params are what is known of the message. What only informs the peer goes where
	// it is offered: SIZE, AUTH, SOLICIT, MT-PRIORITY, BY with the mode N, and the
	// parameters of DSN (RFC 3461 5.2.2). What must not get lost is a *NeedError where
	// it is not offered: SMTPUTF8, BODY, BY with the mode R, HOLDFOR and HOLDUNTIL, and
	// RRVS of a recipient without C. Over LMTP, where the peer delivers, BY and RRVS
	// only inform.
	Params smtp.MailParams
	Rcpts  []Rcpt
	// Content is in lines that end in CRLF, dots not stuffed; with BODY=BINARYMIME
	// it is any octets.
	Content io.Reader
	// End is when the transaction must be over, whatever its waits have left: what goes
	// on then is a timeout. Zero: only each wait has its bound.
	End time.Time
}

// A Rcpt is one recipient of a transaction.
type Rcpt struct {
	To     smtp.Path
	Params smtp.RcptParams
}

// A Result is what became of a transaction: the reply of each stage that was
// reached, Code 0 where there was none.
type Result struct {
	Mail  smtp.Reply
	Rcpts []smtp.Reply // one for each recipient
	Data  smtp.Reply
	Final smtp.Reply
	// Finals are the replies to the final dot over LMTP, one for each recipient,
	// in place of Final. RFC 2033 4.2: "the server returns one reply for each
	// previously successful RCPT command in the mail transaction".
	Finals []smtp.Reply
	// Uncertain: the final dot was sent wholly and no reply came that could be
	// read, or over LMTP not all of them. The peer may have the message, for those
	// that it took at RCPT and of whom nothing decides (RFC 1047).
	Uncertain bool
	// Err tells why the transaction ended early: an *Error when the connection
	// did, a *ContentError, a *NeedError, or a *SizeError.
	Err error
}

// Decides returns the reply that decides recipient i, and its stage; a reply of
// Code 0 and no stage if none was heard.
func (r *Result) Decides(i int) (smtp.Reply, Stage) {
	switch {
	case refused(r.Mail):
		return r.Mail, StageMail
	case refused(r.Rcpts[i]):
		return r.Rcpts[i], StageRcpt
	case refused(r.Data):
		return r.Data, StageData
	case r.Final.Code != 0:
		return r.Final, StageFinal
	case r.Finals != nil && r.Finals[i].Code != 0:
		return r.Finals[i], StageFinal
	}
	return smtp.Reply{}, 0
}

func refused(r smtp.Reply) bool {
	return r.Code != 0 && !r.Positive() && !r.Intermediate()
}

// Accepted counts the recipients that the peer took at RCPT.
func (r *Result) Accepted() int {
	n := 0
	for _, reply := range r.Rcpts {
		if reply.Positive() {
			n++
		}
	}
	return n
}

// Send makes one transaction. With PIPELINING the whole envelope and DATA go in
// groups, else command by command. What is not in lines, and what Params.Size says
// is long, goes by BDAT where the peer offers CHUNKING.
func (c *Conn) Send(ctx context.Context, t Transaction) Result {
	res := Result{Rcpts: make([]smtp.Reply, len(t.Rcpts))}
	if res.Err = c.alive(StageMail); res.Err != nil || len(t.Rcpts) == 0 {
		return res
	}
	if res.Err = c.plan(&t); res.Err != nil {
		return res
	}
	defer c.watch(ctx)()
	c.out.end = t.End
	defer func() { c.out.end = time.Time{} }()
	if res.Err = c.envelope(&res); res.Err != nil {
		return res
	}
	taken := res.Mail.Positive() && res.Accepted() > 0
	switch {
	case c.chunked(t.Params, t.Params.Size):
		if taken {
			c.chunks(t.Content, t.Params.Body == smtp.BodyBinaryMIME, &res)
		}
	case !res.Data.Intermediate():
	case taken:
		c.content(t.Content, &res)
	default:
		res.Err = c.loneDot()
	}
	return res
}

// groupMax bounds the octets of commands that wait for their replies.
//
// RFC 2920 3.1: a client that does not read while it writes must "make sure that
// each group of commands fits entirely within the window", which "is usually,
// but not always, 4K octets". Otherwise each end may wait for the other to read.
const groupMax = 4096

// envelope sends the commands up to DATA and reads their replies.
//
// RFC 2920 3.1: "Client SMTP implementations that employ pipelining MUST check
// ALL statuses associated with each command in a group."
func (c *Conn) envelope(res *Result) error {
	pipelining := c.has(smtp.ExtPipelining)
	steps, start := c.steps, 0
	for len(steps) > 0 && !refused(res.Mail) {
		if steps[0].stage == StageData && res.Accepted() == 0 {
			return nil
		}
		n := 1
		if pipelining {
			n = groupLen(steps, start)
		}
		end := steps[n-1].end
		if err := c.group(steps[:n], c.lines[start:end], res); err != nil {
			return err
		}
		steps, start = steps[n:], end
	}
	return nil
}

// groupLen is how many of the steps, whose lines begin at start, go in the next
// group: at least one.
func groupLen(steps []step, start int) int {
	for i, s := range steps {
		if s.end-start > groupMax && i > 0 {
			return i
		}
	}
	return len(steps)
}

// group sends the lines of some steps at once and reads one reply for each.
func (c *Conn) group(steps []step, lines []byte, res *Result) error {
	if err := c.sendLines(steps[0].stage, c.timeouts.Command, lines); err != nil {
		return err
	}
	for _, s := range steps {
		timeout := c.timeouts.Command
		if s.stage == StageData {
			timeout = c.timeouts.Data
		}
		r, err := c.read(s.stage, timeout)
		if err != nil {
			return err
		}
		switch s.stage {
		case StageReset:
			if err := c.afterReset(r); err != nil {
				return err
			}
		case StageMail:
			res.Mail, c.dirty = r, true
			c.mails++
		case StageRcpt:
			res.Rcpts[s.rcpt] = rcptReply(r)
		case StageData:
			res.Data = r
		}
	}
	return nil
}

// rcptReply reads a 552 to RCPT as the 452 that was meant.
//
// RFC 5321 4.5.3.1.10: "Clients SHOULD treat a 552 code in this case as a
// temporary, rather than permanent, failure". Not where the status says that the
// message is too big for the recipient, which RFC 1870 6.4 makes final.
func rcptReply(r smtp.Reply) smtp.Reply {
	tooBig := r.Status.Subject == 2 && r.Status.Detail == 3 || r.Status.Subject == 3 && r.Status.Detail == 4
	if r.Code == 552 && !tooBig {
		r.Code = 452
		if r.Status.Class == 5 {
			r.Status.Class = 4
		}
	}
	return r
}

// loneDot ends a transaction without recipients that the peer wants the content
// of all the same. RFC 2920 3.1: "if the DATA command was accepted the client
// SMTP should send a single dot." RFC 2920 3.2: the server then "MUST NOT [...]
// send any message whatsoever to anybody", whatever it answers. Over LMTP it
// would answer nothing, and RFC 2033 4.2 lets no server come here.
func (c *Conn) loneDot() error {
	if c.lmtp {
		return c.end(StageData, smtp.Reply{}, ErrUnexpected)
	}
	if err := c.send(StageFinal, c.timeouts.Block, "."); err != nil {
		return err
	}
	_, err := c.read(StageFinal, c.timeouts.Final)
	return err
}

// content sends the content and the final dot, and reads the reply. When the
// content cannot be read to its end, the dot is never sent, and the connection
// ends: RFC 5321 knows no other way to take back what was sent.
func (c *Conn) content(r io.Reader, res *Result) {
	if res.Err = c.quiet(StageContent); res.Err != nil {
		return
	}
	c.out.timeout = c.timeouts.Block
	b := c.buffers()
	defer b.free()
	dots := smtp.NewDotWriter(b.w)
	src := &c.src
	*src = source{r: r}
	_, err := io.CopyBuffer(dots, src, b.block)
	if err == nil {
		err = dots.Close()
	}
	if src.err != nil || malformed(err) {
		c.Close()
		res.Err = &ContentError{Err: cmp.Or(src.err, err)}
		return
	}
	if err == nil {
		err = b.w.Flush()
	}
	if err != nil {
		res.Err = c.broken(StageContent, err)
		res.Final = lastWords(res.Err)
		return
	}
	if err = c.finals(res); err != nil {
		res.Err, res.Uncertain = err, lastWords(err).Code == 0
		return
	}
	c.dirty = refused(res.Final)
}

// finals reads the reply to the final dot, or over LMTP one for each recipient
// that was accepted, until the connection ends.
//
// RFC 2033 5: "If the connection closes after replies for some, but not all,
// recipients have arrived, the client MUST process the replies that arrived and
// treat the rest as temporary failures."
func (c *Conn) finals(res *Result) (err error) {
	if !c.lmtp {
		res.Final, err = c.final()
		return err
	}
	res.Finals = make([]smtp.Reply, len(res.Rcpts))
	for i, r := range res.Rcpts {
		if !r.Positive() {
			continue
		}
		if res.Finals[i], err = c.final(); err != nil {
			return err
		}
	}
	return nil
}

// final reads one reply to the final dot; the zero Reply where there was none.
func (c *Conn) final() (smtp.Reply, error) {
	r, err := c.read(StageFinal, c.timeouts.Final)
	if err != nil {
		return smtp.Reply{}, err
	}
	return r, nil
}

// malformed reports whether the content, and not the connection, is at fault.
func malformed(err error) bool {
	return errors.Is(err, smtp.ErrBareCR) || errors.Is(err, smtp.ErrBareLF) || errors.Is(err, smtp.ErrNUL)
}

// lastWords is the reply with which the peer ended the connection.
func lastWords(err error) smtp.Reply {
	if e, ok := errors.AsType[*Error](err); ok && e.Err == nil {
		return e.Reply
	}
	return smtp.Reply{}
}

// blockSize is how much of the content is read, and sent, at once.
const blockSize = 16 << 10

// A buffers is what a content goes through. A connection has it for that time alone.
type buffers struct {
	w     *bufio.Writer
	block []byte
}

// spares are of all connections.
var spares = sync.Pool{New: func() any {
	return &buffers{bufio.NewWriterSize(nil, blockSize), make([]byte, blockSize)}
}}

// buffers returns some that write to the connection, until free.
func (c *Conn) buffers() *buffers {
	b := spares.Get().(*buffers)
	b.w.Reset(c.out)
	return b
}

func (b *buffers) free() {
	b.w.Reset(nil)
	spares.Put(b)
}

// source keeps apart a failure to read the content from one to send it.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

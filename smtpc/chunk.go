package smtpc

import (
	"io"
	"math"
	"strconv"

	"github.com/postrider/postrider/smtp"
)

// chunkSize is the octets of a chunk, where Options do not say. RFC 3030 2: what is
// wrong with a peer "can only be reported after the BDAT segment has been received.
// It is therefore important to choose a reasonable chunk size": this one takes two
// seconds at a megabit per second.
const chunkSize = 256 << 10

// chunksMin is from how many chunks on a text goes in chunks. What is shorter goes
// by DATA, which takes as many round trips and which every server has had to get
// right; for what is longer a peer that has no room says so before it has all.
const chunksMin = 4

// chunked reports whether a content goes by BDAT: always if it is not in lines
// (RFC 3030 3: "BINARYMIME cannot be used with the DATA command"), else where the
// peer offers it and it is known to be long.
func (c *Conn) chunked(p smtp.MailParams, size int64) bool {
	return c.has(smtp.ExtChunking) && (p.Body == smtp.BodyBinaryMIME || size > chunksMin*int64(c.chunk))
}

// chunks sends the content in chunks and reads a reply for each, one chunk behind
// where the peer pipelines. The last chunk goes when all before it were taken, so
// that a peer which misses one never holds a message.
//
// RFC 3030 2: "If a 5XX or 4XX code is received by the sender-SMTP in response to a
// BDAT chunk, the transaction should be considered failed and the sender-SMTP MUST
// NOT send any additional BDAT segments." The next transaction begins with RSET,
// which "MUST be issued to clear the transaction before additional commands may be
// sent".
func (c *Conn) chunks(r io.Reader, binary bool, res *Result) {
	if res.Err = c.quiet(StageContent); res.Err != nil {
		return
	}
	pipelining := c.has(smtp.ExtPipelining)
	cut := cutter{r: r, size: c.chunk, text: !binary}
	asked := 0 // chunks without a reply yet
	for {
		chunk, last, err := cut.next()
		if err != nil {
			c.drain(asked, res)
			if res.Err == nil {
				res.Err = &ContentError{Err: err}
			}
			return
		}
		behind := 0
		if pipelining && !last {
			behind = 1
		}
		for ; asked > behind; asked-- {
			if !c.took(res) {
				c.drain(asked-1, res)
				return
			}
		}
		if res.Err = c.sendChunk(chunk, last); res.Err != nil {
			res.Final = lastWords(res.Err)
			return
		}
		if last {
			break
		}
		asked++
	}
	if err := c.finals(res); err != nil {
		res.Err, res.Uncertain = err, lastWords(err).Code == 0
		return
	}
	c.dirty = refused(res.Final)
}

// took reads the reply to a chunk that is not the last, and reports whether the
// peer wants more.
func (c *Conn) took(res *Result) bool {
	var r smtp.Reply
	if r, res.Err = c.read(StageContent, c.timeouts.Final); res.Err != nil {
		res.Final = lastWords(res.Err)
		return false
	}
	if !r.Positive() {
		res.Final = r
	}
	return r.Positive()
}

// drain reads the replies that are still to come, which say nothing new.
func (c *Conn) drain(asked int, res *Result) {
	for ; asked > 0 && res.Err == nil; asked-- {
		_, res.Err = c.read(StageContent, c.timeouts.Final)
	}
}

// sendChunk sends one chunk behind its command.
func (c *Conn) sendChunk(chunk []byte, last bool) error {
	line := strconv.AppendInt([]byte("BDAT "), int64(len(chunk)), 10)
	if last {
		line = append(line, " LAST"...)
	}
	c.out.timeout = c.timeouts.Block
	b := c.buffers()
	defer b.free()
	b.w.Write(append(line, '\r', '\n'))
	b.w.Write(chunk)
	if err := b.w.Flush(); err != nil {
		return c.broken(StageContent, err)
	}
	return nil
}

// A cutter cuts a content into chunks. In a text no CR or LF is but in a CRLF, at
// whose end it ends; RFC 3030 2: "text messages sent with the BDAT command MUST be
// sent in the canonical MIME format with lines delimited with a <CR><LF>".
type cutter struct {
	r    io.Reader
	size int
	text bool

	ahead []byte // what comes next
	spare []byte
	end   bool
	lines smtp.LineCheck // of a text
	begun bool           // what was looked at ends within a line
}

// next returns a chunk, which lives until the next call but one.
func (k *cutter) next() (chunk []byte, last bool, err error) {
	if k.ahead == nil {
		if k.ahead, err = k.read(); err != nil {
			return nil, false, err
		}
	}
	chunk = k.ahead
	if k.end {
		return chunk, true, nil
	}
	if k.ahead, err = k.read(); err != nil {
		return nil, false, err
	}
	// An end without octets makes the chunk before it the last.
	return chunk, k.end && len(k.ahead) == 0, nil
}

func (k *cutter) read() ([]byte, error) {
	b := k.spare
	if b == nil {
		b = make([]byte, k.size, k.size+len("\r\n"))
	}
	k.spare = nil
	if k.ahead != nil {
		k.spare = k.ahead[:k.size:cap(k.ahead)]
	}
	// What the reader itself calls an unexpected end is no end of the content.
	src := source{r: k.r}
	n, err := io.ReadFull(&src, b[:k.size])
	b = b[:n]
	if src.err != nil {
		return nil, src.err
	}
	k.end = err != nil
	if !k.text {
		return b, nil
	}
	k.lines.LineMax = math.MaxInt // to send it is for the owner of the content to decide
	if err := k.lines.Check(b); err != nil {
		return nil, err
	}
	if n > 0 {
		k.begun = b[n-1] != '\n'
	}
	if !k.end {
		return b, nil
	}
	if err := k.lines.End(); err != nil {
		return nil, err
	}
	if k.begun {
		b = append(b, '\r', '\n')
	}
	return b, nil
}

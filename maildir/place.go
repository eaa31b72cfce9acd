package maildir

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/message"
	"github.com/postrider/postrider/vfs"
)

// blockSize is how much is written at once, in octets.
const blockSize = 64 << 10

// place writes the file of the k-th recipient in tmp, where it is not there yet.
func (t *Transport) place(ctx context.Context, a *attempt, k int) error {
	rcpt := a.Rcpts[k]
	s := stem(a.Message, rcpt)
	if first, there := a.first[s]; there && first != k {
		return nil // what becomes of the first becomes of it
	}
	a.first[s] = k
	name := s + "." + t.host
	// The index keeps two recipients of one address apart, who may be in two hands.
	tmp := a.dir + "/tmp/" + name + "," + strconv.Itoa(rcpt)
	there, err := t.renew(a, s)
	if there {
		t.fs.Remove(tmp) // left over, if it is there
	}
	if there || err != nil {
		return err
	}
	if err := t.write(ctx, a, rcpt, tmp); err != nil {
		t.fs.Remove(tmp)
		return err
	}
	a.letters = append(a.letters, letter{k, tmp, name})
	return nil
}

// link brings what waits in tmp into new, its content durable and its name not yet.
func (t *Transport) link(a *attempt) {
	if len(a.letters) == 0 {
		return
	}
	err := a.visit.syncContents()
	for _, l := range a.letters {
		a.errs[l.k] = err
		if err == nil {
			a.errs[l.k] = t.linkOne(a, l)
		}
		t.fs.Remove(l.tmp)
	}
}

func (t *Transport) linkOne(a *attempt, l letter) error {
	err := t.fs.Link(l.tmp, a.dir+"/new/"+l.name)
	if errors.Is(err, fs.ErrExist) { // by another hand, who may be about to take it back
		s := stemOf(l.name)
		a.found[s] = found{"new", l.name}
		there, err := t.renew(a, s)
		if there || err != nil {
			return err
		}
		if err = t.fs.Link(l.tmp, a.dir+"/new/"+l.name); err == nil {
			a.placed[l.name] = true
		}
		return err
	}
	if err == nil {
		a.placed[l.name] = true
	}
	return err
}

// write writes the file in tmp. It is durable, or will be with visit.syncContents.
func (t *Transport) write(ctx context.Context, a *attempt, rcpt int, tmp string) error {
	f, err := vfs.CreateAnew(t.fs, tmp, 0o600)
	if err != nil {
		return err
	}
	err = t.visit(a, f)
	if err == nil {
		err = t.fill(ctx, a, rcpt, f)
	}
	if err == nil && !a.visit.together {
		err = f.Sync()
	}
	if errClose := f.Close(); err == nil {
		err = errClose
	}
	return err
}

// A blocks is what a file is written through.
type blocks struct {
	out *bufio.Writer
	in  []byte
}

func newBlocks() *blocks {
	return &blocks{out: bufio.NewWriterSize(nil, blockSize), in: make([]byte, blockSize)}
}

// fill writes the fields of a recipient and the content.
func (t *Transport) fill(ctx context.Context, a *attempt, rcpt int, f io.Writer) error {
	b := t.blocks.Get().(*blocks)
	defer t.blocks.Put(b)
	w := b.out
	w.Reset(f)
	defer w.Reset(nil)
	w.WriteString(fields(a.Message, rcpt)) // an error stays with w
	// RFC 5321 4.4: "exactly one return path SHOULD be present when the message is
	// delivered", and final delivery "MAY remove Return-path header fields before
	// adding their own".
	others := message.NewFilter(w, "Return-Path")
	err := copyContent(ctx, others, a.Content.Reader(), b.in)
	if err == nil {
		err = others.Flush()
	}
	if err == nil {
		err = w.Flush()
	}
	return err
}

// fields are what final delivery puts before the content.
//
// RFC 5321 4.4: "When the delivery SMTP server makes the "final delivery" of a
// message, it inserts a return-path line at the beginning of the mail data."
// Delivered-To, with the address alone, is how mail software finds that a
// message comes round in a circle.
func fields(m *postrider.Message, rcpt int) string {
	return "Return-Path: <" + oneLine(m.From.String()) + ">\r\n" +
		"Delivered-To: " + oneLine(m.Recipients[rcpt].To.String()) + "\r\n"
}

// oneLine keeps an address from ending its field. The grammar of paths has no
// control characters; this holds even where a path did not come through it.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// copyContent copies to the end. A failure to read is a *readError, so that it
// is not taken for one of the mailbox.
func copyContent(ctx context.Context, w io.Writer, r io.Reader, buf []byte) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, errRead := r.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		if errRead == io.EOF {
			return nil
		}
		if errRead != nil {
			return &readError{errRead}
		}
	}
}

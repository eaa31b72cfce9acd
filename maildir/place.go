package maildir

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/message"
	"github.com/postrider/postrider/vfs"
)

// blockSize is how much is written at once, in octets.
const blockSize = 64 << 10

// place brings the file of one recipient into new, with its content durable and
// its name not yet.
func (t *Transport) place(ctx context.Context, a *attempt, rcpt int) error {
	s := stem(a.Message, rcpt)
	name := s + "." + t.host
	// The index keeps two recipients of one address apart, who may be in two hands.
	tmp := a.dir + "/tmp/" + name + "," + strconv.Itoa(rcpt)
	if a.done[s] {
		return nil
	}
	there, err := t.renew(a, s)
	if there {
		t.fs.Remove(tmp) // left over, if it is there
	}
	if !there && err == nil {
		err = t.link(ctx, a, rcpt, link{tmp: tmp, name: name})
	}
	a.done[s] = err == nil
	return err
}

// A link is the two names of a file: its path in tmp, and its name in new.
type link struct{ tmp, name string }

// link writes the file and brings it into new.
func (t *Transport) link(ctx context.Context, a *attempt, rcpt int, l link) error {
	if err := t.write(ctx, a, rcpt, l.tmp); err != nil {
		t.fs.Remove(l.tmp)
		return err
	}
	a.touched["new"] = true
	err := t.fs.Link(l.tmp, a.dir+"/new/"+l.name)
	if err == nil {
		a.placed[l.name] = true
	}
	if errors.Is(err, fs.ErrExist) { // by another hand, who may be about to take it back
		s := stem(a.Message, rcpt)
		a.found[s] = found{"new", l.name}
		var there bool
		if there, err = t.renew(a, s); err == nil && !there {
			if err = t.fs.Link(l.tmp, a.dir+"/new/"+l.name); err == nil {
				a.placed[l.name] = true
			}
		}
	}
	t.fs.Remove(l.tmp)
	return err
}

// write writes the file in tmp and syncs it.
func (t *Transport) write(ctx context.Context, a *attempt, rcpt int, tmp string) error {
	f, err := t.create(tmp)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, blockSize)
	w.WriteString(fields(a.Message, rcpt)) // an error stays with w
	// RFC 5321 4.4: "exactly one return path SHOULD be present when the message is
	// delivered", and final delivery "MAY remove Return-path header fields before
	// adding their own".
	others := message.NewFilter(w, "Return-Path")
	err = copyContent(ctx, others, a.Content.Reader())
	if err == nil {
		err = others.Flush()
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if errClose := f.Close(); err == nil {
		err = errClose
	}
	return err
}

// create makes the file in tmp. One that a crash left there is removed and not
// written over: it may be the very file that is in new already.
func (t *Transport) create(tmp string) (vfs.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := t.fs.OpenFile(tmp, flags, 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := t.fs.Remove(tmp); err != nil {
		return nil, err
	}
	return t.fs.OpenFile(tmp, flags, 0o600)
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
func copyContent(ctx context.Context, w io.Writer, r io.Reader) error {
	buf := make([]byte, blockSize)
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

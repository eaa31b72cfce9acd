package receive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/message"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// copySize is how much content is in hand at once, in octets.
const copySize = 32 << 10

// Replies to a content that we could not keep.
var (
	notKept = smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 3, Detail: 0}, Text: "The message could not be stored, try again later"}
	noSpace = smtp.Reply{Code: 452, Status: smtp.Status{Class: 4, Subject: 3, Detail: 1}, Text: "Insufficient system storage, try again later"}
)

// Data implements smtpd.Session. It answers 250 only after the content has come
// to its end and Commit has returned nil; whatever fails before that is 4yz and
// leaves nothing behind.
func (s *session) Data(ctx context.Context, content io.Reader) []smtp.Reply {
	return []smtp.Reply{s.data(ctx, content)}
}

func (s *session) data(ctx context.Context, content io.Reader) smtp.Reply {
	t := s.mail
	s.mail = nil // "on the completion of this command these buffers are cleared", RFC 5321 4.1.1.4
	if t == nil || len(t.rcpts) == 0 {
		return outOfOrder
	}
	draft, err := s.o.Spool.Create(ctx, "")
	if err != nil {
		return s.failed("open a draft", err)
	}
	defer draft.Discard() // does nothing after a commit

	var scan message.Scanner
	if err := stream(content, draft, &scan); err != nil {
		return s.unread(err)
	}
	v := check(ctx, s.o.Data, &postrider.Transaction{Source: t.source, From: t.from, Params: t.params,
		Accepted: len(t.rcpts), Size: draft.Size(), Hops: scan.Hops()})
	if v.Refuse {
		return v.Reply
	}
	if err := s.o.Spool.Commit(ctx, postrider.Batch{Add: []postrider.Addition{s.addition(t, draft, &scan)}}); err != nil {
		return s.failed("commit "+string(draft.ID()), err)
	}
	return smtp.Reply{Code: 250, Status: smtp.Status{Class: 2}, Text: string(draft.ID()) + " queued"}
}

// stream copies content to its end into draft, past scan.
func stream(content io.Reader, draft io.Writer, scan *message.Scanner) error {
	buf := make([]byte, copySize)
	for {
		n, err := content.Read(buf)
		_, _ = scan.Write(buf[:n]) // never fails
		if n > 0 {
			if _, err := draft.Write(buf[:n]); err != nil {
				return &draftError{err}
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// A draftError is a failure to write, rather than to read.
type draftError struct{ err error }

func (e *draftError) Error() string { return e.err.Error() }
func (e *draftError) Unwrap() error { return e.err }

// unread answers for a content that did not come to its end, or could not be
// written down.
func (s *session) unread(err error) smtp.Reply {
	var ours *draftError
	if errors.As(err, &ours) {
		return s.failed("write a draft", err)
	}
	var bad *smtpd.ContentError
	if errors.As(err, &bad) {
		return bad.Reply
	}
	return smtp.Reply{} // the client is gone; no fault of ours
}

// failed answers for what failed in us.
func (s *session) failed(what string, err error) smtp.Reply {
	s.o.Alarm(fmt.Errorf("receive: %s: %w", what, err))
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return noSpace
	}
	return notKept
}

// addition makes the message, with our trace field on top of it.
func (s *session) addition(t *transaction, draft postrider.Draft, scan *message.Scanner) postrider.Addition {
	now := s.o.Now()
	head := s.received(t, draft.ID(), now).Append(nil)
	var own message.Scanner
	_, _ = own.Write(head)

	m := &postrider.Message{
		ID:         draft.ID(),
		From:       t.from,
		EnvID:      t.params.EnvID,
		Ret:        t.params.Ret,
		UTF8:       t.params.UTF8,
		EightBit:   scan.EightBit() || own.EightBit(),
		Arrived:    now,
		Size:       draft.Size() + int64(len(head)),
		Source:     t.source,
		Recipients: t.rcpts,
	}
	for i := range m.Recipients {
		m.Recipients[i].Due = now
	}
	return postrider.Addition{Draft: draft, Message: m, Head: head, Wake: s.o.Wake(m)}
}

// received returns our trace field.
func (s *session) received(t *transaction, id postrider.ID, now time.Time) message.Received {
	r := message.Received{
		Hello:    t.source.Hello,
		Addr:     t.source.Peer.Addr(),
		By:       s.o.Hostname,
		Protocol: t.source.Protocol,
		ID:       string(id),
		Time:     now,
	}
	if len(t.named) == 1 {
		r.For = t.named[0].String()
		if t.named[0].Domain == "" {
			r.For = t.rcpts[0].To.String()
		}
	}
	return r
}

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

// Replies to a content that we could not keep.
var (
	notKept   = smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 3, Detail: 0}, Text: "The message could not be stored, try again later"}
	noSpace   = smtp.Reply{Code: 452, Status: smtp.Status{Class: 4, Subject: 3, Detail: 1}, Text: "Insufficient system storage, try again later"}
	queueFull = smtp.Reply{Code: 452, Status: smtp.Status{Class: 4, Subject: 3, Detail: 1}, Text: "The queue is full, try again later"}
)

// Data implements smtpd.Session. It answers 250 only after the content has come
// to its end and Commit has returned nil; whatever fails before that is 4yz and
// leaves nothing behind.
func (s *session) Data(ctx context.Context, content io.Reader) []smtp.Reply {
	return []smtp.Reply{s.data(ctx, content)}
}

func (s *session) data(ctx context.Context, content io.Reader) smtp.Reply {
	t := s.mail
	defer s.end(t)
	s.mail = nil // "on the completion of this command these buffers are cleared", RFC 5321 4.1.1.4
	if t == nil || len(t.rcpts) == 0 {
		return outOfOrder
	}
	scan := message.Scanner{Addresses: s.addresses(ctx, t)}
	r, size := s.take(ctx, t, content, &scan)
	if !r.Positive() && !r.IsZero() { // zero: the client is gone
		tos := make([]smtp.Path, len(t.rcpts))
		for i := range t.rcpts {
			tos[i] = t.rcpts[i].To
		}
		s.refused(t, r, postrider.Event{Tos: tos, Size: size, HeaderID: scan.MessageID()})
	}
	return r
}

// take keeps a content, or says why not, and how many octets of it came.
func (s *session) take(ctx context.Context, t *transaction, content io.Reader, scan *message.Scanner) (smtp.Reply, int64) {
	draft, err := s.o.Spool.Create(ctx, "")
	if err != nil {
		return s.failed("open a draft", err), 0
	}
	defer draft.Discard() // does nothing after a commit

	unwanted := &solicitation{words: s.Offer().Solicit, scan: scan}
	if err := s.stream(content, sink{draft, scan, unwanted}); err != nil {
		return s.unread(err), draft.Size()
	}
	if word := unwanted.found(); word != "" {
		return solicits(word), draft.Size()
	}
	if r := misaddressed(scan.Addresses); !r.IsZero() {
		return r, draft.Size()
	}
	phase := s.phase(t)
	phase.Size, phase.Hops = draft.Size(), scan.Hops()
	if v := check(ctx, s.o.Data, phase); v.Refuse {
		return v.Reply.Normal(), draft.Size()
	}
	if err := s.o.Spool.Commit(ctx, postrider.Batch{Add: []postrider.Addition{s.addition(t, draft, scan)}}); err != nil {
		return s.failed("commit "+string(draft.ID()), err), draft.Size()
	}
	return smtp.Reply{Code: 250, Status: smtp.Status{Class: 2}, Text: string(draft.ID()) + " queued"}, draft.Size()
}

// stream copies content to its end into out. What users submit loses its Bcc
// fields on the way: RFC 5322 3.6.3, "the "Bcc:" line is removed even though all
// of the recipients (including those specified in the "Bcc:" field) are sent a
// copy of the message"; and its Return-Path fields: RFC 5321 4.4, "A
// message-originating SMTP system SHOULD NOT send a message that already contains
// a Return-path header field."
func (s *session) stream(content io.Reader, out io.Writer) error {
	flush := func() error { return nil }
	if s.o.Submission {
		f := message.NewFilter(out, "Bcc", "Resent-Bcc", "Return-Path")
		out, flush = f, f.Flush
	}
	if _, err := io.Copy(out, content); err != nil { // from the buffer of the connection, as it is an io.WriterTo
		return err
	}
	return flush()
}

// A sink is where a content goes: past a Scanner and a look for solicitations into
// a draft.
type sink struct {
	draft    io.Writer
	scan     *message.Scanner
	unwanted *solicitation
}

func (w sink) Write(p []byte) (int, error) {
	_, _ = w.scan.Write(p) // never fails
	_, _ = w.unwanted.Write(p)
	n, err := w.draft.Write(p)
	if err != nil {
		err = &draftError{err}
	}
	return n, err
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
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return noSpace
	case errors.Is(err, postrider.ErrFull):
		return queueFull
	}
	return notKept
}

// addition makes the message, with our trace field on top of it.
func (s *session) addition(t *transaction, draft postrider.Draft, scan *message.Scanner) postrider.Addition {
	now := s.o.Now()
	head := s.received(t, draft.ID(), now).Append(nil)
	if s.o.Submission {
		head = s.complete(head, t, draft.ID(), now, scan)
	}
	// A content that begins with a blank would go on with the field above it.
	if scan.NoHeader() && (s.o.Submission || scan.Indented()) {
		head = append(head, "\r\n"...)
	}
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
		HeaderID:   scan.MessageID(),
		Automatic:  scan.Automatic(),
		Source:     t.source,
		Recipients: t.rcpts,
	}
	if m.HeaderID == "" {
		m.HeaderID = own.MessageID()
	}
	t.keep(m, now)
	for i := range m.Recipients {
		if m.Recipients[i].Due = now; !m.Release.IsZero() {
			m.Recipients[i].Due = m.Release
		}
	}
	return postrider.Addition{Draft: draft, Message: m, Head: head, Wake: s.o.Wake(m)}
}

// complete appends what a submitted message lacks (RFC 6409 8, 8.2 and 8.3).
func (s *session) complete(head []byte, t *transaction, id postrider.ID, now time.Time, scan *message.Scanner) []byte {
	if !scan.HasDate() {
		head = append(message.AppendDate(append(head, "Date: "...), now), "\r\n"...)
	}
	head = s.originator(head, t, scan)
	if !scan.HasMessageID() {
		head = append(head, "Message-ID: <"+string(id)+"@"+s.o.Hostname+">\r\n"...)
	}
	return head
}

// received returns our trace field.
func (s *session) received(t *transaction, id postrider.ID, now time.Time) message.Received {
	r := message.Received{
		Hello:    t.source.Hello,
		Addr:     t.source.Peer.Addr(),
		Local:    s.o.Local,
		By:       s.o.Hostname,
		Protocol: t.source.Protocol,
		ID:       string(id),
		Priority: t.priority,
		TLS:      s.suite,
		Time:     now,
	}
	if len(t.named) == 1 {
		named := t.named[0]
		if named.Domain == "" {
			named = t.rcpts[0].To
		}
		// RFC 5321 4.4 leaves it to us. What is not ASCII would make the message need
		// SMTPUTF8 (RFC 6531 3.7.3), whose own header may not.
		if named.IsASCII() {
			r.For = named.String()
		}
	}
	return r
}

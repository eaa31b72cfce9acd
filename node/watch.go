package node

import (
	"context"
	"io"
	"slices"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// A timedSpool takes down how long commits take that somebody waits for.
type timedSpool struct {
	postrider.Spool
	n *Node
}

func (s timedSpool) Commit(ctx context.Context, b postrider.Batch) error {
	began := s.n.env.Now()
	err := s.Spool.Commit(ctx, b)
	if !b.Lazy && err == nil {
		s.n.metrics.Committed(s.n.env.Now().Sub(began))
	}
	return err
}

// Rekey reads a long queue no further when the node stops.
func (s timedSpool) Rekey(key func(to smtp.Path) postrider.Dest) {
	s.n.store.RekeyUntil(s.n.ending, key)
}

// A watched handler counts the connections of a listener, takes down how long
// DATA takes, and gives each transaction its generation.
type watched struct {
	smtpd.Handler
	listener string
	n        *Node
}

func (h *watched) Open(ctx context.Context, c smtpd.Client) (smtpd.Session, smtp.Reply) {
	s, r := h.Handler.Open(ctx, c)
	if s == nil {
		return nil, r
	}
	return &watchedSession{Session: s, h: h, closed: h.n.metrics.Connected(h.listener)}, r
}

type watchedSession struct {
	smtpd.Session
	h      *watched
	closed func()
	gen    *generation     // of the transaction at hand
	ctx    context.Context // that has it; the server gives one context to all of a connection
}

// Unwrap lets the server find what the session answers beside what every one does.
func (s *watchedSession) Unwrap() smtpd.Session { return s.Session }

func (s *watchedSession) context(ctx context.Context) context.Context {
	if s.gen == nil {
		return ctx
	}
	if s.ctx == nil {
		s.ctx = context.WithValue(ctx, generationKey{}, s.gen)
	}
	return s.ctx
}

func (s *watchedSession) Mail(ctx context.Context, from smtp.Path, p smtp.MailParams) smtp.Reply {
	s.gen, s.ctx = s.h.n.gen.Load(), nil
	return s.Session.Mail(s.context(ctx), from, p)
}

func (s *watchedSession) Rcpt(ctx context.Context, to smtp.Path, p smtp.RcptParams) smtp.Reply {
	return s.Session.Rcpt(s.context(ctx), to, p)
}

func (s *watchedSession) Data(ctx context.Context, content io.Reader) []smtp.Reply {
	began := s.h.n.env.Now()
	r := s.Session.Data(s.context(ctx), content)
	if slices.ContainsFunc(r, smtp.Reply.Positive) {
		s.h.n.metrics.Answered(s.h.n.env.Now().Sub(began))
	}
	s.gen, s.ctx = nil, nil
	return r
}

func (s *watchedSession) Reset() {
	s.gen, s.ctx = nil, nil
	s.Session.Reset()
}

func (s *watchedSession) Close() {
	s.closed()
	s.Session.Close()
}

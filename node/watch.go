package node

import (
	"context"
	"io"
	"slices"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// A timedSpool takes down how long commits take that somebody waits for.
type timedSpool struct {
	postrider.Spool
	env     Env
	metrics *admin.Metrics
}

func (s timedSpool) Commit(ctx context.Context, b postrider.Batch) error {
	began := s.env.Now()
	err := s.Spool.Commit(ctx, b)
	if !b.Lazy && err == nil {
		s.metrics.Committed(s.env.Now().Sub(began))
	}
	return err
}

// A watched handler counts the connections of a listener, and takes down how
// long DATA takes.
type watched struct {
	smtpd.Handler
	listener string
	env      Env
	metrics  *admin.Metrics
}

func (h watched) Open(ctx context.Context, c smtpd.Client) (smtpd.Session, smtp.Reply) {
	s, r := h.Handler.Open(ctx, c)
	if s == nil {
		return nil, r
	}
	w := watchedSession{Session: s, h: h, closed: h.metrics.Connected(h.listener)}
	v, verifies := s.(smtpd.Verifier)
	a, authenticates := s.(smtpd.Authenticator)
	switch {
	case verifies && authenticates:
		return struct {
			watchedSession
			smtpd.Verifier
			smtpd.Authenticator
		}{w, v, a}, r
	case verifies:
		return struct {
			watchedSession
			smtpd.Verifier
		}{w, v}, r
	case authenticates:
		return struct {
			watchedSession
			smtpd.Authenticator
		}{w, a}, r
	}
	return w, r
}

type watchedSession struct {
	smtpd.Session
	h      watched
	closed func()
}

func (s watchedSession) Data(ctx context.Context, content io.Reader) []smtp.Reply {
	began := s.h.env.Now()
	r := s.Session.Data(ctx, content)
	if slices.ContainsFunc(r, smtp.Reply.Positive) {
		s.h.metrics.Answered(s.h.env.Now().Sub(began))
	}
	return r
}

func (s watchedSession) Close() {
	s.closed()
	s.Session.Close()
}

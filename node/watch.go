package node

import (
	"context"
	"io"
	"net/netip"

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

func (h watched) Open(ctx context.Context, peer netip.AddrPort) (smtpd.Session, smtp.Reply) {
	s, r := h.Handler.Open(ctx, peer)
	if s == nil {
		return nil, r
	}
	w := watchedSession{Session: s, h: h, closed: h.metrics.Connected(h.listener)}
	if v, ok := s.(smtpd.Verifier); ok {
		return struct {
			watchedSession
			smtpd.Verifier
		}{w, v}, r
	}
	return w, r
}

type watchedSession struct {
	smtpd.Session
	h      watched
	closed func()
}

func (s watchedSession) Data(ctx context.Context, content io.Reader) smtp.Reply {
	began := s.h.env.Now()
	r := s.Session.Data(ctx, content)
	if r.Positive() {
		s.h.metrics.Answered(s.h.env.Now().Sub(began))
	}
	return r
}

func (s watchedSession) Close() {
	s.closed()
	s.Session.Close()
}

package receive

import (
	"context"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Replies to AUTH.
var (
	badIdentity = smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "Authentication credentials invalid"}
	noMechanism = smtp.Reply{Code: 504, Status: smtp.Status{Class: 5, Subject: 5, Detail: 4}, Text: "Unrecognized authentication mechanism"}
)

// Mechanisms implements smtpd.Authenticator. Passwords are taken under TLS only.
func (s *session) Mechanisms() []string {
	if s.o.Accounts == nil || s.suite == "" || s.lmtp {
		return nil
	}
	return []string{"PLAIN", "LOGIN"}
}

// Auth implements smtpd.Authenticator.
func (s *session) Auth(ctx context.Context, mechanism string) (smtp.SASLServer, smtp.Reply) {
	switch {
	case s.Mechanisms() == nil:
	case mechanism == "PLAIN":
		return smtp.PlainServer(func(identity, user, password string) smtp.Reply {
			// RFC 4616 2: whether the credentials "permit the client to act as the
			// (presented or derived) authorization identity". Nobody acts as another.
			if identity != "" && !strings.EqualFold(identity, user) {
				s.loginRefused(user, badIdentity)
				return badIdentity
			}
			return s.verify(ctx, user, password)
		}), smtp.Reply{}
	case mechanism == "LOGIN":
		return smtp.LoginServer(func(user, password string) smtp.Reply {
			return s.verify(ctx, user, password)
		}), smtp.Reply{}
	}
	return nil, noMechanism
}

// verify asks who the client is, and remembers it.
func (s *session) verify(ctx context.Context, user, password string) smtp.Reply {
	who, r := s.o.Accounts.Verify(ctx, s.source.Peer.Addr(), user, password)
	switch {
	case !r.Positive():
		if ctx.Err() == nil { // else the client is gone
			s.loginRefused(user, r)
		}
		return r
	case who == nil:
		return smtp.Reply{}
	}
	s.submitter, s.source.Account = who, who.Name()
	return r
}

// loginRefused tells of a login that failed, in the same way whether there is such
// an account or not. Of the name nothing is told unless it is an address: a
// password in the wrong field is none.
func (s *session) loginRefused(user string, r smtp.Reply) {
	t := &transaction{source: s.source}
	t.source.Protocol = s.protocol(false)
	if p, err := smtp.ParsePath(user); err == nil && p.Domain != "" {
		t.from, t.source.Account = p, p.String()
	}
	s.refused(t, r, postrider.Event{})
}

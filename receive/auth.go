package receive

import (
	"context"
	"crypto/rand"
	"net/netip"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Accounts says who a client is that gives a name and a password: 235 and who it
// is, or nil and the reply that says why not. It may wait, but not beyond ctx.
type Accounts interface {
	Verify(ctx context.Context, peer netip.Addr, user, password string) (postrider.Submitter, smtp.Reply)
}

// A Prover is an Accounts that keeps keys of SCRAM beside the passwords.
type Prover interface {
	// Proves reports whether it has them for everyone; else SCRAM is not offered.
	Proves() bool
	// Keys are those of a user, or some that cannot be told from others.
	Keys(user string) smtp.SCRAMKeys
	// Proved answers as Verify does, for a client that has proved, or not, to know the
	// password of the keys.
	Proved(ctx context.Context, peer netip.Addr, user string, k smtp.SCRAMKeys, proved bool) (postrider.Submitter, smtp.Reply)
}

// A Voucher is an Accounts that takes the word of others for who a client is. It
// answers as Verify does; with right false, nobody has given it.
type Voucher interface {
	Vouched(ctx context.Context, peer netip.Addr, user string, right bool) (postrider.Submitter, smtp.Reply)
}

// vouched takes note of who the client has authenticated as where it comes from, if
// one that may speak for others says so (XCLIENT), and that is an account of ours.
func (s *session) vouched(ctx context.Context) {
	if v, ok := s.o.Accounts.(Voucher); ok && s.client.Login != "" {
		if who, r := v.Vouched(ctx, s.client.Peer.Addr(), s.client.Login, true); r.Positive() && who != nil {
			s.submitter, s.source.Account = who, who.Name()
		}
	}
}

// Tokens says whom a bearer token is for.
type Tokens interface {
	// Offered reports whether there is anybody whose tokens are taken.
	Offered() bool
	// Token returns the account that a token is for; empty: it is not taken, and the
	// error says why.
	Token(ctx context.Context, r smtp.BearerRequest) (user string, e smtp.BearerError)
}

// Replies to AUTH.
var (
	badIdentity = smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "Authentication credentials invalid"}
	noMechanism = smtp.Reply{Code: 504, Status: smtp.Status{Class: 5, Subject: 5, Detail: 4}, Text: "Unrecognized authentication mechanism"}
)

// Mechanisms implements smtpd.Authenticator, the strongest first. All are taken
// under TLS only.
func (s *session) Mechanisms() []string {
	if s.o.Accounts == nil || s.suite == "" || s.lmtp {
		return nil
	}
	var names []string
	if p, ok := s.o.Accounts.(Prover); ok && p.Proves() {
		if len(s.client.ChannelBindings()) > 0 {
			names = append(names, smtp.SCRAMPlus)
		}
		names = append(names, smtp.SCRAM)
	}
	names = append(names, "PLAIN", "LOGIN")
	if _, ok := s.o.Accounts.(Voucher); ok {
		if s.o.Tokens != nil && s.o.Tokens.Offered() {
			names = append(names, smtp.OAuthBearer)
		}
		if len(s.named) > 0 {
			names = append(names, smtp.External)
		}
	}
	return names
}

// Auth implements smtpd.Authenticator.
func (s *session) Auth(ctx context.Context, mechanism string) (smtp.SASLServer, smtp.Reply) {
	l := &exchange{s: s, ctx: ctx}
	for _, name := range s.Mechanisms() {
		if name == mechanism {
			l.server = l.by(mechanism)
			return l, smtp.Reply{}
		}
	}
	return nil, noMechanism
}

// An exchange is one of AUTH. Who the client is counts from its end on, and
// not while the client may still turn away.
type exchange struct {
	s      *session
	ctx    context.Context // of the AUTH command
	server smtp.SASLServer
	who    postrider.Submitter
	told   bool // that it was refused
}

// by makes the exchange of a mechanism that is offered.
func (l *exchange) by(mechanism string) smtp.SASLServer {
	switch mechanism {
	case smtp.SCRAM, smtp.SCRAMPlus:
		return l.scram(l.s.o.Accounts.(Prover), mechanism == smtp.SCRAMPlus)
	case smtp.OAuthBearer:
		return smtp.BearerServer(l.token)
	case smtp.External:
		return smtp.ExternalServer(l.certificate)
	case "LOGIN":
		return smtp.LoginServer(func(user, password string) smtp.Reply { return l.password(user, user, password) })
	}
	return smtp.PlainServer(l.password)
}

// Next implements smtp.SASLServer.
func (l *exchange) Next(response []byte) ([]byte, bool, smtp.Reply) {
	challenge, done, r := l.server.Next(response)
	switch {
	case !done:
	case r.Positive() && l.who == nil:
		r = smtp.Reply{}
	case r.Positive():
		l.s.submitter, l.s.source.Account = l.who, l.who.Name()
	case r.Code == badIdentity.Code && !l.told:
		l.s.loginRefused("", r)
	}
	return challenge, done, r
}

// actsAs reports whether user may act as identity. RFC 4616 2: whether the
// credentials "permit the client to act as the (presented or derived) authorization
// identity". Nobody acts as another.
func actsAs(user, identity string) bool { return identity == "" || strings.EqualFold(identity, user) }

// password asks who the client is by its password.
func (l *exchange) password(identity, user, password string) smtp.Reply {
	if !actsAs(user, identity) {
		return l.end(user, nil, badIdentity)
	}
	who, r := l.s.o.Accounts.Verify(l.ctx, l.s.source.Peer.Addr(), user, password)
	return l.end(user, who, r)
}

// scram asks for a proof that the client knows its password.
func (l *exchange) scram(p Prover, plus bool) smtp.SASLServer {
	var keys smtp.SCRAMKeys
	return smtp.SCRAMServer(smtp.SCRAMServerOptions{
		Plus: plus, Bindings: l.s.client.ChannelBindings(), Rand: rand.Reader,
		Keys: func(user string) smtp.SCRAMKeys {
			keys = p.Keys(user)
			return keys
		},
		Finish: func(identity, user string, proved bool) smtp.Reply {
			who, r := p.Proved(l.ctx, l.s.source.Peer.Addr(), user, keys, proved && actsAs(user, identity))
			return l.end(user, who, r)
		},
	})
}

// token asks whom a token is for.
func (l *exchange) token(req smtp.BearerRequest) (smtp.Reply, smtp.BearerError) {
	user, e := l.s.o.Tokens.Token(l.ctx, req)
	who, r := l.s.o.Accounts.(Voucher).Vouched(l.ctx, l.s.source.Peer.Addr(), user, user != "" && actsAs(user, req.Identity))
	if user == "" {
		user = req.Identity
	}
	return l.end(user, who, r), e
}

// certificate finds the account among the names of the certificate that the client
// has shown: the one that it asks for, or else the only one. RFC 4422 A.1: the
// exchange fails if "the server is unwilling or unable to associate an
// authorization identity with the client's credentials", or if that is one "that
// the client is not allowed to act as".
func (l *exchange) certificate(identity string) smtp.Reply {
	user, right := identity, false
	for _, name := range l.s.named {
		if identity == "" && len(l.s.named) == 1 || identity != "" && strings.EqualFold(name, identity) {
			user, right = name, true
			break
		}
	}
	who, r := l.s.o.Accounts.(Voucher).Vouched(l.ctx, l.s.source.Peer.Addr(), user, right)
	return l.end(user, who, r)
}

// end takes down how a login went.
func (l *exchange) end(user string, who postrider.Submitter, r smtp.Reply) smtp.Reply {
	switch {
	case r.Positive():
		l.who = who
	case l.ctx.Err() == nil: // else the client is gone
		l.told = true
		l.s.loginRefused(user, r)
	}
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

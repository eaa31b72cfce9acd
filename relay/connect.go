package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtpc"
)

// Ports where the route names none.
const (
	smtpPort  = 25  // RFC 5321 4.5.4.2
	smtpsPort = 465 // RFC 8314 7.3: "submissions"
	lmtpPort  = 24  // by custom; RFC 2033 5: LMTP "MUST NOT be used on the TCP service port 25"
)

func port(r postrider.Route) uint16 {
	switch {
	case r.Port != 0:
		return r.Port
	case r.Via == postrider.ViaLMTP:
		return lmtpPort
	case r.Implicit:
		return smtpsPort
	}
	return smtpPort
}

// lmtp reports whether the peer is one that delivers.
func (a *attempt) lmtp() bool { return a.d.Route.Via == postrider.ViaLMTP }

// key says which kept connections to a target would do.
func (a *attempt) key(t target) key {
	r := a.d.Route
	k := key{site: t.site(), lmtp: a.lmtp(), tls: a.policy(t), implicit: r.Implicit, uses: r.Limits.Messages}
	if k.tls == postrider.TLSVerify {
		k.verified = t.host
	}
	if a.authenticates() {
		k.username, k.password, k.auth, k.cert = r.Username, string(r.Password), r.Auth, string(r.Certificate)
	}
	return k
}

// connect opens a connection and makes it what the route asks for. No link is
// trouble that has been noted.
func (a *attempt) connect(ctx context.Context, t target) (*link, next) {
	ctx = a.bounded(ctx)
	conn, n := a.open(ctx, t)
	if conn == nil {
		return nil, n
	}
	l := &link{conn: conn, key: a.key(t)}
	if n, ok := a.secure(ctx, l, t); !ok {
		return nil, n
	}
	if n, ok := a.login(ctx, l, t); !ok {
		return nil, n
	}
	return l, nextAddress
}

// open dials and says hello. No connection is trouble that has been noted.
func (a *attempt) open(ctx context.Context, t target) (*smtpc.Conn, next) {
	dialCtx, cancel := context.WithTimeout(ctx, a.r.o.DialTimeout)
	defer cancel()
	s := t.site()
	probe, ok, cause := a.r.pool.knock(s)
	if !ok {
		a.blocked(rankOurs, unreached(t, cause))
		return nil, nextAddress
	}
	network, addr := s.dial()
	nc, err := a.r.o.Network.DialContext(dialCtx, network, addr)
	if err != nil {
		if t, ok := errors.AsType[net.Error](err); ctx.Err() == nil && ok && t.Timeout() {
			a.r.pool.silent(s, probe, err)
		} else {
			a.r.pool.unknown(s, probe) // to be refused costs no time, and what we have cut short says nothing
		}
		a.blocked(rankOurs, unreached(t, err))
		return nil, nextAddress
	}
	a.r.pool.reached(s)
	a.heard = true
	o := smtpc.Options{Hello: helloName(a.r.o.Hello), LMTP: a.lmtp(), Timeouts: a.r.o.Timeouts}
	if a.d.Route.Implicit {
		o.TLS = a.config(t)
	}
	conn, err := smtpc.NewConn(ctx, nc, o)
	if err != nil {
		if e, ok := errors.AsType[*smtpc.Error](err); ok && wantsLess(e) && ctx.Err() == nil {
			a.r.pool.slower(s, why(e))
		}
		return nil, a.unopened(t, err)
	}
	if !a.fixed() && a.r.isUs(conn.Name()) { // by an address that we do not know to be ours, as behind NAT
		conn.Quit(dialCtx)
		a.loops()
		return nil, nextNothing
	}
	return conn, nextAddress
}

// helloName is what we say that we are; empty: our address literal. RFC 5321 2.3.5: the
// name in EHLO "MUST be either a primary host name [...] or, if the host has no name,
// an address literal", and a name of one label is none that others could look up.
func helloName(name string) string {
	if !strings.Contains(name, ".") {
		return ""
	}
	return name
}

// unopened notes why no dialogue came about.
func (a *attempt) unopened(t target, err error) next {
	e, ok := errors.AsType[*smtpc.Error](err)
	switch {
	case !ok:
		a.blocked(rankOurs, unreached(t, err))
	case e.Stage == smtpc.StageTLS && e.Err != nil:
		a.blocked(rankOurs, a.insecure(t, e))
	case e.Reply.Permanent() && a.fixed():
		// The operator chose the host, and it will not talk to us, or not this
		// protocol: his to put right, and no fault of the message.
		a.blocked(rankOurs, deferred(3, 5, "%s of the route refused to talk to us: %s", t, e.Reply))
		return nextHost
	case e.Reply.Permanent():
		// RFC 7504 3: 521 says "that the host never accepts mail"; 554 that it takes
		// none from us, of which another address, of IPv4 where this is of IPv6, may
		// think otherwise. Another host may as well.
		a.blocked(rankRefused, said(t, e.Reply, postrider.ScopeMessage))
		if e.Reply.Code == 521 {
			return nextHost
		}
	default:
		a.broken(t, e)
	}
	return nextAddress
}

// broken notes a connection that ended, in the words of the peer if it had any.
func (a *attempt) broken(t target, e *smtpc.Error) {
	if e.Err == nil {
		a.blocked(rankPeer, said(t, e.Reply, postrider.ScopeDest))
	} else {
		a.blocked(rankOurs, lost(t, e))
	}
}

// secure negotiates TLS as the route asks for it. Where it must not go on
// without, it ends the connection and notes why.
//
// RFC 3207 6: where TLS fails, "the client has to decide what to do next": under
// TLSOpportunistic the alternative is no encryption, and mail goes on.
func (a *attempt) secure(ctx context.Context, l *link, t target) (n next, ok bool) {
	policy := a.policy(t)
	if l.conn.TLS() != nil || policy == postrider.TLSNone {
		_, offered := l.conn.Ext("STARTTLS")
		l.stripped = l.conn.TLS() == nil && (offered || !l.conn.Extended())
		return nextAddress, true
	}
	err := l.conn.StartTLS(ctx, a.config(t))
	if err == nil {
		return nextAddress, true
	}
	e, spoke := errors.AsType[*smtpc.Error](err)
	switch {
	case policy == postrider.TLSOpportunistic && l.conn.Usable():
		l.stripped = spoke || !l.conn.Extended()
		return nextAddress, true
	case spoke && !l.conn.Usable() && e.Err == nil:
		return a.unopened(t, err), false
	case policy == postrider.TLSOpportunistic && ctx.Err() == nil:
		a.note(ctx, t, e)
		l.stripped = true
		l.conn, n = a.open(ctx, t)
		return n, l.conn != nil
	}
	l.conn.Quit(ctx)
	a.blocked(rankOurs, a.insecure(t, err))
	return nextAddress, false
}

// note tells the log that mail goes in the clear.
func (a *attempt) note(ctx context.Context, t target, e *smtpc.Error) {
	if a.r.o.Log != nil {
		a.r.o.Log.LogAttrs(ctx, slog.LevelWarn, "TLS failed, going on in the clear",
			slog.String("relay", t.String()), slog.String("cause", cause(e.Err)))
	}
}

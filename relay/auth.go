package relay

import (
	"context"
	"errors"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// authenticates reports whether the route says who we are to the host. Nobody's
// credentials are meant for a host that the DNS names.
func (a *attempt) authenticates() bool {
	return a.d.Route.Via == postrider.ViaSMTP && (a.d.Route.Username != "" || a.d.Route.Certificate != "")
}

// credentials are what a route has for its host.
func credentials(r postrider.Route) smtpc.Credentials {
	c := smtpc.Credentials{Username: r.Username}
	switch r.Auth {
	case "external":
		c.Certificate = true
	case "oauthbearer":
		c.Token = string(r.Password)
	case "scram":
		c.Password, c.Clear = string(r.Password), smtpc.ClearNever
	case "plain":
		c.Password, c.Clear = string(r.Password), smtpc.ClearOnly
	default:
		c.Password = string(r.Password)
	}
	return c
}

// login authenticates where the route asks for it. Where that fails, no message is
// at fault: login ends the connection and notes what the operator can do.
func (a *attempt) login(ctx context.Context, l *link, t target) (n next, ok bool) {
	if !a.authenticates() {
		return nextAddress, true
	}
	user, password := a.d.Route.Username, string(a.d.Route.Password)
	err := l.conn.Login(ctx, credentials(a.d.Route))
	if err == nil {
		return nextAddress, true
	}
	e, spoke := errors.AsType[*smtpc.Error](err)
	if spoke && password != "" && strings.Contains(e.Reply.Text, password) {
		e.Reply.Text = "(the text is withheld, for it repeats the password)"
	}
	if !l.conn.Usable() && spoke && !errors.Is(err, smtp.ErrServerUnproved) {
		a.broken(t, e)
		return nextAddress, false
	}
	l.conn.Quit(ctx)
	a.blocked(rankOurs, unauthenticated(t, user, err))
	return nextHost, false
}

// unauthenticated is the outcome of a host that does not know us. Whatever it
// says, the mail waits: the sender of a message can do nothing about a password.
//
// RFC 4954 6: 5.7.8 "Authentication credentials invalid", 5.7.11 "Encryption
// required for requested authentication mechanism".
func unauthenticated(t target, user string, err error) postrider.Outcome {
	e, spoke := errors.AsType[*smtpc.Error](err)
	need, lacks := errors.AsType[*smtpc.NeedError](err)
	switch {
	case errors.Is(err, smtp.ErrServerUnproved):
		return deferred(7, 0, "%s has not proved that it knows the password of %q: it may be another host than it says it is", t, user)
	case errors.Is(err, smtpc.ErrCleartext):
		return deferred(7, 11, `no TLS with %s, since the route says tls = "none", and a password is never sent in the clear`, t)
	case lacks:
		return deferred(7, 4, "%s does not offer %s, which the route wants", t, need.Ext)
	case !spoke:
		return deferred(7, 0, "authentication with %s failed: %v", t, err)
	case e.Err != nil:
		return deferred(7, 0, "authentication with %s failed: %v: check username and password_file of the route", t, e.Err)
	case e.Reply.Permanent() && user == "":
		return deferred(7, 8, "%s refused our certificate (%s): check cert and key of the route", t, e.Reply)
	case e.Reply.Permanent():
		return deferred(7, 8, "%s refused the user %q (%s): check username and password_file of the route", t, user, e.Reply)
	}
	return deferred(7, 0, "%s cannot authenticate the user %q now (%s)", t, user, e.Reply)
}

package relay

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// policy is what TLS must be to a target. A socket leads out of no machine, and
// nobody is in between. Where we say who we are, it is to the host that the route names.
func (a *attempt) policy(t target) postrider.TLSPolicy {
	switch {
	case t.socket != "":
		return postrider.TLSNone
	case a.d.Route.TLS == postrider.TLSOpportunistic && a.authenticates():
		return postrider.TLSVerify
	}
	return a.d.Route.TLS
}

// config is how TLS is spoken to a target.
//
// RFC 9325 3.1.1: "Implementations MUST NOT negotiate TLS version 1.1".
// RFC 9525 6.1.1: what the certificate must be for is known "independently of the
// identifiers presented by the server": it is the host that we set out for, or its
// address where we have no name. The library takes "[IPv6:2001:db8::1]" for a name.
func (a *attempt) config(t target) *tls.Config {
	name := t.host
	if smtp.IsLiteral(name) {
		name = t.addr.Addr().String()
	}
	c := &tls.Config{
		ServerName:         name,
		RootCAs:            a.r.o.Roots,
		InsecureSkipVerify: a.policy(t) != postrider.TLSVerify,
		MinVersion:         tls.VersionTLS12,
	}
	if text := []byte(a.d.Route.Certificate); a.authenticates() && len(text) > 0 {
		if pair, err := tls.X509KeyPair(text, text); err == nil { // else the host says that it does not know us
			c.Certificates = []tls.Certificate{pair}
		}
	}
	return c
}

// insecure is the outcome of a host that TLS cannot be spoken to as it must be.
//
// RFC 3463 3.8: X.7.4, "A message contained security features such as secure
// authentication that could not be supported on the delivery protocol"; X.7.5, a
// transport "was unable to do so because necessary information such as key was
// not available or such information was invalid".
func (a *attempt) insecure(t target, err error) postrider.Outcome {
	need, lacks := errors.AsType[*smtpc.NeedError](err)
	e, _ := errors.AsType[*smtpc.Error](err)
	cert, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case lacks:
		return deferred(7, 4, "%s does not offer %s, %s", t, need.Ext, a.remedy())
	case untrusted:
		return deferred(7, 5, "the certificate of %s cannot be trusted: %v: let the host show one for %s that an authority signed, %s", t, cert.Err, t.host,
			a.otherwise())
	case e == nil:
		return deferred(7, 5, "TLS with %s failed: %v", t, err)
	case e.Err == nil:
		return deferred(7, 4, "%s refused STARTTLS (%s), %s", t, e.Reply, a.remedy())
	case e.Stage != smtpc.StageTLS:
		return lost(t, e)
	}
	if a.d.Route.Implicit {
		return deferred(7, 5, "TLS with %s failed: %s: check that the host speaks TLS from the first octet on this port", t, cause(e.Err))
	}
	return deferred(7, 5, "TLS with %s failed: %s, %s", t, cause(e.Err), a.remedy())
}

// otherwise is what an operator can do about a certificate that is as it is.
func (a *attempt) otherwise() string {
	if a.authenticates() {
		return "or have this machine trust who signed it: what says who we are goes to the right host alone"
	}
	return `or set tls = "require" in the route to take any`
}

// remedy is why mail waits for TLS, and what an operator can do.
func (a *attempt) remedy() string {
	if a.authenticates() {
		return "and a password is never sent in the clear: mail waits until the host can, or use smtps:// if it speaks TLS at once"
	}
	return fmt.Sprintf(`and the route says tls = %q: mail waits until the host can, or the route says tls = "opportunistic"`,
		policyName(a.d.Route.TLS))
}

// policyName is a policy in the words of the configuration.
func policyName(p postrider.TLSPolicy) string {
	switch p {
	case postrider.TLSRequire:
		return "require"
	case postrider.TLSVerify:
		return "verify"
	case postrider.TLSNone:
		return "none"
	}
	return "opportunistic"
}

// unwelcome is the outcome of a 530 to MAIL: the peer does not mind the message,
// but the connection that it comes over (RFC 3207 4: "Must issue a STARTTLS
// command first"; RFC 4954 6: "Authentication required").
func unwelcome(t target, r smtp.Reply) postrider.Outcome {
	return deferred(7, 0, "%s wants TLS or authentication before mail (%s): check tls, username and password_file of the route", t, r)
}

package config

import (
	"crypto/tls"
	"net/netip"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/postrider/postrider"
)

// The values of the key "auth" of a route.
const (
	authBest   = "best" // the best that the host offers for a password
	authSCRAM  = "scram"
	authPlain  = "plain"
	authBearer = "oauthbearer"
	authCert   = "external"
)

// A login is what a route says of who we are to a smart host, as it stands there.
type login struct {
	auth, user, file, cert, key                text
	hasAuth, hasUser, hasFile, hasCert, hasKey bool
}

// login reads who we are to a smart host.
func (b body) login(to *postrider.Route, via text) {
	l := login{auth: text{s: authBest}}
	if t, ok := b.text("auth"); ok {
		l.auth, l.hasAuth = text{b.word("auth", t, authBest, authSCRAM, authPlain, authBearer, authCert), t.rng}, true
	}
	l.user, l.hasUser = b.text("username")
	l.file, l.hasFile = b.text("password_file")
	l.cert, l.hasCert = b.text("cert")
	l.key, l.hasKey = b.text("key")
	first, any := l.first()
	switch {
	case !any || to.Via == "" || l.auth.s == "":
	case to.Via != postrider.ViaSMTP:
		b.errorf(first, `Write via = "smtp://HOST:587" or "smtps://HOST".`, "username and password_file are for one host, and not for via = %q", via.s)
	case l.auth.s == authCert:
		b.loginTLS(to, l, via)
		b.certLogin(to, l)
	case l.hasCert || l.hasKey:
		rng := l.key.rng
		if l.hasCert {
			rng = l.cert.rng
		}
		b.errorf(rng, `Write auth = "external", or take it away.`, "cert and key say nothing with auth = %q", l.auth.s)
	default:
		b.loginTLS(to, l, via)
		b.passwordLogin(to, l)
	}
}

// loginTLS says what TLS must be with a host that hears who we are: verified, unless
// the route says otherwise or nobody can be in between. Where it says otherwise a
// proof of the password may go, and the password or a token itself may not.
//
// RFC 4954 14: "If the server has not provided any certificate, or if the
// certificate verification fails, the client MUST NOT attempt to authenticate using
// the SASL PLAIN mechanism." LOGIN gives as much away, and so does a token, whose
// mechanism "relies on the application using TLS to protect" it (RFC 7628 5).
func (b body) loginTLS(to *postrider.Route, l login, via text) {
	attr, given := b.attrs["tls"]
	_, notName := netip.ParseAddr(to.Host)
	itself := l.auth.s != authCert && l.auth.s != authSCRAM
	switch {
	case !given && !loopbackHost(to.Host):
		to.TLS = postrider.TLSVerify
		if notName == nil {
			b.addressVerified(via, to.Host)
		}
	case to.TLS == postrider.TLSVerify || to.TLS == postrider.TLSNone:
	case given && itself && l.hasFile && !loopbackHost(to.Host):
		what := "password"
		if l.auth.s == authBearer {
			what = "token"
		}
		help := `Write tls = "verify", or leave it out.`
		if l.auth.s == authBest {
			help = `Write tls = "verify", or leave it out; or auth = "scram", which never sends the password.`
		}
		b.errorf(attr.Expr.Range(), help, "the %s would go to whoever answers for %s, with any certificate (RFC 4954 14)", what, to.Host)
	default:
		to.TLS = postrider.TLSRequire
	}
}

// addressVerified warns of a host that is to show a certificate for an address.
func (b body) addressVerified(at text, host string) {
	b.warnf(at.rng, "Write the name of the host in via, if its certificate has one.", "tls = \"verify\" wants a certificate for the address %s", host)
}

// first is where the first of what there is stands.
func (l login) first() (hcl.Range, bool) {
	for _, f := range []struct {
		t   text
		has bool
	}{{l.user, l.hasUser}, {l.file, l.hasFile}, {l.auth, l.hasAuth}, {l.cert, l.hasCert}, {l.key, l.hasKey}} {
		if f.has {
			return f.t.rng, true
		}
	}
	return hcl.Range{}, false
}

// passwordLogin is a login with the content of a file: a password, or a token.
func (b body) passwordLogin(to *postrider.Route, l login) {
	switch {
	case !l.hasUser && !l.hasFile:
		b.errorf(l.auth.rng, "Add username and password_file.", "auth = %q without a username", l.auth.s)
	case !l.hasUser:
		b.errorf(l.file.rng, "Add username.", "password_file without a username")
	case l.user.s == "":
		b.errorf(l.user.rng, "Write the name that the host knows us by.", "username is empty")
	case !l.hasFile:
		b.errorf(l.user.rng, "Add password_file, the name of a file with the password in one line.", "username without a password_file")
	case to.TLS == postrider.TLSNone:
		b.errorf(l.user.rng, `Write tls = "verify" or "require".`, "the password would go over the network in the clear")
	default:
		max := int64(passwordMax)
		if l.auth.s == authBearer {
			max = tokenMax
		}
		to.Username, to.Password, to.Auth = l.user.s, postrider.Secret(b.secret("password_file", l.file, max)), authOf(l)
	}
}

// authOf is Route.Auth.
func authOf(l login) string {
	if l.auth.s == authBest {
		return ""
	}
	return l.auth.s
}

// certLogin is a login with a certificate.
func (b body) certLogin(to *postrider.Route, l login) {
	switch {
	case l.hasFile:
		b.errorf(l.file.rng, "Take it away, or take auth away.", `password_file says nothing with auth = "external"`)
	case !l.hasCert:
		b.errorf(l.auth.rng, "Add cert and key, the PEM files that the host knows us by.", `auth = "external" without a cert`)
	case !l.hasKey:
		b.errorf(l.cert.rng, "Add key, the PEM file of the private key.", "cert without a key")
	case to.TLS == postrider.TLSNone:
		b.errorf(l.auth.rng, `Write tls = "verify" or "require".`, "without TLS there is no certificate to show")
	default:
		to.Username, to.Auth = l.user.s, l.auth.s
		to.Certificate = b.clientPair(l.cert, l.key)
	}
}

// clientPair reads a certificate and its key; "" is a mistake, or that no file is
// looked at.
func (b body) clientPair(certFile, keyFile text) postrider.Secret {
	if b.files == nil {
		return ""
	}
	cert, _, err := readFile(b.files, certFile.s, pemMax)
	if err != nil {
		b.errorf(certFile.rng, "Write the name of a PEM file that the server may read.", "cannot read the certificate %s: %v", certFile.s, err)
		return ""
	}
	key, open, err := readFile(b.files, keyFile.s, pemMax)
	if err != nil {
		b.errorf(keyFile.rng, "Write the name of a PEM file that the server may read.", "cannot read the key %s: %v", keyFile.s, err)
		return ""
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		b.errorf(keyFile.rng, "Write the certificate that the host knows us by, and its key.", "%s does not go with %s: %s", keyFile.s, certFile.s,
			strings.TrimPrefix(err.Error(), "tls: "))
		return ""
	}
	if open != 0 {
		b.warnf(keyFile.rng, "Take that right away: chmod o-rw "+keyFile.s, "everybody on this machine may read or write the key %s", keyFile.s)
	}
	return postrider.Secret(string(cert) + "\n" + string(key))
}

package config

import (
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/postrider/postrider/jwt"
	"github.com/postrider/postrider/route"
)

// OAuth says whose tokens let a user in, by OAUTHBEARER (RFC 7628): JSON Web Tokens
// that are checked by public keys in a file, without asking anybody. An empty
// Issuer: nobody's.
type OAuth struct {
	Issuer        string // the claim "iss"
	Audience      string // among the claim "aud"
	Keys          string // file of public keys: a JSON Web Key Set, or PEM
	Claim         string // which holds the address of the account
	Scope         string // among the claim "scope"; empty: none is needed
	Configuration string // URL of the issuer's configuration, for clients; empty: they are not told
	Pos           Pos    // of the keys
}

// defaultClaim is of OpenID Connect.
const defaultClaim = "email"

// oauth reads the block "oauth".
func (r *reader) oauth(block *hcl.Block) OAuth {
	in := r.open(block.Body, "oauth", block.DefRange, oauthShape)
	to := OAuth{Claim: defaultClaim}
	for _, f := range []struct {
		key, help string
		to        *string
		must      bool
	}{
		{"issuer", `Write whose tokens are taken, such as "https://id.example.org".`, &to.Issuer, true},
		{"audience", `Write what the tokens are made out for, such as "mx1.example.org".`, &to.Audience, true},
		{"keys", `Write the name of a file with the public keys of the issuer, such as "/etc/postrider/jwks.json".`, &to.Keys, true},
		{"claim", `Write the claim that holds the address of the account, such as "email".`, &to.Claim, false},
		{"scope", "Write the scope that a token needs, or leave it out.", &to.Scope, false},
		{"configuration", `Write a URL such as "https://id.example.org/.well-known/openid-configuration".`, &to.Configuration, false},
	} {
		_, given := in.attrs[f.key]
		t, ok := in.text(f.key)
		switch {
		case !given && f.must:
			r.errorf(block.DefRange, f.help, "oauth has no %s", f.key)
		case ok && t.s == "":
			r.errorf(t.rng, f.help, "%s is empty", f.key)
		case ok && f.key == "configuration" && !strings.HasPrefix(t.s, "https://"):
			r.errorf(t.rng, f.help, "configuration: %q does not begin with https://", t.s) // RFC 7628 3.2.2
		case ok:
			*f.to = t.s
		}
		if f.key == "keys" && ok && t.s != "" {
			to.Pos = r.pos(t.rng)
			if _, err := to.keys(r.files); r.files != nil && err != nil {
				r.errorf(t.rng, "Write the name of a JSON Web Key Set, or of public keys in PEM form.", "keys: %v", err)
			}
		}
	}
	return to
}

// Verifier is what checks tokens. An error says what is wrong with the file of the
// keys.
func (o OAuth) Verifier(files route.Files) (jwt.Verifier, error) {
	keys, err := o.keys(files)
	return jwt.Verifier{Keys: keys, Issuer: o.Issuer, Audience: o.Audience, Scope: o.Scope}, err
}

func (o OAuth) keys(files route.Files) ([]jwt.Key, error) {
	if files == nil {
		return nil, nil
	}
	src, open, err := readFile(files, o.Keys, pemMax)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", o.Keys, err)
	}
	if open&writeByAll != 0 {
		return nil, fmt.Errorf("everybody on this machine may write %s, and so let anybody in", o.Keys)
	}
	keys, err := jwt.ParseKeys(src)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Keys, err)
	}
	return keys, nil
}

// clientCA reads the key "client_ca" of a listener. RFC 2033 has no users, so that
// they are for SMTP alone.
func (b body) clientCA(l *Listener) {
	t, ok := b.text("client_ca")
	if !ok {
		return
	}
	l.ClientCA, l.ClientCAPos = t.s, b.pos(t.rng)
	switch {
	case t.s == "":
		b.errorf(t.rng, "Write the name of a PEM file with the certificates of who signs those of users.", "client_ca is empty")
	case l.Role == RoleLMTP:
		b.errorf(t.rng, "Take it away, or use a listener of role submission.", "client_ca says nothing with role = %q", l.Role)
	case l.TLS == TLSNone:
		b.errorf(t.rng, `Write tls = "starttls" or "implicit".`, "client_ca needs TLS: without it no client shows a certificate")
	case b.files != nil:
		if _, err := l.ClientCAs(b.files); err != nil {
			b.errorf(t.rng, "Write the name of a PEM file with the certificates of who signs those of users.", "client_ca: %v", err)
		}
	}
}

// ClientCAs are who may sign the certificates of users at this listener; nil:
// nobody.
func (l Listener) ClientCAs(files route.Files) (*x509.CertPool, error) {
	if l.ClientCA == "" {
		return nil, nil
	}
	src, open, err := readFile(files, l.ClientCA, pemMax)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", l.ClientCA, err)
	}
	if open&writeByAll != 0 {
		return nil, fmt.Errorf("everybody on this machine may write %s, and so let anybody in", l.ClientCA)
	}
	pool := x509.NewCertPool()
	if _, err := firstCert(src); err != nil || !pool.AppendCertsFromPEM(src) {
		return nil, fmt.Errorf("%s: it holds no certificate in PEM form", l.ClientCA)
	}
	return pool, nil
}

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/jwt"
	"github.com/postrider/postrider/smtp"
)

// vouchers are who may say for a client who it is, as one configuration has them.
type vouchers struct {
	tokens  *jwt.Verifier             // nil: nobody's tokens are taken
	oauth   config.OAuth              // of tokens
	clients map[string]*x509.CertPool // who signs the certificates of users, by listener
}

// openVouchers reads the files that a configuration names for them, and tells who
// cannot prove by himself who he is.
func (n *Node) openVouchers(cfg *config.Config) (vouchers, error) {
	if old := n.accounts.Unproved(); len(old) > 0 {
		n.env.Log.Warn("SCRAM is not offered: some accounts are older than its keys, until \"user passwd\" gives them a password anew",
			"accounts", len(old), "first", old[0].Name())
	}
	v := vouchers{oauth: cfg.OAuth, clients: map[string]*x509.CertPool{}}
	files := Files(n.env.FS)
	if cfg.OAuth.Issuer != "" {
		tokens, err := cfg.OAuth.Verifier(files)
		if err != nil {
			return v, located(cfg.OAuth.Pos, err, "tokens cannot be checked", "")
		}
		v.tokens = &tokens
	}
	for _, l := range cfg.Listeners {
		pool, err := l.ClientCAs(files)
		if err != nil {
			return v, located(l.ClientCAPos, err, "certificates of users cannot be checked", "")
		}
		if pool != nil {
			v.clients[l.Name] = pool
		}
	}
	return v, nil
}

// tlsConfigOf is tlsConfig at one listener: where users may show a certificate, they
// are asked for one. One that nobody knows is as good as none: the handshake goes
// on, for it may be the certificate of a server that has mail for us.
func (n *Node) tlsConfigOf(listener string) func() *tls.Config {
	return func() *tls.Config {
		c := n.tlsConfig()
		if pool := n.clientCAs(listener)(); pool != nil {
			c = c.Clone()
			c.ClientAuth, c.ClientCAs = tls.RequestClientCert, pool
		}
		return c
	}
}

// clientCAs are who may sign the certificates of users at one listener.
func (n *Node) clientCAs(listener string) func() *x509.CertPool {
	return func() *x509.CertPool { return n.gen.Load().vouchers.clients[listener] }
}

// currentTokens implements receive.Tokens with the configuration at hand.
type currentTokens struct{ n *Node }

func (c currentTokens) Offered() bool { return c.n.gen.Load().vouchers.tokens != nil }

// Token returns the address in a token. What is wrong with it the client is told
// as far as it can do something about it (RFC 6750 3.1).
func (c currentTokens) Token(_ context.Context, r smtp.BearerRequest) (string, smtp.BearerError) {
	v := c.n.gen.Load().vouchers
	e := smtp.BearerError{Status: "invalid_token", Scope: v.oauth.Scope, Configuration: v.oauth.Configuration}
	if v.tokens == nil {
		return "", e // a reload has just ended it
	}
	claims, err := v.tokens.Verify(r.Token, c.n.env.Now())
	switch {
	case errors.Is(err, jwt.ErrScope):
		e.Status = "insufficient_scope"
		return "", e
	case err != nil, claims.Denies(v.oauth.Claim + "_verified"):
		return "", e
	}
	return claims.Text(v.oauth.Claim), e
}

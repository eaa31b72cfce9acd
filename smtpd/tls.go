package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/postrider/postrider/smtp"
)

// errNoTLS: Server.TLS gave nothing to a connection that begins with TLS.
var errNoTLS = errors.New("smtpd: a listener with implicit TLS has no TLS configuration")

// config is the configuration of TLS as it is now; nil: there is none.
func (s *Server) config() *tls.Config {
	if s.TLS == nil {
		return nil
	}
	return s.TLS()
}

// harden returns a copy of a configuration that keeps what Server.TLS promises.
// RFC 8996 4 and 5: TLS 1.0 and 1.1 "MUST NOT be used". A session ticket would be
// sent to a client that has asked for none, outlive the change of a certificate,
// and spare a handshake that few clients of a mail server do twice.
func harden(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	config.SessionTicketsDisabled = true
	if choose := config.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen == nil || err != nil {
				return nil, err
			}
			return harden(chosen), nil
		}
	}
	return config
}

// startTLS answers STARTTLS (RFC 3207 4). What follows a 220 is done by secure.
func (c *conn) startTLS(context.Context, string) smtp.Reply {
	switch {
	case c.client.TLS != nil:
		return *no(503, 5, 1, "TLS is active already")
	case c.server.TLS == nil:
		return *no(502, 5, 1, "Command not implemented")
	}
	if c.upgrade = c.server.config(); c.upgrade == nil {
		return smtp.Reply{Code: 454, Status: smtp.Status{Class: 4, Subject: 7, Detail: 0}, Text: "TLS is not available now"}
	}
	return smtp.Reply{Code: 220, Status: smtp.Status{Class: 2, Subject: 0, Detail: 0}, Text: "Ready to start TLS"}
}

// secure goes over to TLS after the 220, and begins again with another session.
// What the client, or somebody on the way, has sent behind STARTTLS in the clear
// is thrown away here, and never acted on as if it had come under TLS. RFC 3207
// 4.2: "The server MUST discard any knowledge obtained from the client, such as
// the argument to the EHLO command, which was not obtained from the TLS
// negotiation itself."
func (c *conn) secure(ctx context.Context) bool {
	c.closeSession()
	config := c.upgrade
	c.upgrade, c.r, c.w = nil, 0, 0
	c.resize(0)
	err := c.handshake(config)
	c.resize(readSize)
	if err != nil {
		return false
	}
	c.state.secured()
	if r := c.openSession(ctx); r.Code == 421 {
		c.out = r.AppendTo(c.out)
		return false
	} else if !r.IsZero() {
		c.state.refuse(r)
	}
	return true
}

// implicit is the handshake of a connection that begins with it.
func (c *conn) implicit() bool {
	config := c.server.config()
	if config == nil {
		c.server.alarm(errNoTLS)
		return false
	}
	return c.handshake(config) == nil
}

// handshake makes the connection one over TLS. After an error there is nothing
// more to say or to hear on it.
func (c *conn) handshake(config *tls.Config) error {
	t := tls.Server(c.raw, harden(config))
	// As in receive: the deadline first, then a look whether it is to be cut short.
	_ = c.raw.SetDeadline(time.Now().Add(c.server.handshakeTimeout()))
	c.idle.Store(true)
	err := errDraining
	if c.base.Err() == nil && !c.server.draining() {
		err = t.Handshake()
	}
	c.idle.Store(false)
	c.disarm()
	if err != nil {
		return c.die(err)
	}
	state := t.ConnectionState()
	c.nc, c.client.TLS, c.client.shown = t, &state, onlyCertificate(config)
	return nil
}

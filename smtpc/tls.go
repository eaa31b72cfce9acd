package smtpc

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/postrider/postrider/smtp"
)

// ErrCleartext: an authentication was asked for on a connection without TLS.
// Nothing was sent.
var ErrCleartext = errors.New("credentials are never sent in the clear")

// errActive: RFC 3207 4.2: "A client MUST NOT attempt to start a TLS session if a
// TLS session is already active."
var errActive = errors.New("smtpc: TLS is active already")

// TLS returns the state of TLS, or nil in the clear.
func (c *Conn) TLS() *tls.ConnectionState { return c.tls }

// StartTLS negotiates TLS (RFC 3207) and says hello again. Where the peer does not
// offer STARTTLS, a *NeedError, or refuses it, an *Error with its Reply, the
// connection may go on in the clear. Any other error ends it: the handshake
// failed, which config decides, or what came after.
//
// RFC 3207 4.2: "The client MUST discard any knowledge obtained from the server,
// such as the list of SMTP service extensions, which was not obtained from the
// TLS negotiation itself." The second hello takes the place of all of it.
func (c *Conn) StartTLS(ctx context.Context, config *tls.Config) error {
	if err := c.alive(StageTLS); err != nil {
		return err
	}
	if c.tls != nil {
		return errActive
	}
	if _, ok := c.Ext("STARTTLS"); !ok {
		return &NeedError{Ext: "STARTTLS"}
	}
	defer c.watch(ctx)()
	r, err := c.command(StageTLS, "STARTTLS")
	switch {
	case err != nil:
		return err
	case !r.Positive():
		return &Error{Stage: StageTLS, Reply: r}
	case c.r.Buffered() > 0:
		// What came in the clear behind the reply would be taken for the first words
		// under TLS: somebody in between may have put it there.
		return c.end(StageTLS, smtp.Reply{}, ErrUnasked)
	}
	if err := c.handshake(ctx, config); err != nil {
		return err
	}
	err = c.hello()
	if err != nil && !c.dead {
		c.quit()
		c.Close()
	}
	return err
}

// handshake makes the connection one over TLS, or ends it.
func (c *Conn) handshake(ctx context.Context, config *tls.Config) error {
	conn := tls.Client(c.raw, config)
	c.raw.SetDeadline(time.Now().Add(c.timeouts.TLS))
	if err := conn.HandshakeContext(ctx); err != nil {
		return c.end(StageTLS, smtp.Reply{}, err)
	}
	state := conn.ConnectionState()
	c.tls = &state
	c.over(conn)
	return nil
}

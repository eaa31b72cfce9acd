package smtpc

import (
	"context"
	"crypto/rand"
	"io"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// Credentials are what we can say to a server that asks who we are. What is
// empty we do not have.
type Credentials struct {
	Username string
	Password string // of Username
	Token    string // of OAUTHBEARER, for Username if that is not empty
	// Certificate: the configuration of TLS has a certificate to show for us, which
	// EXTERNAL is about. Username may say whom it is to stand for.
	Certificate bool
	// Clear says whether the Password itself may be sent, under TLS as always.
	Clear Clear
	// Rand is where nonces come from; nil: crypto/rand.Reader.
	Rand io.Reader
}

// Clear says whether a password may be sent itself, or only a proof of it.
type Clear uint8

const (
	ClearElse  Clear = iota // where the server has nothing better
	ClearNever              // SCRAM or nothing
	ClearOnly               // PLAIN or LOGIN: for a server whose SCRAM does not work
)

// Login authenticates by the best mechanism that the peer offers and c has
// something for: EXTERNAL, OAUTHBEARER, SCRAM-SHA-256-PLUS, SCRAM-SHA-256, PLAIN,
// LOGIN. Where it offers none of them the error is a *NeedError with what it would
// need; the other errors are those of Auth. Nothing weaker is tried after one that
// was refused: a server that has not proved itself might be after the password.
//
// Whether the certificate of the peer was verified is for the tls.Config to say.
// RFC 4954 14: "If the server has not provided any certificate, or if the certificate
// verification fails, the client MUST NOT attempt to authenticate using the SASL PLAIN
// mechanism": where it takes any, set Clear to ClearNever.
func (c *Conn) Login(ctx context.Context, cred Credentials) error {
	if err := c.alive(StageAuth); err != nil {
		return err
	}
	if c.tls == nil {
		return &Error{Stage: StageAuth, Err: ErrCleartext}
	}
	names := cred.mechanisms()
	for _, name := range names {
		if c.OffersAuth(name) {
			return c.Auth(ctx, c.mechanism(name, cred))
		}
	}
	last := len(names) - 1
	need := "AUTH " + names[last]
	if last > 0 {
		need = "AUTH " + strings.Join(names[:last], ", ") + " or " + names[last]
	}
	return &NeedError{Ext: need}
}

// mechanisms are those that the credentials will do for, the best first.
func (cred Credentials) mechanisms() []string {
	var names []string
	if cred.Certificate {
		names = append(names, smtp.External)
	}
	if cred.Token != "" {
		names = append(names, smtp.OAuthBearer)
	}
	if cred.Password == "" && len(names) > 0 {
		return names
	}
	if cred.Clear != ClearOnly {
		names = append(names, smtp.SCRAMPlus, smtp.SCRAM)
	}
	if cred.Clear != ClearNever {
		names = append(names, "PLAIN", "LOGIN")
	}
	return names
}

// mechanism makes the client of a mechanism.
func (c *Conn) mechanism(name string, cred Credentials) smtp.SASLClient {
	switch name {
	case smtp.External:
		return smtp.ExternalClient(cred.Username)
	case smtp.OAuthBearer:
		return smtp.BearerClient(smtp.BearerRequest{Identity: cred.Username, Token: cred.Token})
	case smtp.SCRAMPlus, smtp.SCRAM:
		o := smtp.SCRAMClientOptions{User: cred.Username, Password: cred.Password, Plus: name == smtp.SCRAMPlus, Binding: c.binding(), Rand: cred.Rand}
		o.Able = len(o.Binding.Value) > 0
		if o.Rand == nil {
			o.Rand = rand.Reader
		}
		return smtp.SCRAMClient(o)
	case "LOGIN":
		return smtp.LoginClient(cred.Username, cred.Password)
	}
	return smtp.PlainClient(cred.Username, cred.Password)
}

package smtp

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"strings"
)

// ErrServerUnproved: a server that must know our password has not proved that it
// does. RFC 5802 5: "the client MUST consider the authentication exchange to be
// unsuccessful, and it might have to drop the connection."
var ErrServerUnproved = errors.New("smtp: the server has not proved that it knows our password, so it may be another than the one we set out for")

// A SASLProver is a SASLClient of a mechanism that proves the server too. A
// positive reply counts only when Proved reports true.
type SASLProver interface {
	SASLClient
	Proved() bool
}

// SCRAMClientOptions are what the client side of SCRAM knows.
type SCRAMClientOptions struct {
	// User and Password are prepared by the caller; see NewSCRAMKeys.
	User, Password string
	// Identity is whom we want to act as; empty: User.
	Identity string
	// Plus: the mechanism is SCRAM-SHA-256-PLUS, bound to Binding.
	Plus    bool
	Binding ChannelBinding
	// Able: we can bind channels, and the server does not offer PLUS. RFC 5802 6: "the
	// client MUST NOT use an "n" gs2-cbind-flag" then, so that a server that does
	// learns that somebody took it out of the list.
	Able bool
	// Rand is where the nonce comes from: crypto/rand.Reader.
	Rand io.Reader
}

// SCRAMClient speaks SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677).
// The password is never sent. What it returns is a SASLProver.
func SCRAMClient(o SCRAMClientOptions) SASLClient { return &scramClient{o: o} }

type scramClient struct {
	o         SCRAMClientOptions
	first     scramFirst
	step      scramStep
	signature [sha256.Size]byte // what the server must know
	proved    bool
}

// errNonce: RFC 5802 5.1: "The client MUST verify that the initial part of the
// nonce used in subsequent messages is the same as the nonce it initially
// specified."
var errNonce = errors.New("smtp: SCRAM: the server does not go on with our nonce")

func (c *scramClient) Mechanism() string {
	if c.o.Plus {
		return SCRAMPlus
	}
	return SCRAM
}

func (c *scramClient) Proved() bool { return c.proved }

func (c *scramClient) Start() ([]byte, error) {
	if !isCredential(c.o.User) || !isCredential(c.o.Password) || !isSASLText(c.o.Identity) {
		return nil, errCredentials
	}
	random := make([]byte, scramNonceSize)
	if _, err := io.ReadFull(c.o.Rand, random); err != nil {
		return nil, err
	}
	h := gs2Header{flag: bindingNone, identity: c.o.Identity}
	switch {
	case c.o.Plus:
		if !isBindingName(c.o.Binding.Type) || len(c.o.Binding.Value) == 0 {
			return nil, errors.New("smtp: SCRAM-SHA-256-PLUS without a channel binding")
		}
		h.flag, h.binding = bindingUsed, c.o.Binding.Type
	case c.o.Able:
		h.flag = bindingUnused
	}
	c.first = scramFirst{header: h, user: c.o.User, nonce: scramBase64(random)}
	c.step = scramStepFinal
	return []byte(c.first.String()), nil
}

func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	switch c.step {
	case scramStepFinal:
		return c.prove(string(challenge))
	case scramStepEnd:
		return c.hear(string(challenge))
	}
	return nil, errChallenge
}

// prove answers the server-first-message.
func (c *scramClient) prove(challenge string) ([]byte, error) {
	m, err := parseScramChallenge(challenge)
	switch {
	case err != nil:
		return nil, err
	case !strings.HasPrefix(m.nonce, c.first.nonce) || m.nonce == c.first.nonce:
		return nil, errNonce
	}
	salted, err := scramSalted(c.o.Password, m.salt, m.iterations)
	if err != nil {
		return nil, err
	}
	final := scramFinal{binding: []byte(c.first.header.String()), nonce: m.nonce}
	if c.o.Plus {
		final.binding = append(final.binding, c.o.Binding.Value...)
	}
	auth := strings.Join([]string{c.first.bare(), challenge, final.bare()}, ",")
	client, server := scramHMAC(salted, "Client Key"), scramHMAC(salted, "Server Key")
	stored := sha256.Sum256(client[:])
	proof := scramHMAC(stored[:], auth)
	subtle.XORBytes(proof[:], proof[:], client[:])
	final.proof, c.signature = proof[:], scramHMAC(server[:], auth)
	c.step = scramStepEnd
	return []byte(final.String()), nil
}

// hear reads the server-final-message. With an error of the server in it, its
// reply is still to come, and the answer that waits for it is empty.
func (c *scramClient) hear(challenge string) ([]byte, error) {
	c.step = scramStepFirst // nothing more
	if f, err := scramFields(challenge, "e"); err == nil && len(f) > 0 {
		return []byte{}, nil
	}
	f, err := scramFields(challenge, "v")
	if err != nil {
		return nil, err
	}
	signature, ok := DecodeSASL(f[0])
	if !ok || !hmac.Equal(signature, c.signature[:]) {
		return nil, ErrServerUnproved
	}
	c.proved = true
	return []byte{}, nil
}

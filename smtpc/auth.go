package smtpc

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/postrider/postrider/smtp"
)

const (
	// commandMax is the longest command with its CRLF (RFC 5321 4.5.3.1.4).
	commandMax = 512
	// challengesMax bounds the challenges that one exchange answers.
	challengesMax = 10
)

var (
	// errChallengeForm: a challenge that is no base64.
	errChallengeForm = errors.New("the peer sent a challenge that cannot be decoded")
	// errChallengeMany: the peer asks on and on.
	errChallengeMany = errors.New("the peer sent too many challenges")
)

// Auth authenticates (RFC 4954), under TLS only: without it nothing is sent and
// the error is ErrCleartext. Where the peer does not offer the mechanism it is a
// *NeedError, and where the peer refuses, an *Error with its Reply: the connection
// may go on then. A reply that repeats what we sent has another text. A peer that
// must prove itself, by a smtp.SASLProver, and does not has not authenticated us,
// whatever it replies: the connection ends, and the error is
// smtp.ErrServerUnproved in an *Error.
//
// RFC 4954 4: "If use of the initial response argument would cause the AUTH
// command to exceed this length, the client MUST NOT use the initial response
// parameter".
func (c *Conn) Auth(ctx context.Context, m smtp.SASLClient) error {
	if err := c.alive(StageAuth); err != nil {
		return err
	}
	if c.tls == nil {
		return &Error{Stage: StageAuth, Err: ErrCleartext}
	}
	if !c.OffersAuth(m.Mechanism()) {
		return &NeedError{Ext: "AUTH " + m.Mechanism()}
	}
	initial, err := m.Start()
	if err != nil {
		return &Error{Stage: StageAuth, Err: err}
	}
	line := "AUTH " + m.Mechanism()
	if initial != nil {
		word := encode(initial, true)
		if len(line)+len(" ")+len(word)+len("\r\n") <= commandMax {
			line, initial = line+" "+word, nil
		}
	}
	defer c.watch(ctx)()
	err = c.exchange(m, line, initial)
	c.authed = c.authed || err == nil
	return err
}

// OffersAuth reports whether the peer offers a mechanism.
func (c *Conn) OffersAuth(mechanism string) bool {
	params, _ := c.Ext("AUTH")
	return slices.Contains(strings.Fields(strings.ToUpper(params)), mechanism)
}

// exchange sends the AUTH command and answers the challenges. An initial response
// that did not fit answers the first.
func (c *Conn) exchange(m smtp.SASLClient, line string, initial []byte) error {
	sent := strings.Fields(line)[2:]
	r, err := c.command(StageAuth, line)
	for n := 0; err == nil && r.Intermediate(); n++ {
		response := initial
		if initial == nil {
			response, err = respond(m, r, n)
		}
		if errors.Is(err, smtp.ErrServerUnproved) {
			return c.end(StageAuth, smtp.Reply{}, err)
		}
		if err != nil {
			return c.cancel(err)
		}
		word := encode(response, false)
		sent, initial = append(sent, word), nil
		r, err = c.command(StageAuth, word)
	}
	e, ok := errors.AsType[*Error](err)
	switch {
	case ok:
		e.Reply = withhold(e.Reply, sent)
	case err == nil && !r.Positive():
		err = &Error{Stage: StageAuth, Reply: withhold(r, sent)}
	case err == nil && !proved(m):
		err = c.end(StageAuth, smtp.Reply{}, smtp.ErrServerUnproved)
	}
	return err
}

// proved reports whether the server has proved to be the one that it should be,
// where the mechanism asks that of it.
func proved(m smtp.SASLClient) bool {
	p, ok := m.(smtp.SASLProver)
	return !ok || p.Proved()
}

// respond is the response to challenge n.
func respond(m smtp.SASLClient, r smtp.Reply, n int) ([]byte, error) {
	challenge, ok := smtp.DecodeSASL(r.Text)
	switch {
	case !ok:
		return nil, errChallengeForm
	case n >= challengesMax:
		return nil, errChallengeMany
	}
	return m.Next(challenge)
}

// cancel gives an exchange up. RFC 4954 4: "If the client wishes to cancel the
// authentication exchange, it issues a line with a single "*". If the server
// receives such a response, it MUST reject the AUTH command by sending a 501
// reply." One that does not is out of step.
func (c *Conn) cancel(why error) error {
	r, err := c.command(StageAuth, "*")
	if err == nil && !r.Permanent() && !r.Temporary() {
		c.Close()
	}
	return &Error{Stage: StageAuth, Err: why}
}

// encode writes a response; an initial one without octets is "=" (RFC 4954 4).
func encode(response []byte, initial bool) string {
	if initial && len(response) == 0 {
		return "="
	}
	return smtp.EncodeSASL(response)
}

// withhold takes the words of a peer away that repeat what we sent: they end up
// in logs and reports.
func withhold(r smtp.Reply, sent []string) smtp.Reply {
	for _, word := range sent {
		if len(word) > 1 && strings.Contains(r.Text, word) {
			r.Text = "(the text is withheld, for it repeats the credentials)"
		}
	}
	return r
}

package smtp

import (
	"crypto/subtle"
	"io"
	"strings"
)

// SCRAMServerOptions are what the server side of SCRAM asks of its program.
type SCRAMServerOptions struct {
	// Plus: the mechanism is SCRAM-SHA-256-PLUS, else SCRAM-SHA-256.
	Plus bool
	// Bindings are those of the channel. Where there are any, PLUS is offered:
	// RFC 5802 6: "Servers that support the use of channel binding SHOULD advertise
	// both". None: it is not.
	Bindings []ChannelBinding
	// Rand is where the nonce comes from: crypto/rand.Reader.
	Rand io.Reader
	// Keys returns the keys of a user. For one that has none it returns keys that no
	// password has, always with the same salt for a name: else the answer tells which
	// names there are. The name is not empty, and is not prepared in any way.
	Keys func(user string) SCRAMKeys
	// Finish is asked once, with whether the client has proved to know the password,
	// and whom it wants to act as, which is empty or its own affair as with
	// PlainServer. Its reply is the end: a positive one counts only with proved. It
	// is sent after the client has heard our signature, and a client that does not
	// like that one goes away: nothing is to be done for the user before.
	Finish func(identity, user string, proved bool) Reply
}

// SCRAMServer answers SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677).
// A client that says that we do not offer PLUS where we do has been lied to: it is
// refused.
func SCRAMServer(o SCRAMServerOptions) SASLServer { return &scramServer{o: o} }

// Replies of SCRAM beside those of sasl.go.
var (
	badExtension  = Reply{Code: 535, Status: Status{5, 7, 0}, Text: "That extension of SCRAM is not known here"}
	badBinding    = Reply{Code: 535, Status: Status{5, 7, 0}, Text: "The channel binding does not agree: this is not the connection that you think it is"}
	badDowngrade  = Reply{Code: 535, Status: Status{5, 7, 0}, Text: "SCRAM-SHA-256-PLUS is offered here, and you have not seen it: somebody may have changed what you have read"}
	noSuchBinding = Reply{Code: 535, Status: Status{5, 7, 0}, Text: "That channel binding is not supported on this connection"}
	noBinding     = Reply{Code: 535, Status: Status{5, 7, 0}, Text: "SCRAM-SHA-256-PLUS goes with a channel binding, and SCRAM-SHA-256 without"}
)

type scramServer struct {
	o       SCRAMServerOptions
	step    scramStep
	first   scramFirst
	nonce   string // of both
	sent    string // our first message
	binding []byte // what the client must repeat
	keys    SCRAMKeys
	reply   Reply // the end, once the client has heard our signature
}

// A scramStep is which message comes next.
type scramStep uint8

const (
	scramStepFirst scramStep = iota
	scramStepFinal
	scramStepEnd // the empty response to our signature
)

func (s *scramServer) Next(response []byte) ([]byte, bool, Reply) {
	switch {
	case response == nil:
		return nil, false, Reply{}
	case s.step == scramStepFirst:
		return s.start(string(response))
	case s.step == scramStepFinal:
		return s.finish(string(response))
	case len(response) > 0:
		return nil, true, badMessage
	}
	return nil, true, s.reply
}

// start answers the client-first-message.
func (s *scramServer) start(message string) ([]byte, bool, Reply) {
	m, err := parseScramFirst(message)
	if err != nil {
		return nil, true, scramFault(err)
	}
	s.binding = []byte(m.header.String())
	if r := s.bind(m.header); !r.IsZero() {
		return nil, true, r
	}
	random := make([]byte, scramNonceSize)
	if _, err := io.ReadFull(s.o.Rand, random); err != nil {
		return nil, true, Reply{}
	}
	s.first, s.keys = m, s.o.Keys(m.user)
	s.nonce = m.nonce + scramBase64(random)
	s.sent = scramChallenge{nonce: s.nonce, salt: s.keys.Salt, iterations: s.keys.Iterations}.String()
	s.step = scramStepFinal
	return []byte(s.sent), false, Reply{}
}

// bind looks at what a client wants of channel binding, and takes its octets. A
// reply that is not zero refuses it.
//
// RFC 5802 6: "If the flag is set to "y" and the server supports channel binding,
// the server MUST fail authentication." "If the channel binding flag was "p" and
// the server does not support the indicated channel binding type, then the server
// MUST fail authentication."
func (s *scramServer) bind(h gs2Header) Reply {
	switch {
	case h.flag == bindingUnused && len(s.o.Bindings) > 0:
		return badDowngrade
	case (h.flag == bindingUsed) != s.o.Plus:
		return noBinding
	case h.flag != bindingUsed:
		return Reply{}
	}
	for _, b := range s.o.Bindings {
		if b.Type == h.binding && len(b.Value) > 0 {
			s.binding = append(s.binding, b.Value...)
			return Reply{}
		}
	}
	return noSuchBinding
}

// finish answers the client-final-message. RFC 4954 4: SMTP "doesn't support the
// SASL feature of returning additional data with a successful outcome", so that
// our signature is one challenge more.
//
// RFC 5802 5.1: "The server MUST verify that the nonce sent by the client in the
// second message is the same as the one sent by the server in its first message."
// 6: "The server MUST always validate the client's "c=" field."
func (s *scramServer) finish(message string) ([]byte, bool, Reply) {
	m, err := parseScramFinal(message)
	switch {
	case err != nil:
		return nil, true, scramFault(err)
	case m.nonce != s.nonce:
		return nil, true, badMessage
	case subtle.ConstantTimeCompare(m.binding, s.binding) != 1:
		return nil, true, badBinding
	}
	auth := strings.Join([]string{s.first.bare(), s.sent, m.bare()}, ",")
	proved := scramProves(s.keys, auth, m.proof)
	r := s.o.Finish(s.first.header.identity, s.first.user, proved)
	if r.Positive() && !proved {
		r = badCredentials
	}
	if !r.Positive() {
		return nil, true, r
	}
	s.step, s.reply = scramStepEnd, r
	signature := scramHMAC(s.keys.ServerKey[:], auth)
	return []byte("v=" + scramBase64(signature[:])), false, Reply{}
}

// scramFault is the reply to a message that cannot be read.
func scramFault(err error) Reply {
	if err == errMandatory {
		return badExtension
	}
	return badMessage
}

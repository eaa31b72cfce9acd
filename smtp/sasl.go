package smtp

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf8"
)

// A SASLServer is the server side of one authentication exchange (RFC 4422), as
// AUTH carries it (RFC 4954).
type SASLServer interface {
	// Next takes a response of the client and returns the next challenge, or, with
	// done, what the client hears in the end: a positive reply has authenticated
	// it. The first response is nil when AUTH came without one; a response that is
	// there and empty is not nil. Nothing is called after done, nor after the client
	// has cancelled.
	Next(response []byte) (challenge []byte, done bool, r Reply)
}

// A SASLClient is the client side of one authentication exchange.
type SASLClient interface {
	// Mechanism is the name in the AUTH command.
	Mechanism() string
	// Start returns the initial response; nil: the mechanism has none. RFC 4954 4: it
	// goes into the AUTH command if the line is not too long for it, and else is the
	// answer to an empty challenge.
	Start() ([]byte, error)
	// Next answers a challenge. RFC 4954 4: after an error the client sends "*".
	Next(challenge []byte) ([]byte, error)
}

// Replies of RFC 4954 6 that a mechanism gives by itself.
var (
	badCredentials = Reply{Code: 535, Status: Status{5, 7, 8}, Text: "Authentication credentials invalid"}
	badMessage     = Reply{Code: 501, Status: Status{5, 5, 2}, Text: "That is no message of this mechanism"}
)

// Errors of a SASLClient. They never repeat a name or a password.
var (
	errCredentials = errors.New("smtp: a name or password is empty, holds a NUL, or is not UTF-8")
	errChallenge   = errors.New("smtp: the server sent a challenge that the mechanism does not have")
)

// PlainServer answers PLAIN (RFC 4616). verify is asked once, with an identity
// that is empty unless the client wants to act as somebody else than user. It
// decides whether it may: RFC 4616 2: the server "will verify that the
// authentication credentials permit the client to act as the (presented or
// derived) authorization identity". User and password are never empty; neither
// holds a NUL; all are UTF-8 and not prepared in any way.
func PlainServer(verify func(identity, user, password string) Reply) SASLServer {
	return &plainServer{verify}
}

type plainServer struct {
	verify func(identity, user, password string) Reply
}

func (s *plainServer) Next(response []byte) ([]byte, bool, Reply) {
	if response == nil {
		return nil, false, Reply{}
	}
	// RFC 4616 2: message = [authzid] UTF8NUL authcid UTF8NUL passwd.
	parts := strings.Split(string(response), "\x00")
	if len(parts) != 3 || !utf8.Valid(response) {
		return nil, true, badMessage
	}
	if parts[1] == "" || parts[2] == "" {
		return nil, true, badCredentials
	}
	return nil, true, s.verify(parts[0], parts[1], parts[2])
}

// LoginServer answers LOGIN, which no RFC defines and much software speaks: the
// server asks for a name and then for a password. Some clients send the name with
// the AUTH command. What verify is given keeps the rules of PlainServer.
func LoginServer(verify func(user, password string) Reply) SASLServer {
	return &loginServer{verify: verify}
}

type loginServer struct {
	verify func(user, password string) Reply
	user   string
	named  bool // user was given
}

func (s *loginServer) Next(response []byte) ([]byte, bool, Reply) {
	switch word := string(response); {
	case response == nil:
		// Clients look for these words.
		return []byte("Username:"), false, Reply{}
	case !utf8.ValidString(word) || strings.Contains(word, "\x00"):
		return nil, true, badMessage
	case !s.named:
		s.user, s.named = word, true
		return []byte("Password:"), false, Reply{}
	case s.user == "" || word == "":
		return nil, true, badCredentials
	default:
		return nil, true, s.verify(s.user, word)
	}
}

// PlainClient speaks PLAIN. RFC 4616 2: "the client does not provide an
// authorization identity when it wishes the server to derive an identity from the
// credentials".
func PlainClient(user, password string) SASLClient { return plainClient{user, password} }

type plainClient struct{ user, password string }

func (plainClient) Mechanism() string { return "PLAIN" }

func (c plainClient) Start() ([]byte, error) {
	if !isCredential(c.user) || !isCredential(c.password) {
		return nil, errCredentials
	}
	return []byte("\x00" + c.user + "\x00" + c.password), nil
}

func (plainClient) Next([]byte) ([]byte, error) { return nil, errChallenge }

// LoginClient speaks LOGIN. It answers the first challenge with the name and the
// second with the password, whatever their words: those differ from server to
// server.
func LoginClient(user, password string) SASLClient {
	return &loginClient{left: []string{user, password}}
}

type loginClient struct{ left []string }

func (*loginClient) Mechanism() string { return "LOGIN" }

func (c *loginClient) Start() ([]byte, error) {
	for _, word := range c.left {
		if !isCredential(word) {
			return nil, errCredentials
		}
	}
	return nil, nil
}

func (c *loginClient) Next([]byte) ([]byte, error) {
	if len(c.left) == 0 {
		return nil, errChallenge
	}
	word := c.left[0]
	c.left = c.left[1:]
	return []byte(word), nil
}

// isCredential reports whether s is 1*SAFE of RFC 4616 2.
func isCredential(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.Contains(s, "\x00")
}

// EncodeSASL returns a challenge or a response as it goes over the line. An
// initial response without octets is written "=" in its place (RFC 4954 4).
func EncodeSASL(message []byte) string { return base64.StdEncoding.EncodeToString(message) }

// DecodeSASL reads a challenge or a response. RFC 4954 4: "servers and clients
// MUST reject (and not ignore) any character not explicitly allowed by the BASE64
// alphabet". What it returns is not nil unless it is false.
func DecodeSASL(text string) ([]byte, bool) {
	if strings.ContainsAny(text, "\r\n") { // which package base64 ignores
		return nil, false
	}
	message, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, false
	}
	if message == nil {
		message = []byte{}
	}
	return message, true
}

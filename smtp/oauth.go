package smtp

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// OAuthBearer is the name of the mechanism of RFC 7628.
const OAuthBearer = "OAUTHBEARER"

// bearerMax bounds a message of OAUTHBEARER, in octets: RFC 4954 4 has lines of
// 12288 for it, in base64.
const bearerMax = 9216

// A BearerRequest is what a client of OAUTHBEARER sends (RFC 7628 3.1).
type BearerRequest struct {
	// Identity is whom the client wants to act as; empty: whom the token is for.
	Identity string
	Token    string // RFC 6750 2.1: b64token
	Host     string // that the client has connected to; empty: it does not say
	Port     int    // likewise; 0: it does not say
}

// A BearerError is what a client is told whose token is not taken (RFC 7628
// 3.2.2), as a JSON object.
type BearerError struct {
	Status string `json:"status"`          // of RFC 6750 3.1: invalid_token, insufficient_scope, invalid_request
	Scope  string `json:"scope,omitempty"` // that a token must have
	// Configuration is the URL of the OpenID provider's configuration document.
	Configuration string `json:"openid-configuration,omitempty"`
}

// BearerServer answers OAUTHBEARER (RFC 7628). verify is asked once, with a token
// that has the form of one. A reply that is not positive is sent after the client
// has heard the BearerError; a zero one is invalid_token then.
//
// RFC 7628 3.2.3: "the error message is sent in a normal message. The client MUST
// then send either an additional client response consisting of a single %x01
// (control A) character to the server in order to allow the server to finish the
// exchange or a SASL abort message".
func BearerServer(verify func(BearerRequest) (Reply, BearerError)) SASLServer {
	return &bearerServer{verify: verify}
}

type bearerServer struct {
	verify func(BearerRequest) (Reply, BearerError)
	failed bool
	reply  Reply
}

func (s *bearerServer) Next(response []byte) ([]byte, bool, Reply) {
	switch {
	case response == nil:
		return nil, false, Reply{}
	case s.failed && string(response) == kvsep:
		return nil, true, s.reply
	case s.failed:
		return nil, true, badMessage
	}
	req, ok := parseBearer(string(response))
	var r Reply
	var e BearerError
	switch {
	case !ok:
		return nil, true, badMessage
	case req.Token == "": // RFC 7628 4.3: "which is how a client can query for the needed scope"
		r = badCredentials
	default:
		if r, e = s.verify(req); r.Positive() {
			return nil, true, r
		}
	}
	if e.Status == "" {
		e.Status = "invalid_token"
	}
	text, err := json.Marshal(e)
	if err != nil {
		return nil, true, Reply{}
	}
	s.failed, s.reply = true, r
	return text, false, Reply{}
}

// kvsep ends each pair (RFC 7628 3.1), and alone it is the answer to an error.
const kvsep = "\x01"

// message is the client-resp of RFC 7628 3.1.
func (r BearerRequest) message() string {
	s := gs2Header{flag: bindingNone, identity: r.Identity}.String() + kvsep
	if r.Host != "" {
		s += "host=" + r.Host + kvsep
	}
	if r.Port != 0 {
		s += "port=" + strconv.Itoa(r.Port) + kvsep
	}
	return s + "auth=Bearer " + r.Token + kvsep + kvsep
}

// parseBearer reads a client-resp. RFC 7628 3.1: "Unknown key/value pairs MUST be
// ignored by the server." An empty Token is one that the client asks for.
func parseBearer(message string) (r BearerRequest, ok bool) {
	h, rest, ok := parseGS2(message)
	body, ends := strings.CutSuffix(rest, kvsep+kvsep)
	body, begins := strings.CutPrefix(body, kvsep)
	if !ok || !ends || !begins || len(message) > bearerMax || h.flag == bindingUsed {
		return r, false // RFC 7628 has no channel binding
	}
	r.Identity = h.identity
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(body, kvsep) {
		key, value, is := strings.Cut(pair, "=")
		if !is || !isKey(key) || !isPairValue(value) || seen[key] {
			return r, false
		}
		seen[key] = true
		switch key {
		case "host":
			r.Host = value
		case "port":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != value { // "without leading zeros"
				return r, false
			}
			r.Port = n
		case "auth":
			if r.Token, ok = bearerToken(value); !ok {
				return r, false
			}
		}
	}
	return r, seen["auth"]
}

// bearerToken reads "Bearer TOKEN"; nothing at all is an empty token.
func bearerToken(value string) (string, bool) {
	if value == "" {
		return "", true
	}
	scheme, token, _ := strings.Cut(value, " ")
	token = strings.TrimLeft(token, " ")
	return token, strings.EqualFold(scheme, "Bearer") && isBearerToken(token)
}

// isBearerToken reports whether s is a b64token of RFC 6750 2.1:
// 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"=".
func isBearerToken(s string) bool {
	s = strings.TrimRight(s, "=")
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~+/", r))
	})
}

func isKey(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') })
}

// isPairValue reports whether s is *(VCHAR / SP / HTAB / CR / LF).
func isPairValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r != '\t' && r != '\r' && r != '\n' && (r < ' ' || r > '~') })
}

// BearerClient speaks OAUTHBEARER.
func BearerClient(r BearerRequest) SASLClient { return bearerClient{r} }

type bearerClient struct{ r BearerRequest }

func (bearerClient) Mechanism() string { return OAuthBearer }

func (c bearerClient) Start() ([]byte, error) {
	text := c.r.message()
	if back, ok := parseBearer(text); !ok || back != c.r || c.r.Token == "" {
		return nil, errBearer
	}
	return []byte(text), nil
}

// Next answers the error of the server, so that its reply comes.
func (bearerClient) Next(challenge []byte) ([]byte, error) {
	if len(challenge) == 0 {
		return nil, errChallenge
	}
	return []byte(kvsep), nil
}

var errBearer = errors.New("smtp: that token, or the name that goes with it, cannot be sent with OAUTHBEARER")

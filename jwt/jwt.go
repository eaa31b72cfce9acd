// Package jwt reads JSON Web Tokens (RFC 7519) that somebody else has signed, and
// the keys to check them by. It signs nothing, fetches nothing, and knows the
// three algorithms that issuers use: RS256, ES256 (RFC 7518 3) and EdDSA with
// Ed25519 (RFC 8037). The algorithm is that of the key, whatever the token says.
package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Bounds of a token.
const (
	tokenMax = 16 << 10 // octets
	// leeway is how far clocks may differ (RFC 7519 4.1.4).
	leeway = time.Minute
)

// Errors of Verify. None repeats anything of the token.
var (
	ErrForm      = errors.New("jwt: that is no token of a form that is known here")
	ErrSignature = errors.New("jwt: no key that is known here has signed the token")
	ErrExpired   = errors.New("jwt: the token is not good now, or says not until when it is")
	ErrIssuer    = errors.New("jwt: the token is of another issuer")
	ErrAudience  = errors.New("jwt: the token is for another audience")
	ErrScope     = errors.New("jwt: the token has not the scope that is needed")
)

// A Verifier says which tokens are taken. All of it but Scope must be there.
type Verifier struct {
	Keys     []Key
	Issuer   string // the claim "iss"
	Audience string // among the claim "aud"
	Scope    string // among the words of the claim "scope"; empty: none is needed
}

// Claims are what a token says that was verified.
type Claims map[string]json.RawMessage

// Text returns a claim that is a string; empty: there is no such.
func (c Claims) Text(name string) string {
	var s string
	if json.Unmarshal(c[name], &s) != nil {
		return ""
	}
	return s
}

// Denies reports whether a claim is there and is not true: "email_verified".
func (c Claims) Denies(name string) bool {
	raw, ok := c[name]
	return ok && string(raw) != "true" && string(raw) != `"true"`
}

// Verify returns what a token says, if it is signed by one of the keys, and for us
// and good at now.
func (v Verifier) Verify(token string, now time.Time) (Claims, error) {
	claims, err := v.signed(token)
	if err != nil {
		return nil, err
	}
	switch {
	case !current(claims, now):
		return nil, ErrExpired
	case v.Issuer == "" || claims.Text("iss") != v.Issuer:
		return nil, ErrIssuer
	case v.Audience == "" || !claims.isFor(v.Audience):
		return nil, ErrAudience
	case v.Scope != "" && !slices.Contains(strings.Fields(claims.Text("scope")), v.Scope):
		return nil, ErrScope
	}
	return claims, nil
}

// A header is that of a token (RFC 7515 4.1), as far as it counts.
type header struct {
	Algorithm string          `json:"alg"`
	KeyID     string          `json:"kid"`
	Critical  json.RawMessage `json:"crit"`
}

// signed checks the signature of a token (RFC 7515 5.2), and returns its claims.
func (v Verifier) signed(token string) (Claims, error) {
	part := strings.Split(token, ".")
	if len(part) != 3 || len(token) > tokenMax {
		return nil, ErrForm
	}
	var h header
	var claims Claims
	signature, ok := decode(part[2])
	if !ok || !object(part[0], &h) || h.Critical != nil {
		return nil, ErrForm // RFC 7515 4.1.11: what is critical must be understood
	}
	text := []byte(part[0] + "." + part[1])
	if !slices.ContainsFunc(v.Keys, func(k Key) bool {
		return k.Algorithm == h.Algorithm && (k.ID == h.KeyID || k.ID == "" || h.KeyID == "") && k.verifies(text, signature)
	}) {
		return nil, ErrSignature
	}
	if !object(part[1], &claims) || claims == nil {
		return nil, ErrForm
	}
	return claims, nil
}

// verifies reports whether k has signed text.
func (k Key) verifies(text, signature []byte) bool {
	sum := sha256.Sum256(text)
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	case *ecdsa.PublicKey: // RFC 7518 3.4: R and S, of 32 octets each
		return len(signature) == 64 &&
			ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	case ed25519.PublicKey:
		return ed25519.Verify(public, text, signature)
	}
	return false
}

// current reports whether claims say that they are good at now. RFC 7519 4.1.4
// makes "exp" optional; a token for ever is none of ours.
func current(c Claims, now time.Time) bool {
	until, ok := c.time("exp")
	if !ok || !now.Before(until.Add(leeway)) {
		return false
	}
	if _, given := c["nbf"]; !given {
		return true
	}
	from, ok := c.time("nbf")
	return ok && !now.Before(from.Add(-leeway))
}

// time returns a claim that is a NumericDate (RFC 7519 2): seconds, perhaps with a
// fraction.
func (c Claims) time(name string) (time.Time, bool) {
	var n float64
	if raw, ok := c[name]; !ok || string(raw) == "null" || json.Unmarshal(raw, &n) != nil || math.Abs(n) > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(n), 0), true
}

// isFor reports whether audience is the claim "aud", or one of its list
// (RFC 7519 4.1.3).
func (c Claims) isFor(audience string) bool {
	if c.Text("aud") == audience {
		return true
	}
	var list []string
	return json.Unmarshal(c["aud"], &list) == nil && slices.Contains(list, audience)
}

// object reads a part of a token that is a JSON object.
func object(part string, to any) bool {
	b, ok := decode(part)
	return ok && len(b) > 0 && b[0] == '{' && json.Unmarshal(b, to) == nil
}

// decode reads base64url without padding (RFC 7515 2).
func decode(s string) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return b, err == nil
}

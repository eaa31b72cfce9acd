package jwt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// Bounds of keys.
const (
	keysMax    = 64
	rsaBitsMin = 2048 // RFC 7518 3.3
	rsaBitsMax = 8192
)

// A Key is a public key of an issuer.
type Key struct {
	ID        string // "kid"; empty: it has none
	Algorithm string // RS256, ES256 or EdDSA
	public    any
}

// ParseKeys reads the keys of an issuer: a JSON Web Key Set (RFC 7517 5), as
// issuers publish it, or public keys in PEM form. Keys of other kinds, or for
// encryption, are left out; where none is left it is an error.
func ParseKeys(data []byte) ([]Key, error) {
	var keys []Key
	var err error
	if text := bytes.TrimSpace(data); len(text) > 0 && text[0] == '{' {
		keys, err = parseSet(text)
	} else {
		keys, err = parsePEM(data)
	}
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, errors.New("it holds no public key for RS256, ES256 or EdDSA")
	case len(keys) > keysMax:
		return nil, fmt.Errorf("it holds more than %d keys", keysMax)
	}
	return keys, nil
}

// newKey says which algorithm a key is for; false: for none.
func newKey(id string, public any) (Key, bool) {
	k := Key{ID: id, public: public}
	switch p := public.(type) {
	case *rsa.PublicKey:
		k.Algorithm = "RS256"
		return k, p.N.BitLen() >= rsaBitsMin && p.N.BitLen() <= rsaBitsMax && p.E >= 3 && p.E%2 == 1
	case *ecdsa.PublicKey:
		k.Algorithm = "ES256"
		return k, p.Curve == elliptic.P256()
	case ed25519.PublicKey:
		k.Algorithm = "EdDSA"
		return k, len(p) == ed25519.PublicKeySize
	}
	return k, false
}

// parsePEM reads keys in PEM form.
func parsePEM(data []byte) ([]Key, error) {
	var keys []Key
	for len(keys) <= keysMax {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("it holds a %s, and only PUBLIC KEY is of use here", block.Type)
		}
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, errors.New("it holds a PUBLIC KEY that cannot be read")
		}
		if k, ok := newKey("", public); ok {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// A jwk is a JSON Web Key (RFC 7517 4, RFC 7518 6, RFC 8037 2).
type jwk struct {
	Type      string `json:"kty"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	Curve     string `json:"crv"`
	N         string `json:"n"`
	E         string `json:"e"`
	X         string `json:"x"`
	Y         string `json:"y"`
}

// parseSet reads a JSON Web Key Set. What is not understood in it is left out, as
// RFC 7517 5 wants it.
func parseSet(text []byte) ([]Key, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("it is no JSON Web Key Set")
	}
	var keys []Key
	for _, j := range set.Keys {
		if j.Use != "" && j.Use != "sig" {
			continue
		}
		k, ok := newKey(j.ID, j.public())
		if ok && (j.Algorithm == "" || j.Algorithm == k.Algorithm) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// public returns the key itself; nil: it is of a kind that is not known here, or
// broken.
func (j jwk) public() any {
	x, okX := decode(j.X)
	switch {
	case j.Type == "RSA":
		n, okN := decode(j.N)
		e, okE := decode(j.E)
		if !okN || !okE || len(e) == 0 || len(e) > 4 {
			return nil
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	case j.Type == "EC" && j.Curve == "P-256":
		y, okY := decode(j.Y)
		if !okX || !okY || len(x) != 32 || len(y) != 32 {
			return nil
		}
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil
		}
		return public
	case j.Type == "OKP" && j.Curve == "Ed25519" && okX:
		return ed25519.PublicKey(x)
	}
	return nil
}

package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// An issuer signs tokens with one key.
type issuer struct {
	alg, kid string
	key      crypto.Signer
}

func issuers(t testing.TB) []issuer {
	t.Helper()
	r, err1 := rsa.GenerateKey(rand.Reader, 2048)
	e, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, o, err3 := ed25519.GenerateKey(rand.Reader)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	return []issuer{{"RS256", "r", r}, {"ES256", "e", e}, {"EdDSA", "o", o}}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign makes a token of two texts.
func (i issuer) sign(t testing.TB, header, claims string) string {
	t.Helper()
	text := b64([]byte(header)) + "." + b64([]byte(claims))
	sum := sha256.Sum256([]byte(text))
	var sig []byte
	var err error
	switch key := i.key.(type) {
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, key, sum[:])
		sig, err = make([]byte, 64), e
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
	case ed25519.PrivateKey:
		sig = ed25519.Sign(key, []byte(text))
	}
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

func (i issuer) head() string { return fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, i.alg, i.kid) }

// set is the JSON Web Key Set of issuers, with keys in it that are of no use.
func set(t testing.TB, all []issuer) []byte {
	t.Helper()
	keys := []map[string]string{{"kty": "oct", "k": "c2VjcmV0", "kid": "x"}, {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}, {"kty": "RSA", "n": "AQ", "e": "AQAB"}}
	for _, i := range all {
		k := map[string]string{"kid": i.kid, "use": "sig"}
		switch p := i.key.Public().(type) {
		case *rsa.PublicKey:
			k["kty"], k["alg"], k["n"], k["e"] = "RSA", "RS256", b64(p.N.Bytes()), "AQAB"
		case *ecdsa.PublicKey:
			raw, err := p.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			k["kty"], k["crv"], k["x"], k["y"] = "EC", "P-256", b64(raw[1:33]), b64(raw[33:])
		case ed25519.PublicKey:
			k["kty"], k["crv"], k["x"] = "OKP", "Ed25519", b64(p)
		}
		keys = append(keys, k)
	}
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

const good = `{"iss":"https://id.example","aud":["mail","x"],"exp":1795348900,"nbf":1795348700,"scope":"a smtp","email":"alice@our.example"}`

func verifier(t testing.TB, data []byte) Verifier {
	t.Helper()
	keys, err := ParseKeys(data)
	if err != nil {
		t.Fatal(err)
	}
	return Verifier{Keys: keys, Issuer: "https://id.example", Audience: "mail", Scope: "smtp"}
}

// Each algorithm, with keys of both forms.
func TestVerify(t *testing.T) {
	all := issuers(t)
	var text bytes.Buffer
	for _, i := range all {
		der, err := x509.MarshalPKIXPublicKey(i.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		pem.Encode(&text, &pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	for form, data := range map[string][]byte{"set": set(t, all), "PEM": text.Bytes()} {
		v := verifier(t, data)
		if len(v.Keys) != len(all) {
			t.Errorf("%s: %d keys", form, len(v.Keys))
		}
		for _, i := range all {
			for _, head := range []string{i.head(), `{"alg":"` + i.alg + `"}`} {
				c, err := v.Verify(i.sign(t, head, good), now)
				if err != nil || c.Text("email") != "alice@our.example" || c.Text("nothing") != "" || c.Text("exp") != "" {
					t.Errorf("%s %s: %v %v", form, head, c, err)
				}
			}
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	all := issuers(t)
	v := verifier(t, set(t, all))
	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatal(old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, i := range all {
		token := i.sign(t, i.head(), good)
		part := strings.Split(token, ".")
		for name, test := range map[string]struct {
			token string
			want  error
		}{
			"empty":             {"", ErrForm},
			"two parts":         {part[0] + "." + part[1], ErrForm},
			"four parts":        {token + ".x", ErrForm},
			"no base64":         {part[0] + "." + part[1] + ".!", ErrForm},
			"padding":           {token + "=", ErrForm},
			"no JSON":           {i.sign(t, "x", good), ErrForm},
			"a list":            {i.sign(t, "[]", good), ErrForm},
			"critical":          {i.sign(t, `{"alg":"`+i.alg+`","crit":["x"]}`, good), ErrForm},
			"claims no JSON":    {i.sign(t, i.head(), "x"), ErrForm},
			"claims null":       {i.sign(t, i.head(), "null"), ErrForm},
			"too long":          {token + strings.Repeat("A", tokenMax), ErrForm},
			"no signature":      {part[0] + "." + part[1] + ".", ErrSignature},
			"alg none":          {b64([]byte(`{"alg":"none"}`)) + "." + part[1] + ".", ErrSignature},
			"another alg":       {i.sign(t, `{"alg":"HS256","kid":"`+i.kid+`"}`, good), ErrSignature},
			"another key":       {i.sign(t, `{"alg":"`+i.alg+`","kid":"z"}`, good), ErrSignature},
			"other claims":      {part[0] + "." + b64([]byte(change("alice", "bob"))) + "." + part[2], ErrSignature},
			"other header":      {b64([]byte(`{"alg":"`+i.alg+`"}`)) + "." + part[1] + "." + part[2], ErrSignature},
			"expired":           {i.sign(t, i.head(), change("1795348900", "1795348740")), ErrExpired},
			"for ever":          {i.sign(t, i.head(), change(`"exp":1795348900,`, "")), ErrExpired},
			"exp is a text":     {i.sign(t, i.head(), change("1795348900", `"1795348900"`)), ErrExpired},
			"exp is null":       {i.sign(t, i.head(), change("1795348900", "null")), ErrExpired},
			"exp is huge":       {i.sign(t, i.head(), change("1795348900", "1e300")), ErrExpired},
			"not yet":           {i.sign(t, i.head(), change("1795348700", "1795348861")), ErrExpired},
			"nbf is a text":     {i.sign(t, i.head(), change("1795348700", `"x"`)), ErrExpired},
			"another issuer":    {i.sign(t, i.head(), change("id.example", "id.example.net")), ErrIssuer},
			"no issuer":         {i.sign(t, i.head(), change(`"iss"`, `"isx"`)), ErrIssuer},
			"another audience":  {i.sign(t, i.head(), change(`"mail"`, `"mailx"`)), ErrAudience},
			"no audience":       {i.sign(t, i.head(), change(`"aud"`, `"aux"`)), ErrAudience},
			"another scope":     {i.sign(t, i.head(), change("a smtp", "a smtpx")), ErrScope},
			"within the leeway": {i.sign(t, i.head(), change("1795348900", "1795348741")), nil},
		} {
			if c, err := v.Verify(test.token, now); err != test.want || (c == nil) != (err != nil) {
				t.Errorf("%s, %s: %v, want %v", i.alg, name, err, test.want)
			}
		}
		if _, err := (Verifier{Keys: v.Keys}).Verify(i.sign(t, i.head(), change(`"iss"`, `"isx"`)), now); err != ErrIssuer {
			t.Errorf("a verifier without an issuer: %v", err)
		}
	}
	c := Claims{"a": json.RawMessage("true"), "b": json.RawMessage("false"), "c": json.RawMessage(`"true"`), "d": json.RawMessage("null")}
	for name, want := range map[string]bool{"a": false, "b": true, "c": false, "d": true, "e": false} {
		if c.Denies(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func TestParseKeysRefuses(t *testing.T) {
	small, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: issuers(t)[0].key.(*rsa.PrivateKey).Primes[0], E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{
		"", "x", "{}", "{", `{"keys":[]}`, `{"keys":"x"}`, `{"keys":[{"kty":"oct","k":"AA"}]}`, `{"keys":[{"kty":"RSA","n":"AA","e":"AAAAAAAA"}]}`,
		`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`, `{"keys":[{"kty":"EC","crv":"P-256","x":"` + b64(make([]byte, 32)) + `","y":"` + b64(make([]byte, 32)) + `"}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`, `{"keys":[{"kty":"OKP","crv":"Ed25519","use":"enc","x":"` + b64(make([]byte, 32)) + `"}]}`,
		`{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"RS256","x":"` + b64(make([]byte, 32)) + `"}]}`,
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: small})),
		`{"keys":[` + strings.Repeat(`{"kty":"OKP","crv":"Ed25519","x":"`+b64(make([]byte, 32))+`"},`, keysMax) + `{"kty":"OKP","crv":"Ed25519","x":"` + b64(make([]byte, 32)) + `"}]}`,
	} {
		if keys, err := ParseKeys([]byte(data)); err == nil {
			t.Errorf("%.80q: %d keys", data, len(keys))
		}
	}
}

// FuzzVerify: nothing but what a key has signed is taken, however it is twisted.
func FuzzVerify(f *testing.F) {
	all := issuers(f)
	data := set(f, all)
	v := verifier(f, data)
	taken := map[string]bool{}
	for _, i := range all {
		token := i.sign(f, i.head(), good)
		taken[token[:strings.LastIndexByte(token, '.')]] = true
		f.Add(token, data)
	}
	f.Fuzz(func(t *testing.T, token string, keys []byte) {
		if _, err := v.Verify(token, now); err == nil && !taken[token[:strings.LastIndexByte(token, '.')]] {
			t.Fatalf("%q is taken", token)
		}
		if more, err := ParseKeys(keys); err == nil {
			Verifier{Keys: more, Issuer: v.Issuer, Audience: v.Audience}.Verify(token, now)
		}
	})
}

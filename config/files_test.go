package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"math/big"
	"strings"
	"sync"
	"testing/fstest"
	"time"
)

// mapFiles are files in memory, with names from the root.
type mapFiles fstest.MapFS

func (m mapFiles) Stat(name string) (fs.FileInfo, error) {
	return fstest.MapFS(m).Stat(strings.TrimPrefix(name, "/"))
}

func (m mapFiles) ReadFile(name string, max int64) ([]byte, error) {
	text, err := fstest.MapFS(m).ReadFile(strings.TrimPrefix(name, "/"))
	return text[:min(int64(len(text)), max)], err
}

// jwks is a set of one key.
var jwks = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"` + strings.Repeat("A", 43) + `"}]}`

// testFiles are what the files in testdata name.
var testFiles = sync.OnceValue(func() mapFiles {
	m := mapFiles{
		"pw":       {Data: []byte("s3cret words\n"), Mode: 0o600},
		"pw.open":  {Data: []byte("s3cret\r\n"), Mode: 0o644},
		"pw.empty": {Data: []byte("\n"), Mode: 0o600},
		"pw.lines": {Data: []byte("s3cret\nmore\n"), Mode: 0o600},
		"pw.long":  {Data: []byte(strings.Repeat("x", passwordMax+1)), Mode: 0o600},
		"pw.d/pw":  {Data: []byte("s3cret\n"), Mode: 0o600},

		"jwks.json": {Data: []byte(jwks), Mode: 0o644},
		"jwks.open": {Data: []byte(jwks), Mode: 0o666},

		"aliases":       {Data: []byte("sales: alice, bob\nlist: :include:/list\n"), Mode: 0o644},
		"list":          {Data: []byte("alice\nx@elsewhere.example\n"), Mode: 0o644},
		"aliases.wrong": {Data: []byte("# ours\nsales:\talice bob\nfax: |/usr/bin/fax\n"), Mode: 0o644},
		"aliases.loop":  {Data: []byte("a: b\nb: c@example.org\nc: a@EXAMPLE.org\n"), Mode: 0o644},
		"aliases.far":   {Data: []byte("a: :include:/list.wrong\n"), Mode: 0o644},
		"list.wrong":    {Data: []byte("alice\n\x1b[31mred@\n"), Mode: 0o644},
		"aliases.open":  {Data: []byte("a: alice\n"), Mode: 0o666},
	}
	for _, name := range []string{"mx1", "other"} {
		m.pair(name)
	}
	m["open.key"] = &fstest.MapFile{Data: m["mx1.key"].Data, Mode: 0o644}
	return m
})

// pair makes a certificate and its key.
func (m mapFiles) pair(name string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name + ".example.org"}, NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	m[name+".pem"] = &fstest.MapFile{Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), Mode: 0o644}
	m[name+".key"] = &fstest.MapFile{Data: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), Mode: 0o600}
}

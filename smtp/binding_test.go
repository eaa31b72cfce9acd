package smtp

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"
)

// RFC 5929 4.1: of tls-server-end-point the hash is that of the signature of the
// certificate; "if the certificate's signatureAlgorithm uses a single hash function and
// that hash function [is] either MD5 or SHA-1, then use SHA-256". One that uses none has
// no such binding: another hash than the peer's would refuse everybody.
func TestEndPoint(t *testing.T) {
	for want, list := range map[crypto.Hash][]x509.SignatureAlgorithm{
		crypto.SHA256: {x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256},
		crypto.SHA384: {x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384},
		crypto.SHA512: {x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512},
		0:             {x509.PureEd25519, x509.UnknownSignatureAlgorithm},
	} {
		for _, a := range list {
			var sum []byte
			if want != 0 {
				h := want.New()
				h.Write([]byte("the certificate"))
				sum = h.Sum(nil)
			}
			if got := endPoint(&x509.Certificate{Raw: []byte("the certificate"), SignatureAlgorithm: a}); !bytes.Equal(got, sum) {
				t.Errorf("%v: %x, want %x", a, got, sum)
			}
		}
	}
	if endPoint(nil) != nil {
		t.Error("there is an end point without a certificate")
	}
}

// What a connection can be bound to, at both ends: RFC 9266 has tls-exporter, whose
// context is there and empty, which in TLS 1.2 is another than none (RFC 5705 4); it
// takes tls-unique away from TLS 1.3.
func TestChannelBindings(t *testing.T) {
	for version, types := range map[uint16][]string{tls.VersionTLS12: {"tls-exporter", "tls-unique"}, tls.VersionTLS13: {"tls-exporter"}} {
		client, server := shaken(t, version)
		cert := client.PeerCertificates[0]
		a, b := ChannelBindings(client, cert), ChannelBindings(server, cert)
		if len(a) != len(types) || len(b) != len(types) {
			t.Fatalf("%x: %d and %d bindings", version, len(a), len(b))
		}
		for i, name := range types {
			if a[i].Type != name || b[i].Type != name || len(a[i].Value) == 0 || !bytes.Equal(a[i].Value, b[i].Value) {
				t.Errorf("%x: %s %x and %s %x, want %s", version, a[i].Type, a[i].Value, b[i].Type, b[i].Value, name)
			}
		}
		if want, err := server.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32); err != nil || !bytes.Equal(a[0].Value, want) {
			t.Errorf("%x: tls-exporter is %x, want %x, %v", version, a[0].Value, want, err)
		}
		client.HandshakeComplete = false
		if early := ChannelBindings(client, cert); early != nil {
			t.Errorf("%x: %v before the handshake has come to its end", version, early)
		}
	}
	if clear := ChannelBindings(nil, nil); clear != nil {
		t.Errorf("in the clear: %v", clear)
	}
}

// shaken are both ends of a connection of a version of TLS.
func shaken(t *testing.T, version uint16) (client, server *tls.ConnectionState) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, public, private)
	if err != nil {
		t.Fatal(err)
	}
	far, near := net.Pipe()
	t.Cleanup(func() { far.Close(); near.Close() })
	s := tls.Server(far, &tls.Config{MaxVersion: version, Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: private}}})
	c := tls.Client(near, &tls.Config{MinVersion: version, InsecureSkipVerify: true})
	done := make(chan error, 1)
	go func() {
		done <- s.HandshakeContext(t.Context())
		s.Read(make([]byte, 1)) // and what TLS 1.3 says behind it
	}()
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	go c.Read(make([]byte, 1))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	a, b := c.ConnectionState(), s.ConnectionState()
	return &a, &b
}

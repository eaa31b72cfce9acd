package smtpc

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// certificate is one for mx.example that signs itself, made once.
var certificate = sync.OnceValue(func() tls.Certificate {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.example"}, DNSNames: []string{"mx.example"},
		NotBefore: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}
})

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{certificate()}, SessionTicketsDisabled: true}
}

func clientTLS(name string) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	return &tls.Config{ServerName: name, RootCAs: roots}
}

// TestTLSState: what is known of TLS, before and after.
func TestTLSState(t *testing.T) {
	client, server := pair(t)
	served := make(chan error, 1)
	d := dialogue{server: []string{"S: 220 x", "C: EHLO c.example", "S: 250-x", "S: 250 STARTTLS", "C: STARTTLS", "S: 220 go", "S: <tls>",
		"C: EHLO c.example", "S: 250-x", "S: 250 STARTTLS"}}
	go func() { served <- d.serve(server) }()
	c, err := NewConn(t.Context(), client, Options{Hello: "c.example"})
	if err != nil {
		t.Fatal(err)
	}
	if c.TLS() != nil {
		t.Error("TLS in the clear")
	}
	if err := c.StartTLS(t.Context(), clientTLS("mx.example")); err != nil {
		t.Fatal(err)
	}
	if s := c.TLS(); s == nil || s.Version != tls.VersionTLS13 || !s.HandshakeComplete {
		t.Errorf("TLS %v", s)
	}
	if err := c.StartTLS(t.Context(), clientTLS("mx.example")); err == nil || !c.Usable() {
		t.Errorf("TLS started twice: %v, usable %v", err, c.Usable())
	}
	c.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestBadCertificate: the error is of crypto/tls, so that its reason can be told.
func TestBadCertificate(t *testing.T) {
	client, server := pair(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		defer server.Close()
		tls.Server(server, serverTLS()).Handshake()
	}()
	_, err := NewConn(t.Context(), client, Options{TLS: clientTLS("other.example")})
	var cert *tls.CertificateVerificationError
	if e, ok := errors.AsType[*Error](err); !ok || e.Stage != StageTLS || !errors.As(err, &cert) {
		t.Errorf("%v", err)
	}
	<-served
}

// TestHandshakeTime: a peer that never shakes hands is waited for one minute, and
// not at all once the context has ended.
func TestHandshakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go io.Copy(io.Discard, server)
		start := time.Now()
		_, err := NewConn(t.Context(), client, Options{TLS: clientTLS("mx.example")})
		if e, ok := errors.AsType[*Error](err); !ok || e.Stage != StageTLS || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		server.Close()
	})
}

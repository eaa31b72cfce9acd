package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/route"
)

// tls reads the block "tls".
func (r *reader) tls(block *hcl.Block, hostname string) TLS {
	var to TLS
	in := r.open(block.Body, "tls", block.DefRange, tlsShape)
	const help = `Write cert = "/etc/ssl/mx1.pem" and key = "/etc/ssl/mx1.key", or self_signed = true.`
	for _, acme := range in.labelled("acme") {
		r.errorf(acme.DefRange, help, "acme: this version gets no certificates by itself")
	}
	cert, hasCert := in.text("cert")
	key, hasKey := in.text("key")
	to.Cert, to.Key = cert.s, key.s
	var rng hcl.Range
	to.SelfSigned, rng = in.flag("self_signed")
	switch {
	case to.SelfSigned && (hasCert || hasKey):
		r.errorf(rng, "Take one of them away.", "self_signed = true, and cert or key beside it")
	case to.SelfSigned:
		to.Pos = r.pos(rng)
	case len(in.labelled("acme")) > 0:
	case !hasCert && !hasKey:
		r.errorf(block.DefRange, help, "tls names no certificate")
	case !hasCert:
		r.errorf(key.rng, "Add cert, the PEM file of the certificate.", "tls has a key and no cert")
	case !hasKey:
		r.errorf(cert.rng, "Add key, the PEM file of the private key.", "tls has a cert and no key")
	default:
		to.Pos = r.pos(cert.rng)
		r.pair(cert, key, hostname)
	}
	return to
}

// pair looks at the files of a certificate and its key.
func (r *reader) pair(certFile, keyFile text, hostname string) {
	if r.files == nil {
		return
	}
	cert, _, err := readFile(r.files, certFile.s, pemMax)
	if err != nil {
		r.errorf(certFile.rng, "Write the name of a PEM file that the server may read.", "cannot read the certificate %s: %v", certFile.s, err)
	}
	key, open, keyErr := readFile(r.files, keyFile.s, pemMax)
	if keyErr != nil {
		r.errorf(keyFile.rng, "Write the name of a PEM file that the server may read.", "cannot read the key %s: %v", keyFile.s, keyErr)
	}
	if err != nil || keyErr != nil {
		return
	}
	leaf, err := firstCert(cert)
	if err != nil {
		r.errorf(certFile.rng, "Write the name of a PEM file with a certificate, and after it those that it was signed with.", "%s: %v", certFile.s, err)
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		r.errorf(keyFile.rng, "Write the key that the certificate was asked for with.", "%s does not go with %s: %s", keyFile.s, certFile.s,
			strings.TrimPrefix(err.Error(), "tls: "))
		return
	}
	if open != 0 {
		r.warnf(keyFile.rng, "Take that right away: chmod o-rw "+keyFile.s, "everybody on this machine may read or write the key %s", keyFile.s)
	}
	if hostname != "" && leaf.VerifyHostname(hostname) != nil {
		r.warnf(certFile.rng, "Clients that verify will not talk to us: get one for the name that they know.",
			"the certificate %s is for %s, and not for %s", certFile.s, strings.Join(leaf.DNSNames, ", "), hostname)
	}
}

// firstCert returns the first certificate of a PEM file, which is the one that is
// shown.
func firstCert(src []byte) (*x509.Certificate, error) {
	for {
		var block *pem.Block
		if block, src = pem.Decode(src); block == nil {
			return nil, errors.New("it holds no certificate in PEM form")
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
}

// KeyPair reads the certificate that t names. An error says which file is wrong.
// A running server calls it again when one of them has changed.
func (t TLS) KeyPair(files route.Files) (tls.Certificate, error) {
	cert, _, err := readFile(files, t.Cert, pemMax)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate %s: %w", t.Cert, err)
	}
	key, _, err := readFile(files, t.Key, pemMax)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key %s: %w", t.Key, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate %s with key %s: %s", t.Cert, t.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return pair, nil
}

// policies are the values of the key "tls" of a route.
var policies = map[string]postrider.TLSPolicy{
	"opportunistic": postrider.TLSOpportunistic,
	"require":       postrider.TLSRequire,
	"verify":        postrider.TLSVerify,
	"none":          postrider.TLSNone,
}

// policy reads the key "tls" of a route.
func (b body) policy(to *postrider.Route, via text) {
	t, ok := b.text("tls")
	if !ok || to.Via == "" {
		return
	}
	word := b.word("tls", t, "opportunistic", "require", "verify", "none")
	if word == "" {
		return
	}
	policy := policies[word]
	_, notName := netip.ParseAddr(to.Host)
	switch {
	case to.Via != postrider.ViaMX && to.Host == "":
		b.errorf(t.rng, "Take it away.", "tls says nothing with via = %q", via.s)
	case to.Implicit && (policy == postrider.TLSNone || policy == postrider.TLSOpportunistic):
		b.errorf(t.rng, `Write tls = "require" or "verify", or via = "smtp://...".`, "smtps:// is TLS from the first octet, and tls = %q says otherwise", word)
	case policy == postrider.TLSVerify && to.Via == postrider.ViaMX:
		b.warnf(t.rng, `Name the host with via = "smtp://HOST", where that matters.`,
			"tls = \"verify\" proves that a host is the one that DNS names, and who can change those answers names another")
	case policy == postrider.TLSVerify && notName == nil:
		b.addressVerified(t, to.Host)
	}
	to.TLS = policy
}

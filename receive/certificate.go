package receive

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"time"

	"github.com/postrider/postrider/smtp"
)

// certificateNamesMax bounds the names that one certificate is taken to have.
const certificateNamesMax = 16

// certificateNames are the addresses that the certificate of a client is for, if
// somebody in roots has signed it for clients: its rfc822Name fields (RFC 5280
// 4.2.1.6), and where it has none, the emailAddress or the common name of its
// subject that is an address. A client without one, or with one of others, is as
// good as any: it has no names.
func certificateNames(state *tls.ConnectionState, roots *x509.CertPool, now time.Time) []string {
	if state == nil || len(state.PeerCertificates) == 0 || roots == nil {
		return nil
	}
	leaf := state.PeerCertificates[0]
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range state.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(o); err != nil {
		return nil
	}
	names := leaf.EmailAddresses
	if len(names) == 0 {
		names = subjectNames(leaf)
	}
	var all []string
	for _, name := range names {
		if p, err := smtp.ParsePath(name); err == nil && p.Domain != "" && len(all) < certificateNamesMax {
			all = append(all, name)
		}
	}
	return all
}

// emailAddress is the attribute of RFC 5280 4.1.2.6 for "legacy implementations".
var emailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// subjectNames are what of a subject may be an address.
func subjectNames(leaf *x509.Certificate) []string {
	var all []string
	for _, attr := range leaf.Subject.Names {
		if s, ok := attr.Value.(string); ok && attr.Type.Equal(emailAddress) {
			all = append(all, s)
		}
	}
	if len(all) == 0 && leaf.Subject.CommonName != "" {
		all = append(all, leaf.Subject.CommonName)
	}
	return all
}

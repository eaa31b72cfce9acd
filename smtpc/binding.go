package smtpc

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"

	"github.com/postrider/postrider/smtp"
)

// ChannelBindings are what a mechanism of AUTH can be bound to on this connection,
// the best first; none in the clear.
//
// RFC 9266: tls-exporter for TLS 1.3. RFC 5802 6.1: "'tls-unique' is the default
// channel binding type", which TLS 1.2 has; what of TLS 1.2 does not know
// tls-exporter knows that. RFC 5929 4: tls-server-end-point, for all, where the
// certificate of the server names a hash.
func (c *Conn) ChannelBindings() []smtp.ChannelBinding {
	if c.tls == nil || !c.tls.HandshakeComplete {
		return nil
	}
	var all []smtp.ChannelBinding
	// The context is there and empty, which in TLS 1.2 is another value than none.
	if ekm, err := c.tls.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32); err == nil {
		all = append(all, smtp.ChannelBinding{Type: "tls-exporter", Value: ekm})
	}
	if len(c.tls.TLSUnique) > 0 {
		all = append(all, smtp.ChannelBinding{Type: "tls-unique", Value: c.tls.TLSUnique})
	}
	if len(c.tls.PeerCertificates) > 0 {
		if sum := endPoint(c.tls.PeerCertificates[0]); sum != nil {
			all = append(all, smtp.ChannelBinding{Type: "tls-server-end-point", Value: sum})
		}
	}
	return all
}

// binding is what SCRAM is bound to by default: of TLS 1.3 tls-exporter, and of
// TLS 1.2 tls-unique, which every server that binds at all knows (RFC 5802 6.1).
func (c *Conn) binding() smtp.ChannelBinding {
	all := c.ChannelBindings()
	for _, b := range all {
		if c.tls.Version < tls.VersionTLS13 && b.Type == "tls-unique" || c.tls.Version >= tls.VersionTLS13 {
			return b
		}
	}
	for _, b := range all {
		return b
	}
	return smtp.ChannelBinding{}
}

// endPoint is the value of tls-server-end-point: the certificate under the hash of
// its signature, or under SHA-256 where that is MD5 or SHA-1; nil for a signature
// that has none (RFC 5929 4.1).
func endPoint(cert *x509.Certificate) []byte {
	hash := crypto.SHA256
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(cert.Raw)
	return h.Sum(nil)
}

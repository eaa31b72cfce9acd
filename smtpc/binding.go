package smtpc

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/postrider/postrider/smtp"
)

// ChannelBindings are what a mechanism of AUTH can be bound to on this connection,
// the best first: see smtp.ChannelBindings.
func (c *Conn) ChannelBindings() []smtp.ChannelBinding {
	if c.tls == nil {
		return nil
	}
	var cert *x509.Certificate
	if len(c.tls.PeerCertificates) > 0 {
		cert = c.tls.PeerCertificates[0]
	}
	return smtp.ChannelBindings(c.tls, cert)
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

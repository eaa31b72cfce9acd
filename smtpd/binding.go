package smtpd

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/postrider/postrider/smtp"
)

// ChannelBindings are what a mechanism of AUTH can be bound to on this connection:
// see smtp.ChannelBindings. tls-server-end-point is there only where the server has
// one certificate to show.
func (c Client) ChannelBindings() []smtp.ChannelBinding {
	return smtp.ChannelBindings(c.TLS, c.shown)
}

// onlyCertificate is what config shows to every client; nil: that depends.
func onlyCertificate(config *tls.Config) *x509.Certificate {
	if len(config.Certificates) != 1 || config.GetCertificate != nil || config.GetConfigForClient != nil {
		return nil
	}
	shown := config.Certificates[0]
	if shown.Leaf == nil && len(shown.Certificate) > 0 {
		leaf, err := x509.ParseCertificate(shown.Certificate[0])
		if err != nil {
			return nil
		}
		return leaf
	}
	return shown.Leaf
}

package smtpd

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"

	"github.com/postrider/postrider/smtp"
)

// ChannelBindings are what a mechanism of AUTH can be bound to on this connection;
// none in the clear, nor where TLS gives nothing that is of this connection alone.
//
//   - tls-exporter (RFC 9266): TLS 1.3, and TLS 1.2 with the extended master secret
//   - tls-unique (RFC 5929 3): TLS 1.2. RFC 9266 has none of it for TLS 1.3
//   - tls-server-end-point (RFC 5929 4): where the server has one certificate to
//     show, whose signature names a hash
func (c Client) ChannelBindings() []smtp.ChannelBinding {
	if c.TLS == nil {
		return nil
	}
	var all []smtp.ChannelBinding
	if ekm, err := exported(c.TLS); err == nil {
		all = append(all, smtp.ChannelBinding{Type: "tls-exporter", Value: ekm})
	}
	if len(c.TLS.TLSUnique) > 0 {
		all = append(all, smtp.ChannelBinding{Type: "tls-unique", Value: c.TLS.TLSUnique})
	}
	if sum := endPoint(c.shown); sum != nil {
		all = append(all, smtp.ChannelBinding{Type: "tls-server-end-point", Value: sum})
	}
	return all
}

// exported is the value of tls-exporter. A state that no handshake has made has
// none.
func exported(state *tls.ConnectionState) ([]byte, error) {
	if !state.HandshakeComplete {
		return nil, errNoTLS
	}
	// The context is there and empty, which in TLS 1.2 is another value than none.
	return state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
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

// endPoint is the value of tls-server-end-point: the certificate under the hash of
// its signature, or under SHA-256 where that is MD5 or SHA-1; nil for a signature
// that has none (RFC 5929 4.1).
func endPoint(shown *x509.Certificate) []byte {
	if shown == nil {
		return nil
	}
	hash := crypto.SHA256
	switch shown.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(shown.Raw)
	return h.Sum(nil)
}

package smtp

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
)

// ChannelBindings are what a mechanism of SASL can be bound to on a connection
// whose server has shown cert, the best first; none in the clear, nor before the
// handshake. A nil cert: it is not known which one was shown.
//
//   - tls-exporter (RFC 9266): TLS 1.3, and TLS 1.2 with the extended master secret
//   - tls-unique (RFC 5929 3): TLS 1.2. RFC 9266 has none of it for TLS 1.3
//   - tls-server-end-point (RFC 5929 4): where the signature of cert names a hash
func ChannelBindings(state *tls.ConnectionState, cert *x509.Certificate) []ChannelBinding {
	if state == nil || !state.HandshakeComplete {
		return nil
	}
	var all []ChannelBinding
	// The context is there and empty, which in TLS 1.2 is another value than none.
	if ekm, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32); err == nil {
		all = append(all, ChannelBinding{Type: "tls-exporter", Value: ekm})
	}
	if len(state.TLSUnique) > 0 {
		all = append(all, ChannelBinding{Type: "tls-unique", Value: state.TLSUnique})
	}
	if sum := endPoint(cert); sum != nil {
		all = append(all, ChannelBinding{Type: "tls-server-end-point", Value: sum})
	}
	return all
}

// endPoint is the value of tls-server-end-point: the certificate under the hash of
// its signature, or under SHA-256 where that is MD5 or SHA-1; nil for a signature
// that has none (RFC 5929 4.1).
func endPoint(cert *x509.Certificate) []byte {
	if cert == nil {
		return nil
	}
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

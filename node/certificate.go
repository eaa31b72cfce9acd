package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path"
	"slices"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/vfs"
)

// A certificate is what we show under TLS, as its files hold it.
type certificate struct {
	conf   config.TLS
	fs     vfs.FS
	log    *slog.Logger
	shown  atomic.Pointer[tls.Config]
	stamps [2]stamp // of the files as they were read last; of the watcher alone
	wrong  string   // what was told of them
}

// A stamp tells whether a file has changed.
type stamp struct {
	size int64
	at   time.Time
	gone bool
}

// certEvery is how often the files of a certificate are looked at.
const certEvery = 5 * time.Second

// openCertificate reads the certificate that a configuration names, or makes one,
// if any listener needs one.
func (n *Node) openCertificate(cfg *config.Config) (*certificate, error) {
	if !slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool { return l.TLS != config.TLSNone }) {
		return nil, nil
	}
	conf := cfg.TLS
	c := &certificate{conf: conf, fs: n.env.FS, log: n.env.Log}
	c.stamps = c.look()
	var pair tls.Certificate
	var err error
	if conf.SelfSigned {
		pair, err = selfSigned(n.env.FS, path.Join(n.cfg.DataDir, SelfSignedFile), n.cfg.Hostname, n.env.Now())
	} else {
		pair, err = conf.KeyPair(Files(n.env.FS))
	}
	if err != nil {
		return nil, located(conf.Pos, err, "there is no certificate to show", "")
	}
	c.show(pair)
	return c, nil
}

func (c *certificate) show(pair tls.Certificate) {
	c.shown.Store(&tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true,
	})
}

func (c *certificate) look() (stamps [2]stamp) {
	for i, name := range []string{c.conf.Cert, c.conf.Key} {
		if c.conf.SelfSigned {
			continue
		}
		info, err := c.fs.Stat(name)
		if err != nil {
			stamps[i].gone = true
			continue
		}
		stamps[i] = stamp{size: info.Size(), at: info.ModTime()}
	}
	return stamps
}

// refresh shows the certificate of the files, if they have changed and go
// together. Else the one that was good stays, and the log has what is wrong.
func (c *certificate) refresh() {
	now := c.look()
	if now == c.stamps && c.wrong == "" {
		return
	}
	c.stamps = now
	pair, err := c.conf.KeyPair(Files(c.fs))
	if err != nil {
		if err.Error() != c.wrong {
			c.wrong = err.Error()
			c.log.Error("the new certificate is not taken: the last good one stays", "error", err)
		}
		return
	}
	c.wrong = ""
	c.show(pair)
	c.log.Info("certificate changed", "file", c.conf.Cert)
}

// watchFiles looks at the files of the certificate until ctx ends, while there
// are any: the one of our own making does not change.
func (n *Node) watchFiles(ctx context.Context) {
	tick := time.NewTicker(certEvery)
	defer tick.Stop()
	for {
		due, cert := tick.C, n.gen.Load().cert
		if cert == nil || cert.conf.SelfSigned {
			due = nil
		}
		select {
		case <-due:
			cert.refresh() // though a reload may have taken it away at this moment
		case <-n.reloaded:
		case <-ctx.Done():
			return
		}
	}
}

// tlsConfig is what a handshake that begins now uses.
func (n *Node) tlsConfig() *tls.Config {
	if c := n.gen.Load().cert; c != nil {
		return c.shown.Load()
	}
	return &tls.Config{SessionTicketsDisabled: true} // a reload has just ended TLS: there is nothing to show
}

// SelfSignedFile is the certificate of our own making, with its key, in the data
// directory.
const SelfSignedFile = "self-signed.pem"

// selfSignedLife is how long it is good for.
const selfSignedLife = 10 * 365 * 24 * time.Hour

// selfSigned reads the certificate that an earlier start has made, or makes one,
// where there is none for this host that is good for another day.
func selfSigned(fsys vfs.FS, name, hostname string, now time.Time) (tls.Certificate, error) {
	text, err := vfs.ReadFile(fsys, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return tls.Certificate{}, err
	}
	if err == nil {
		pair, err := tls.X509KeyPair(text, text)
		if err == nil && pair.Leaf.VerifyHostname(hostname) == nil && now.Add(24*time.Hour).Before(pair.Leaf.NotAfter) {
			return pair, nil
		}
	}
	text, err = makeSelfSigned(hostname, now)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := replaceFile(fsys, name, text); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(text, text)
}

func makeSelfSigned(hostname string, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	template := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: hostname},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: []string{hostname},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	if hostname != "localhost" {
		template.DNSNames = append(template.DNSNames, "localhost")
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write a key: %w", err)
	}
	var out bytes.Buffer
	err = errors.Join(pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: cert}),
		pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return out.Bytes(), err
}

// replaceFile puts a file in place that only we may read: all of it, or none.
func replaceFile(fsys vfs.FS, name string, text []byte) error {
	tmp := name + ".tmp"
	f, err := fsys.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		fsys.Remove(tmp)
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}

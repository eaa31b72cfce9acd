package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/vfs"
)

// The certificate of our own making is made once, is good for a TLS client that
// trusts it, and is made anew when the host has another name or time runs out.
func TestSelfSigned(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, SelfSignedFile)
	now := time.Now()
	load := func(host string, at time.Time) *x509.Certificate {
		t.Helper()
		pair, err := selfSigned(vfs.OS(), name, host, at)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	first := load("mx.example.org", now)
	roots := x509.NewCertPool()
	roots.AddCert(first)
	for _, host := range []string{"mx.example.org", "localhost", "127.0.0.1", "::1"} {
		if _, err := first.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now.AddDate(9, 0, 0)}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if now.Add(-time.Minute).Before(first.NotBefore) {
		t.Errorf("a client whose clock is a minute behind finds it not valid before %v", first.NotBefore)
	}
	if again := load("mx.example.org", now); !again.Equal(first) {
		t.Error("a second start makes another certificate")
	}
	if late := load("mx.example.org", first.NotAfter.Add(-time.Hour)); late.Equal(first) {
		t.Error("a certificate is shown that is good for an hour yet")
	}
	if other := load("mx2.example.org", now); other.VerifyHostname("mx2.example.org") != nil {
		t.Error("the certificate of another name is shown")
	}
	if err := os.WriteFile(name, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	if load("mx2.example.org", now) == nil {
		t.Error("a broken file is not replaced")
	}
	if left, _ := filepath.Glob(name + "?*"); left != nil {
		t.Errorf("left behind: %q", left)
	}
}

// pemPair writes a certificate and its key into two files.
func pemPair(t *testing.T, host, cert, key string) {
	t.Helper()
	text, err := makeSelfSigned(host, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(text)
	for name, b := range map[string][]byte{cert: pem.EncodeToMemory(block), key: rest} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A certificate is taken when its files change, and only when they go together;
// else the last good one stays, and the log names the file, once.
func TestCertificateChanges(t *testing.T) {
	dir := t.TempDir()
	conf := config.TLS{Cert: filepath.Join(dir, "c.pem"), Key: filepath.Join(dir, "k.pem")}
	pemPair(t, "one.example", conf.Cert, conf.Key)
	cfg := base(dir)
	cfg.TLS = conf
	var log bytes.Buffer
	n := &Node{cfg: cfg, env: System(cfg)}
	n.env.Log = slog.New(slog.NewTextHandler(&log, nil))
	c, err := n.openCertificate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	shown := func(want string) {
		t.Helper()
		leaf := c.shown.Load().Certificates[0].Leaf
		if leaf.Subject.CommonName != want {
			t.Errorf("the certificate of %s is shown, want %s", leaf.Subject.CommonName, want)
		}
	}
	c.refresh()
	shown("one.example")
	if log.Len() > 0 {
		t.Errorf("nothing changed, and the log says %s", &log)
	}
	// The certificate comes before its key.
	pemPair(t, "two.example", conf.Cert, filepath.Join(dir, "k2.pem"))
	c.refresh()
	c.refresh()
	shown("one.example")
	if said := log.String(); strings.Count(said, conf.Cert) != 1 || !strings.Contains(said, "the last good one stays") {
		t.Errorf("the log says %s", said)
	}
	if err := os.Rename(filepath.Join(dir, "k2.pem"), conf.Key); err != nil {
		t.Fatal(err)
	}
	c.refresh()
	shown("two.example")
	log.Reset()
	if c.refresh(); log.Len() > 0 {
		t.Errorf("taken already, and the log says %s", &log)
	}
	if err := os.Remove(conf.Key); err != nil {
		t.Fatal(err)
	}
	c.refresh()
	shown("two.example")
	if !strings.Contains(log.String(), conf.Key) {
		t.Errorf("the log says %s", &log)
	}
	if _, err := n.openCertificate(cfg); err == nil || !strings.Contains(err.Error(), conf.Key) {
		t.Errorf("a start without the key: %v", err)
	}
	if shown := c.shown.Load(); shown.MinVersion < tls.VersionTLS12 || !shown.SessionTicketsDisabled {
		t.Errorf("%+v", shown)
	}
}

// A reload that takes TLS away at the moment at which the files are to be looked at
// does no harm, and from then on nobody looks.
func TestTLSEndsAtTheTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		fsys := vfs.NewMem()
		cert := &certificate{conf: config.TLS{Cert: "c.pem", Key: "k.pem"}, fs: fsys, log: slog.New(slog.NewTextHandler(&log, nil))}
		n := &Node{reloaded: make(chan struct{}, 1)}
		n.gen.Store(&generation{cert: cert})
		ctx, stop := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() {
			defer close(over)
			n.watchFiles(ctx)
		}()
		synctest.Wait()
		n.gen.Store(&generation{}) // and reloaded is told after the tick
		time.Sleep(certEvery)
		synctest.Wait()
		n.reloaded <- struct{}{}
		synctest.Wait()
		log.Reset()
		cert.wrong = "something else" // what a look would tell
		time.Sleep(10 * certEvery)
		synctest.Wait()
		if log.Len() > 0 {
			t.Errorf("without TLS: %s", &log)
		}
		stop()
		<-over
	})
}

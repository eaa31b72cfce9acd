package node

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtpc"
)

// writePEM writes a file with one block.
func writePEM(t *testing.T, name, kind string, der []byte, err error) string {
	t.Helper()
	if err == nil {
		err = os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// login connects under TLS and logs in; the answer begins with the mechanisms that
// are offered.
func (w *world) login(listener string, cred smtpc.Credentials, certs ...tls.Certificate) (offered []string, outcome string) {
	w.t.Helper()
	nc, err := net.Dial("tcp", w.Addr(listener).String())
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := smtpc.NewConn(w.t.Context(), nc, smtpc.Options{Hello: "client.example"})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	if err := c.StartTLS(w.t.Context(), &tls.Config{InsecureSkipVerify: true, Certificates: certs}); err != nil {
		w.t.Fatal(err)
	}
	params, _ := c.Ext("AUTH")
	if err := c.Login(w.t.Context(), cred); err != nil {
		return strings.Fields(params), err.Error()
	}
	return strings.Fields(params), "yes"
}

// What a configuration says of certificates and tokens holds, changes with a
// reload, and is refused with its place where a file cannot be read.
func TestVouchers(t *testing.T) {
	dir := t.TempDir()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	keys := writePEM(t, filepath.Join(dir, "keys.pem"), "PUBLIC KEY", der, err)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), EmailAddresses: []string{"alice@x.example"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err = x509.CreateCertificate(rand.Reader, template, template, &own.PublicKey, own)
	ca := writePEM(t, filepath.Join(dir, "ca.pem"), "CERTIFICATE", der, err)
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: own}
	token := func(claims string) smtpc.Credentials {
		b64 := base64.RawURLEncoding.EncodeToString
		text := b64([]byte(`{"alg":"EdDSA"}`)) + "." + b64(fmt.Appendf(nil, `{"iss":"i","aud":"a","exp":%d,%s}`, time.Now().Add(time.Hour).Unix(), claims))
		return smtpc.Credentials{Token: text + "." + b64(ed25519.Sign(key, []byte(text)))}
	}
	listeners := "listener \"mx\" { address = \"127.0.0.1:0\" }\nlistener \"users\" {\n  address = \"127.0.0.1:0\"\n  role = \"submission\"\n  client_ca = %q\n}\n"
	oauth := "oauth {\n  issuer = \"i\"\n  audience = \"a\"\n  keys = %q\n  scope = \"mail\"\n}\n"
	w, f := reloadable(t, conf(filepath.Join(dir, "data"), fmt.Sprintf(listeners+oauth, ca, keys)))
	if err := w.Accounts().Add("alice@x.example", "open sesame"); err != nil {
		t.Fatal(err)
	}
	passwords := []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"}
	external := smtpc.Credentials{Certificate: true}
	check := func(listener string, cred smtpc.Credentials, want string, offered []string, certs ...tls.Certificate) {
		t.Helper()
		if names, got := w.login(listener, cred, certs...); !strings.Contains(got, want) || !slices.Equal(names, offered) {
			t.Errorf("%s: %s with %v, want %s with %v", listener, got, names, want, offered)
		}
	}
	both := append(slices.Clone(passwords), "OAUTHBEARER")
	check("users", token(`"email":"alice@x.example","scope":"mail"`), "yes", both)
	check("users", token(`"email":"alice@x.example","email_verified":true,"scope":"x mail"`), "yes", both)
	check("users", token(`"email":"alice@x.example","email_verified":false,"scope":"mail"`), "535", both)
	check("users", token(`"email":"alice@x.example","scope":"x"`), "535", both)
	check("users", token(`"email":"bob@x.example","scope":"mail"`), "535", both)
	check("users", token(`"sub":"alice@x.example","scope":"mail"`), "535", both)
	check("users", smtpc.Credentials{Username: "alice@x.example", Password: "open sesame", Clear: smtpc.ClearNever}, "yes", both)
	check("users", external, "yes", append(slices.Clone(both), "EXTERNAL"), cert)
	check("users", external, "does not offer", both)
	check("mx", external, "does not offer", both, cert)
	for _, tt := range []struct{ text, says string }{
		{fmt.Sprintf(listeners+oauth, ca, ca), "r.hcl:12,10: error: tokens cannot be checked: " + ca},
		{fmt.Sprintf(listeners+oauth, keys, keys), "r.hcl:7,15: error: certificates of users cannot be checked: " + keys},
	} {
		f.write(conf(filepath.Join(dir, "data"), tt.text))
		if _, err := w.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v, want %s", err, tt.says)
		}
	}
	check("users", external, "yes", append(slices.Clone(both), "EXTERNAL"), cert)
	f.write(conf(filepath.Join(dir, "data"), mx+"listener \"users\" {\n  address = \"127.0.0.1:0\"\n  role = \"submission\"\n}\n"))
	if _, err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("users", external, "does not offer", passwords, cert)
}

package receive

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/account"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
	"github.com/postrider/postrider/smtpd"
	"github.com/postrider/postrider/vfs"
)

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	a.cert = a.sign(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key).Leaf
	a.pool.AddCert(a.cert)
	return a
}

// sign completes and signs a certificate.
func (a *authority) sign(t *testing.T, template *x509.Certificate, key *ecdsa.PrivateKey) tls.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(1)
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// client signs a certificate for clients.
func (a *authority) client(t *testing.T, template x509.Certificate) tls.Certificate {
	t.Helper()
	if template.ExtKeyUsage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	return a.sign(t, &template, a.key)
}

// tokens are accounts by their tokens.
type tokens map[string]string

func (k tokens) Offered() bool { return true }
func (k tokens) Token(_ context.Context, r smtp.BearerRequest) (string, smtp.BearerError) {
	return k[r.Token], smtp.BearerError{Status: "invalid_token", Scope: "mail"}
}

// A saslServer is a submission server with accounts.
type saslServer struct {
	addr    string
	roots   *x509.CertPool
	store   *account.Store
	account chan string // who has said MAIL
}

func newSASLServer(t *testing.T, clients *authority) *saslServer {
	t.Helper()
	cert := certificate(t)
	s := &saslServer{roots: x509.NewCertPool(), account: make(chan string, 1)}
	s.roots.AddCert(cert.Leaf)
	var err error
	if s.store, err = account.Open(vfs.NewMem(), "accounts", account.Options{Exempt: netip.Addr.IsLoopback}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"alice@our.example", "bob@our.example"} {
		if err := s.store.Add(name, "open sesame"); err != nil {
			t.Fatal(err)
		}
	}
	o := options(&memSpool{})
	o.Accounts, o.Tokens = s.store, tokens{"alices": "Alice@our.example", "strangers": "nobody@our.example"}
	o.Now = time.Now
	o.ClientCAs = func() *x509.CertPool { return clients.pool }
	server := &smtpd.Server{Hostname: "mx.our.example", Implicit: true, Handler: New(o),
		TLS: func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert, ClientCAs: clients.pool}
		}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		<-done
	})
	return s
}

// dial connects, with a certificate or without, at most with that version of TLS.
func (s *saslServer) dial(t *testing.T, version uint16, certs ...tls.Certificate) *smtpc.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtpc.NewConn(t.Context(), nc, smtpc.Options{Hello: "client.example",
		TLS: &tls.Config{RootCAs: s.roots, ServerName: "mx.our.example", MaxVersion: version, Certificates: certs}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// outcome is what came of AUTH.
func outcome(t *testing.T, c *smtpc.Conn, m smtp.SASLClient) string {
	t.Helper()
	err := c.Auth(t.Context(), m)
	if err == nil {
		return "yes"
	}
	if e, ok := errors.AsType[*smtpc.Error](err); ok && e.Err == nil {
		return e.Reply.String()
	}
	return err.Error()
}

// SCRAM with and without channel binding, over both versions of TLS, with every
// binding that there is; and what is bound to another channel is refused.
func TestSCRAMOverTLS(t *testing.T) {
	s := newSASLServer(t, newAuthority(t))
	for version, types := range map[uint16][]string{
		tls.VersionTLS13: {"tls-exporter", "tls-server-end-point"},
		tls.VersionTLS12: {"tls-exporter", "tls-unique", "tls-server-end-point"},
	} {
		name := tls.VersionName(version)
		bindings := s.dial(t, version).ChannelBindings()
		if got := bindingTypes(bindings); !slices.Equal(got, types) {
			t.Errorf("%s: %v, want %v", name, got, types)
		}
		checkBindings(t, s.dial(t, version))
		for _, typ := range types {
			c := s.dial(t, version)
			at := slices.IndexFunc(c.ChannelBindings(), func(b smtp.ChannelBinding) bool { return b.Type == typ })
			o := smtp.SCRAMClientOptions{User: "alice@our.example", Password: "open sesame", Plus: true, Rand: rand.Reader, Binding: bindings[at]}
			if got := outcome(t, c, smtp.SCRAMClient(o)); typ != "tls-server-end-point" && !strings.Contains(got, "535 5.7.0 The channel binding") {
				t.Errorf("%s %s of another connection: %s", name, typ, got)
			} else if typ == "tls-server-end-point" && got != "yes" {
				t.Errorf("%s %s: %s", name, typ, got)
			}
			c = s.dial(t, version)
			o.Binding = c.ChannelBindings()[at]
			o.Password = "open barley"
			if got := outcome(t, c, smtp.SCRAMClient(o)); !strings.Contains(got, "535 5.7.8") {
				t.Errorf("%s %s with a wrong password: %s", name, typ, got)
			}
			o.Password = "open sesame"
			if got := outcome(t, c, smtp.SCRAMClient(o)); got != "yes" {
				t.Errorf("%s %s: %s", name, typ, got)
			}
		}
	}
	for _, test := range []struct {
		o    smtp.SCRAMClientOptions
		want string
	}{
		{smtp.SCRAMClientOptions{User: "ALICE@our.example", Password: "open sesame"}, "yes"},
		{smtp.SCRAMClientOptions{User: "alice@our.example", Password: "open sesame", Identity: "Alice@our.example"}, "yes"},
		{smtp.SCRAMClientOptions{User: "alice@our.example", Password: "open sesame", Identity: "bob@our.example"}, "535 5.7.8"},
		{smtp.SCRAMClientOptions{User: "nobody@our.example", Password: "open sesame"}, "535 5.7.8"},
		{smtp.SCRAMClientOptions{User: "alice@our.example", Password: "open sesame", Able: true}, "535 5.7.0 SCRAM-SHA-256-PLUS is offered here"},
	} {
		test.o.Rand = rand.Reader
		c := s.dial(t, tls.VersionTLS13)
		if got := outcome(t, c, smtp.SCRAMClient(test.o)); !strings.Contains(got, test.want) {
			t.Errorf("%+v: %s", test.o, got)
		}
	}
}

// checkBindings wants the values to be those of RFC 9266 and RFC 5929: the exporter
// with a context that is there and empty, and the certificate under SHA-256.
func checkBindings(t *testing.T, c *smtpc.Conn) {
	t.Helper()
	state := c.TLS()
	exported, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte(""), 32)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	for _, b := range c.ChannelBindings() {
		want := map[string][]byte{"tls-exporter": exported, "tls-unique": state.TLSUnique, "tls-server-end-point": sum[:]}[b.Type]
		if !bytes.Equal(b.Value, want) {
			t.Errorf("%s %s is %x, want %x", tls.VersionName(state.Version), b.Type, b.Value, want)
		}
	}
}

func bindingTypes(bindings []smtp.ChannelBinding) (types []string) {
	for _, b := range bindings {
		types = append(types, b.Type)
	}
	return types
}

// A client that has heard our signature and turns away is nobody.
func TestSCRAMCancelled(t *testing.T) {
	s := newSASLServer(t, newAuthority(t))
	opened, _ := New(Options{Accounts: s.store}).Open(t.Context(), client(true, false))
	server, r := opened.(smtpd.Authenticator).Auth(t.Context(), "SCRAM-SHA-256")
	if server == nil {
		t.Fatal(r)
	}
	c := smtp.SCRAMClient(smtp.SCRAMClientOptions{User: "alice@our.example", Password: "open sesame", Rand: rand.Reader})
	response, err := c.Start()
	for range 2 {
		if err != nil {
			t.Fatal(err)
		}
		challenge, done, r := server.Next(response)
		if done {
			t.Fatal(r)
		}
		response, err = c.Next(challenge)
	}
	if err != nil || !c.(smtp.SASLProver).Proved() {
		t.Fatal("the client has not heard our signature")
	}
	if who := opened.(*session).submitter; who != nil {
		t.Errorf("it is %v before the end", who)
	}
	if _, done, r := server.Next(response); !done || r.Code != 235 || opened.(*session).submitter == nil {
		t.Errorf("in the end %v", r)
	}
}

// Accounts that have no keys have no SCRAM, and those that nobody vouches for
// neither tokens nor certificates.
func TestMechanisms(t *testing.T) {
	o := options(&memSpool{})
	o.Accounts, o.Tokens = passwords{"alice": "x"}, tokens{}
	session, _ := New(o).Open(t.Context(), client(true, false))
	a := session.(smtpd.Authenticator)
	if got := a.Mechanisms(); !slices.Equal(got, []string{"PLAIN", "LOGIN"}) {
		t.Errorf("%v", got)
	}
	for _, name := range []string{"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "OAUTHBEARER", "EXTERNAL", "", "plain"} {
		if server, r := a.Auth(t.Context(), name); server != nil || r.Code != 504 {
			t.Errorf("%q: %v", name, r)
		}
	}
}

func TestExternal(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	s := newSASLServer(t, ours)
	mail := func(names ...string) x509.Certificate { return x509.Certificate{EmailAddresses: names} }
	old := mail("alice@our.example")
	old.NotBefore, old.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	server := mail("alice@our.example")
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	subject := func(name pkix.Name) x509.Certificate { return x509.Certificate{Subject: name} }
	address := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: "bob@our.example"}
	san := mail("alice@our.example")
	san.Subject.CommonName = "bob@our.example"
	for _, test := range []struct {
		name     string
		cert     x509.Certificate
		by       *authority
		identity string
		want     string
	}{
		{"its own", mail("alice@our.example"), ours, "", "yes"},
		{"its own, named", mail("alice@our.example"), ours, "ALICE@our.example", "yes"},
		{"as another", mail("alice@our.example"), ours, "bob@our.example", "535 5.7.8"},
		{"two, none named", mail("alice@our.example", "bob@our.example"), ours, "", "535 5.7.8"},
		{"two, one named", mail("alice@our.example", "bob@our.example"), ours, "bob@our.example", "yes"},
		{"nobody's", mail("nobody@our.example"), ours, "", "535 5.7.8"},
		{"by the subject", subject(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{address}}), ours, "", "yes"},
		{"by the common name", subject(pkix.Name{CommonName: "alice@our.example"}), ours, "", "yes"},
		{"the subject beside another name", san, ours, "bob@our.example", "535 5.7.8"},
		{"no address", subject(pkix.Name{CommonName: "alice"}), ours, "", "does not offer AUTH EXTERNAL"},
		{"of another authority", mail("alice@our.example"), others, "", "does not offer AUTH EXTERNAL"},
		{"expired", old, ours, "", "does not offer AUTH EXTERNAL"},
		{"for servers", server, ours, "", "does not offer AUTH EXTERNAL"},
	} {
		c := s.dial(t, tls.VersionTLS13, test.by.client(t, test.cert))
		if got := outcome(t, c, smtp.ExternalClient(test.identity)); !strings.Contains(got, test.want) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		if !c.OffersAuth("PLAIN") {
			t.Errorf("%s: the certificate takes the password away", test.name)
		}
	}
	if c := s.dial(t, tls.VersionTLS13); c.OffersAuth("EXTERNAL") {
		t.Error("EXTERNAL without a certificate")
	}
}

// However many names a certificate has, few are looked at: who has one signed chooses them.
func TestCertificateNamesAreBounded(t *testing.T) {
	a := newAuthority(t)
	for _, n := range []int{1, certificateNamesMax, certificateNamesMax + 1, 100} {
		template := x509.Certificate{}
		for i := range n {
			template.EmailAddresses = append(template.EmailAddresses, fmt.Sprintf("u%d@our.example", i))
		}
		state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{a.client(t, template).Leaf}}
		names := certificateNames(state, a.pool, time.Now())
		if want := template.EmailAddresses[:min(n, certificateNamesMax)]; !slices.Equal(names, want) {
			t.Errorf("of %d names: %q", n, names)
		}
	}
}

func TestTokens(t *testing.T) {
	s := newSASLServer(t, newAuthority(t))
	for _, test := range []struct {
		req  smtp.BearerRequest
		want string
	}{
		{smtp.BearerRequest{Token: "alices"}, "yes"},
		{smtp.BearerRequest{Token: "alices", Identity: "alice@our.example", Host: "mx.our.example", Port: 587}, "yes"},
		{smtp.BearerRequest{Token: "alices", Identity: "bob@our.example"}, "535 5.7.8"},
		{smtp.BearerRequest{Token: "strangers"}, "535 5.7.8"},
		{smtp.BearerRequest{Token: "nobodys"}, "535 5.7.8"},
	} {
		c := s.dial(t, tls.VersionTLS13)
		if got := outcome(t, c, smtp.BearerClient(test.req)); !strings.Contains(got, test.want) {
			t.Errorf("%+v: %s", test.req, got)
		}
		if !c.Usable() {
			t.Errorf("%+v: the connection is gone", test.req)
		}
	}
}

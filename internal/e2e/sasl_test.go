package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
)

// An issuer signs tokens.
type issuer struct {
	key  ed25519.PrivateKey
	file string // of the public key
}

func newIssuer(t *testing.T, dir string) *issuer {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key, filepath.Join(dir, "issuer.pem")}
	if err := os.WriteFile(i.file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// token is one for an address, good until then.
func (i *issuer) token(address string, until time.Time) string {
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(`{"alg":"EdDSA"}`)) + "." +
		b64(fmt.Appendf(nil, `{"iss":"https://id.example","aud":"a.example","exp":%d,"email":%q}`, until.Unix(), address))
	return text + "." + b64(ed25519.Sign(i.key, []byte(text)))
}

// userCertificate is one for an address, signed by itself.
func userCertificate(t *testing.T, dir, address string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), EmailAddresses: []string{address}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	cert, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{filepath.Join(dir, address+".pem"), filepath.Join(dir, address+".key")}
	for name, block := range map[string]*pem.Block{c.cert: {Type: "CERTIFICATE", Bytes: cert}, c.key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// saslClients submit by other mechanisms than passwords in the clear. Of secret
// they are given a password, a token, or what the files of a certificate are
// called.
var saslClients = []struct {
	name, program string
	args          func(s submission, secret string) []string
}{
	{"scram", "msmtp", func(s submission, secret string) []string {
		return msmtp(s, "--auth=scram-sha-256", "--user="+s.user, "--passwordeval=printf '%s\\n' '"+secret+"'")
	}},
	{"oauthbearer", "msmtp", func(s submission, secret string) []string {
		return msmtp(s, "--auth=oauthbearer", "--user="+s.user, "--passwordeval=printf '%s\\n' '"+secret+"'")
	}},
	{"external", "msmtp", func(s submission, secret string) []string {
		return msmtp(s, "--auth=external", "--user="+s.user, "--tls-cert-file="+secret+".pem", "--tls-key-file="+secret+".key")
	}},
	{"oauthbearer", "curl", func(s submission, secret string) []string {
		return curl(s, "--user", s.user, "--oauth2-bearer", secret)
	}},
	{"external", "curl", func(s submission, secret string) []string {
		return curl(s, "--user", s.user+":", "--login-options", "AUTH=EXTERNAL", "--cert", secret+".pem", "--key", secret+".key")
	}},
}

func msmtp(s submission, how ...string) []string {
	return append(append([]string{"--file=/dev/null", "--host=" + s.host, "--port=" + strconv.Itoa(s.port), "--tls=on", "--tls-starttls=on",
		"--tls-trust-file=" + s.ca, "--from=" + s.user}, how...), s.to)
}

func curl(s submission, how ...string) []string {
	return append([]string{"-sS", "--max-time", "60", "--ssl-reqd", "--cacert", s.ca, s.url(nil) + "client.example",
		"--mail-from", s.user, "--mail-rcpt", s.to, "--upload-file", s.file}, how...)
}

// Real programs submit by SCRAM, with a token, and with a certificate; wrong ones
// get nowhere.
func TestSubmissionBySASL(t *testing.T) {
	dir := t.TempDir()
	who := newIssuer(t, dir)
	good, bad := userCertificate(t, dir, "alice@a.example"), userCertificate(t, dir, "bob@a.example")
	h := newSubmissionHost(t, fmt.Sprintf("oauth {\n  issuer   = \"https://id.example\"\n  audience = \"a.example\"\n  keys     = %q\n}\n", who.file))
	text, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	conf := strings.ReplaceAll(string(text), `  role    = "submission"`, fmt.Sprintf("  role    = \"submission\"\n  client_ca = %q", good.cert))
	if err := os.WriteFile(h.config, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	secrets := map[string][2]string{
		"scram":       {alicePassword, "open barley"},
		"oauthbearer": {who.token("alice@a.example", time.Now().Add(time.Hour)), who.token("alice@a.example", time.Now().Add(-time.Hour))},
		"external":    {strings.TrimSuffix(good.cert, ".pem"), strings.TrimSuffix(bad.cert, ".pem")},
	}
	for _, c := range saslClients {
		t.Run(c.program+"/"+c.name, func(t *testing.T) {
			need(t, c.program)
			user := c.program + "-" + c.name
			s := h.submission(t, "by-"+user, user+"@a.example", false)
			if out, status := s.run(t, c.program, c.program == "msmtp", c.args(s, secrets[c.name][0])); status != 0 {
				t.Fatalf("status %d\n%s", status, out)
			}
			h.t = t
			checkSubmitted(t, h.one("a.example", user), s, true)
			s.to = "wrong-" + user + "@a.example"
			if out, status := s.run(t, c.program, c.program == "msmtp", c.args(s, secrets[c.name][1])); status == 0 {
				t.Errorf("a wrong one is no error\n%s", out)
			}
			if n := len(h.maildir("a.example", "wrong-"+user)); n != 0 {
				t.Errorf("%d messages with a wrong one", n)
			}
		})
	}
	h.t = t
	h.stop()
	if log := h.log.String(); strings.Contains(log, secrets["oauthbearer"][0]) || strings.Contains(log, alicePassword) {
		t.Error("the log tells a password or a token")
	}
}

// Our client proves itself to Dovecot by SCRAM, and Dovecot to our client. What is
// spoken at its socket is the protocol that SMTP servers ask it by.
func TestDovecotSCRAM(t *testing.T) {
	d := startDovecot(t, "", "alice@b.example")
	for password, want := range map[string]string{dovecotPassword: "OK", "open barley": "FAIL"} {
		conn, err := net.Dial("unix", filepath.Join(d.dir, "auth"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute))
		in := bufio.NewScanner(conn)
		hear := func(kinds ...string) (string, string) {
			for in.Scan() {
				f := strings.SplitN(in.Text(), "\t", 3)
				for _, kind := range kinds {
					if f[0] == kind && len(f) == 3 {
						return kind, f[2]
					} else if f[0] == kind {
						return kind, ""
					}
				}
			}
			t.Fatalf("no %v: %v", kinds, in.Err())
			return "", ""
		}
		c := smtp.SCRAMClient(smtp.SCRAMClientOptions{User: "alice@b.example", Password: password, Rand: rand.Reader})
		response, err := c.Start()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "VERSION\t1\t1\nCPID\t%d\n", os.Getpid())
		hear("DONE")
		fmt.Fprintf(conn, "AUTH\t1\t%s\tservice=smtp\tsecured\tresp=%s\n", c.Mechanism(), smtp.EncodeSASL(response))
		got := ""
		for range 4 {
			var rest string
			if got, rest = hear("CONT", "OK", "FAIL"); got != "CONT" {
				break
			}
			challenge, ok := smtp.DecodeSASL(rest)
			if response, err = c.Next(challenge); !ok || err != nil {
				t.Fatalf("%q: %v", rest, err)
			}
			fmt.Fprintf(conn, "CONT\t1\t%s\n", smtp.EncodeSASL(response))
		}
		if got != want || c.(smtp.SASLProver).Proved() != (want == "OK") {
			t.Errorf("%q: %s, proved %v", password, got, c.(smtp.SASLProver).Proved())
		}
	}
}

// SCRAM-SHA-256-PLUS over the TLS of others: what OpenSSL exports of its end of
// the connection is what we have bound to at ours (RFC 9266), and what it exports
// of another is refused.
func TestSCRAMPlusWithOpenSSL(t *testing.T) {
	need(t, "openssl")
	h := newSubmissionHost(t, "")
	h.start()
	if got := scramPlus(t, h, false); !strings.HasPrefix(got, "235 ") {
		t.Errorf("bound to this connection: %s", got)
	}
	if got := scramPlus(t, h, true); !strings.HasPrefix(got, "535 5.7.0") {
		t.Errorf("bound to another: %s", got)
	}
	h.stop()
}

// scramPlus authenticates over OpenSSL at h, bound to what it exports, or to something
// else, and returns the last reply.
func scramPlus(t *testing.T, h *submissionHost, spoil bool) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", "s_client", "-connect", net.JoinHostPort(h.ip, strconv.Itoa(h.tlsPort)), "-tls1_3", "-nocommands",
		"-CAfile", h.ca, "-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	lines := bufio.NewScanner(out)
	hear := func(prefixes ...string) string {
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			for _, p := range prefixes {
				if rest, ok := strings.CutPrefix(line, p); ok {
					return strings.TrimSpace(rest)
				}
			}
		}
		t.Fatalf("no %q: %v", prefixes, lines.Err())
		return ""
	}
	value, err := hex.DecodeString(hear("Keying material:"))
	if err != nil || len(value) != 32 {
		t.Fatalf("%x, %v", value, err)
	}
	if spoil {
		value[0] ^= 1
	}
	c := smtp.SCRAMClient(smtp.SCRAMClientOptions{User: "alice@a.example", Password: alicePassword, Plus: true,
		Binding: smtp.ChannelBinding{Type: "tls-exporter", Value: value}, Rand: rand.Reader})
	response, err := c.Start()
	if err != nil {
		t.Fatal(err)
	}
	hear("220 ")
	fmt.Fprint(in, "EHLO client.example\r\n")
	hear("250 ")
	fmt.Fprintf(in, "AUTH %s %s\r\n", c.Mechanism(), smtp.EncodeSASL(response))
	for range 2 {
		line := hear("334 ", "535")
		challenge, ok := smtp.DecodeSASL(line)
		if !ok {
			return "535 " + line
		}
		if response, err = c.Next(challenge); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(in, "%s\r\n", smtp.EncodeSASL(response))
	}
	end := hear("235", "535")
	if !c.(smtp.SASLProver).Proved() {
		t.Error("the server is not proved")
	}
	fmt.Fprint(in, "QUIT\r\n")
	return "235 " + end
}

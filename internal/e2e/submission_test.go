package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A submission is where and as whom a client submits a message.
type submission struct {
	host           string
	port           int
	implicit       bool // TLS from the first octet, else STARTTLS
	ca             string
	user, password string
	to             string
	file, body     string // file: a message; body: the text alone
	dir            string // for what the client writes
}

// url is smtp://ip:port/ or smtps://, with or without the user.
func (s submission) url(user *url.Userinfo) string {
	u := url.URL{Scheme: "smtp", User: user, Host: net.JoinHostPort(s.host, strconv.Itoa(s.port)), Path: "/"}
	if s.implicit {
		u.Scheme = "smtps"
	}
	return u.String()
}

// strictURL is url with user and password, and every octet encoded that
// RFC 3986 2.3 does not leave unreserved; s-nail takes no other form.
func (s submission) strictURL() string {
	encode := func(text string) string {
		var b strings.Builder
		for _, c := range []byte(text) {
			if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
				b.WriteByte(c)
			} else {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		}
		return b.String()
	}
	return strings.Replace(s.url(nil), "://", "://"+encode(s.user)+":"+encode(s.password)+"@", 1)
}

// either returns one of two words.
func (s submission) either(starttls, implicit string) string {
	if s.implicit {
		return implicit
	}
	return starttls
}

const pythonSubmit = `
import smtplib, ssl, sys
host, port, implicit, ca, user, password, to, file = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if implicit == "yes":
    c = smtplib.SMTP_SSL(host, int(port), timeout=60, context=context)
else:
    c = smtplib.SMTP(host, int(port), timeout=60)
    c.starttls(context=context)
with c:
    c.login(user, password)
    c.sendmail(user, [to], open(file, "rb").read(), mail_options=["BODY=8BITMIME"])
`

const muttrc = `
set smtp_url = "%s"
set smtp_pass = "%s"
set ssl_starttls = yes
set ssl_force_tls = yes
set certificate_file = "%s"
set smtp_authenticators = "plain"
set from = "%s"
set use_from = yes
set copy = no
set hostname = client.example
`

// clients submit with TLS, whose certificate they check where they can, and a
// password. Those that are whole send a message as it is, the others compose one.
var clients = []struct {
	program string
	whole   bool
	stdin   bool // the message, or the text, comes from standard input
	args    func(s submission) []string
}{
	{"python3", true, false, func(s submission) []string {
		return []string{"-c", pythonSubmit, s.host, strconv.Itoa(s.port), s.either("no", "yes"), s.ca, s.user, s.password, s.to, s.file}
	}},
	{"curl", true, false, func(s submission) []string {
		return []string{"-sS", "--max-time", "60", "--ssl-reqd", "--cacert", s.ca, s.url(nil) + "client.example", "--user", s.user + ":" + s.password,
			"--mail-from", s.user, "--mail-rcpt", s.to, "--upload-file", s.file}
	}},
	{"swaks", true, false, func(s submission) []string {
		return []string{"--server", s.host, "--port", strconv.Itoa(s.port), s.either("--tls", "--tls-on-connect"), "--tls-verify", "--tls-ca-path", s.ca,
			"--auth", "LOGIN", "--auth-user", s.user, "--auth-password", s.password, "--from", s.user, "--to", s.to, "--data", "@" + s.file, "--silent", "2"}
	}},
	{"msmtp", true, true, func(s submission) []string {
		return []string{"--file=/dev/null", "--host=" + s.host, "--port=" + strconv.Itoa(s.port), "--auth=plain", "--user=" + s.user,
			"--passwordeval=printf '%s\\n' '" + s.password + "'", "--tls=on", "--tls-starttls=" + s.either("on", "off"), "--tls-trust-file=" + s.ca, "--from=" + s.user, s.to}
	}},
	{"s-nail", false, true, func(s submission) []string {
		return []string{"-:/", "-S", "v15-compat=yes", "-S", "mta=" + s.strictURL(), "-S", "smtp-use-starttls",
			"-S", "smtp-auth=plain", "-S", "tls-verify=strict", "-S", "tls-ca-file=" + s.ca, "-S", "tls-ca-no-defaults", "-S", "sendwait", "-S", "nosave",
			"-S", "from=" + s.user, "-S", "hostname=client.example", "-s", "by s-nail", s.to}
	}},
	{"mutt", false, true, func(s submission) []string {
		rc := filepath.Join(s.dir, "muttrc")
		text := fmt.Sprintf(muttrc, s.url(url.User(s.user)), s.password, s.ca, s.user)
		if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
			panic(err)
		}
		return []string{"-n", "-F", rc, "-s", "by mutt", s.to}
	}},
}

// submissionHost is a server with a listener for submission with STARTTLS, one with
// implicit TLS, and an account alice@a.example.
type submissionHost struct {
	*server
	port, tlsPort int
	ca            string
}

// alicePassword has what shells and URLs trip over.
const alicePassword = "Tr0ub4dor & 3%/+:"

func newSubmissionHost(t *testing.T, extra string) *submissionHost {
	t.Helper()
	s := newServer(t, "a.example", "")
	h := &submissionHost{server: s, port: freePort(t, s.ip), tlsPort: freePort(t, s.ip)}
	c := newCertificate(t, s.ip, "a.example") // the first is the common name, which s-nail compares
	h.ca = c.cert
	s.add(fmt.Sprintf(`
tls {
  cert = %q
  key  = %q
}
listener "submission" {
  address = "%s:%d"
  role    = "submission"
}
listener "submissions" {
  address = "%[3]s:%[5]d"
  role    = "submission"
  tls     = "implicit"
}
domain "a.example" {
  mailboxes = ["*"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
`, c.cert, c.key, s.ip, h.port, h.tlsPort) + extra)
	s.account("alice@a.example", alicePassword)
	return h
}

// add writes more to the end of the configuration.
func (s *server) add(text string) {
	s.t.Helper()
	f, err := os.OpenFile(s.config, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(strings.ReplaceAll(text, "DIR", s.dir))
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// account makes one.
func (s *server) account(address, password string, args ...string) {
	s.t.Helper()
	out, status := input(s.t, s.dir, password+"\n", binary, append([]string{"user", "add", address, "--config", s.config}, args...)...)
	if status != 0 {
		s.t.Fatalf("user add: status %d\n%s", status, out)
	}
}

// input is output with something to read.
func input(t *testing.T, dir, in, name string, args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = dir, environment(), strings.NewReader(in)
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() < 0 {
		t.Fatalf("%s %q: %v\n%s", name, args, err, b)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// submission is one to h with a message of a name.
func (h *submissionHost) submission(t *testing.T, name, to string, implicit bool) submission {
	t.Helper()
	s := submission{host: h.ip, port: h.port, implicit: implicit, ca: h.ca, user: "alice@a.example", password: alicePassword, to: to, dir: t.TempDir()}
	if implicit {
		s.port = h.tlsPort
	}
	s.body = "The text of " + name + ".\n"
	s.file = filepath.Join(s.dir, "message.eml")
	text := append([]byte("Bcc: Hidden <hidden@a.example>\r\n"), message(name, 20_000)...)
	if err := os.WriteFile(s.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// run submits with a program and returns its exit status.
func (s submission) run(t *testing.T, program string, stdin bool, args []string) (out string, status int) {
	t.Helper()
	if !stdin {
		return output(t, s.dir, program, args...)
	}
	text := s.body
	if program == "msmtp" {
		b, err := os.ReadFile(s.file)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	return input(t, s.dir, text, program, args...)
}

// Real programs submit over STARTTLS and over implicit TLS with a password, and
// learn of a wrong one. What arrives tells how it came, has a Date and one
// Message-ID, and no Bcc.
func TestSubmission(t *testing.T) {
	h := newSubmissionHost(t, "")
	h.start()
	for _, c := range clients {
		for _, implicit := range []bool{false, true} {
			kind := map[bool]string{false: "starttls", true: "implicit"}[implicit]
			t.Run(c.program+"/"+kind, func(t *testing.T) {
				need(t, c.program)
				user := c.program + "-" + kind
				s := h.submission(t, "by-"+user, user+"@a.example", implicit)
				if out, status := s.run(t, c.program, c.stdin, c.args(s)); status != 0 {
					t.Fatalf("status %d\n%s", status, out)
				}
				h.t = t
				checkSubmitted(t, h.one("a.example", user), s, c.whole)
				s.password = "wrong " + alicePassword
				s.to = "wrong-" + user + "@a.example"
				if out, status := s.run(t, c.program, c.stdin, c.args(s)); status == 0 {
					t.Errorf("a wrong password is no error\n%s", out)
				}
			})
		}
	}
	h.t = t
	h.empty()
	for _, c := range clients {
		for _, kind := range []string{"starttls", "implicit"} {
			if n := len(h.maildir("a.example", "wrong-"+c.program+"-"+kind)); n != 0 {
				t.Errorf("%s: %d messages with a wrong password", c.program, n)
			}
		}
	}
	h.stop()
	if strings.Contains(h.log.String(), alicePassword) {
		t.Error("the log tells the password")
	}
}

// "send" checks the certificate, logs in, and tells a wrong password and a
// certificate that is not to be trusted.
func TestSendWithPassword(t *testing.T) {
	h := newSubmissionHost(t, "")
	h.start()
	s := h.submission(t, "by-send", "by-send@a.example", false)
	args := []string{"send", "--server", net.JoinHostPort(s.host, strconv.Itoa(s.port)), "--tls", "--user", s.user, "--from", s.user, "--to", s.to, s.file}
	t.Setenv("POSTRIDER_PASSWORD", alicePassword)
	if out, status := output(t, s.dir, binary, args...); status == 0 || !strings.Contains(out, "certificate") {
		t.Errorf("status %d with a certificate that nobody knows\n%s", status, out)
	}
	t.Setenv("SSL_CERT_FILE", s.ca)
	if out, status := output(t, s.dir, binary, args...); status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	checkSubmitted(t, h.one("a.example", "by-send"), s, true)
	t.Setenv("POSTRIDER_PASSWORD", "wrong")
	if out, status := output(t, s.dir, binary, args...); status != 1 || !strings.Contains(out, "535") {
		t.Errorf("status %d with a wrong password\n%s", status, out)
	}
	h.stop()
}

// checkSubmitted wants a message as submission makes it.
func checkSubmitted(t *testing.T, got []byte, s submission, whole bool) {
	t.Helper()
	head, _, _ := bytes.Cut(got, []byte("\r\n\r\n"))
	low := "\r\n" + strings.ToLower(string(head))
	for _, field := range []string{"date", "message-id", "from"} {
		if n := strings.Count(low, "\r\n"+field+":"); n != 1 {
			t.Errorf("%d fields %s, want 1", n, field)
		}
	}
	if strings.Contains(low, "\r\nbcc:") {
		t.Error("the field Bcc was not removed")
	}
	if !strings.Contains(low, "with esmtpsa ") {
		t.Error("the Received field does not tell ESMTPSA")
	}
	if whole {
		if _, err := name(got); err != nil && s.dir != "" && !bytes.HasSuffix(got, []byte("\r\n.\r\n\r\n\r\n")) {
			t.Error(err)
		}
	} else if !bytes.Contains(got, []byte(strings.TrimSpace(s.body))) {
		t.Error("the text did not arrive")
	}
	if t.Failed() {
		t.Logf("%s", got[:min(len(got), 1500)])
	}
}

package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/smtp"
)

// Who the mail of the matrix is from and for: all are at the server that is asked.
const (
	matrixFrom  = "alice@b.example"
	matrixBob   = "bob@b.example"
	matrixZoe   = "zoë@b.example"
	matrixRcpts = 5 // the most recipients that LIMITS of ours and of go-smtp allow
)

// crowd are more recipients than LIMITS allows.
var crowd = []string{"r1@b.example", "r2@b.example", "r3@b.example", "r4@b.example", "r5@b.example", "r6@b.example", "r7@b.example"}

// matrixBoxes are all of them.
var matrixBoxes = append([]string{matrixFrom, matrixBob, matrixZoe}, crowd...)

// basic is what every server and client here speaks.
const basic = smtp.ExtSize | smtp.Ext8BitMIME | smtp.ExtSMTPUTF8 | smtp.ExtDSN | smtp.ExtStartTLS | smtp.ExtAuth

// A host is a server in the matrix.
type host struct {
	name     string
	addr     string
	submit   string // where FUTURERELEASE is offered; empty: nowhere
	speaks   smtp.Extensions
	password string                     // of alice, under TLS
	box      func(user string) [][]byte // by local part
	lines    bool                       // its boxes have LF for CRLF
	got      *keeper                    // of go-smtp
	server   *server                    // of ours
}

// hosts start the servers of the matrix.
var hosts = []struct {
	name   string
	start  func(*testing.T) *host
	speaks smtp.Extensions
}{
	{"Postrider", hostPostrider, basic | smtp.ExtPipelining | smtp.ExtEnhancedStatusCodes | smtp.ExtChunking | smtp.ExtBinaryMIME | smtp.ExtLimits |
		smtp.ExtDeliverBy | smtp.ExtFutureRelease | smtp.ExtMTPriority | smtp.ExtRRVS | smtp.ExtETRN},
	{"go-smtp", hostGoSMTP, basic | smtp.ExtPipelining | smtp.ExtEnhancedStatusCodes | smtp.ExtChunking | smtp.ExtBinaryMIME | smtp.ExtLimits | smtp.ExtRRVS},
	{"Postfix", hostPostfix, basic | smtp.ExtPipelining | smtp.ExtEnhancedStatusCodes | smtp.ExtChunking | smtp.ExtETRN},
	{"Exim", hostExim, basic | smtp.ExtPipelining | smtp.ExtChunking | smtp.ExtETRN},
}

func hostPostrider(t *testing.T) *host {
	s := newServer(t, "mx.b.example", "")
	submit := net.JoinHostPort(s.ip, fmt.Sprint(freePort(t, s.ip)))
	s.add(fmt.Sprintf(`
tls { self_signed = true }
listener "submission" {
  address = %q
  role    = "submission"
}
domain "b.example" {
  mailboxes = ["*"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
limits {
  recipients     = %d
  future_release = "1h"
}
`, submit, matrixRcpts))
	for _, who := range []string{matrixFrom, matrixBob, matrixZoe} {
		s.account(who, dovecotPassword)
	}
	s.start()
	return &host{name: "Postrider", addr: s.addr(), submit: submit, password: dovecotPassword, server: s, lines: false,
		box: func(user string) [][]byte { return s.maildir("b.example", strings.ReplaceAll(user, "ë", "%c3%ab")) }}
}

func hostPostfix(t *testing.T) *host {
	dovecot := startDovecot(t, "", matrixFrom)
	c := newCertificate(t, "mx.b.example").open(t)
	d := startPostfix(t, "mx.b.example", matrixBoxes, fmt.Sprintf(`
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_cert_file = %s
smtpd_tls_key_file = %s
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = %s/auth
smtpd_client_connection_count_limit = 0
smtp_line_length_limit = 0
`, c.cert, c.key, dovecot.dir))
	return &host{name: "Postfix", addr: d.addr(), password: dovecotPassword, lines: true,
		box: func(user string) [][]byte { return d.maildir("b.example", user) }}
}

func hostExim(t *testing.T) *host {
	c := newCertificate(t, "mx.b.example").open(t)
	d := startExim(t, "mx.b.example", eximConf{boxes: matrixBoxes, main: fmt.Sprintf(`
tls_advertise_hosts = *
tls_certificate = %s
tls_privatekey = %s
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
acl_smtp_etrn = check_rcpt
smtp_accept_queue_per_connection = 0
`, c.cert, c.key), auth: fmt.Sprintf(`
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{%s}}{eq{$auth3}{%s}}}}
  server_set_id = $auth2
`, matrixFrom, dovecotPassword)})
	return &host{name: "Exim", addr: d.addr(), password: dovecotPassword, lines: true,
		box: func(user string) [][]byte { return d.maildir("b.example", user) }}
}

// A keeper is what the server of go-smtp got, by the name of the message.
type keeper struct {
	mu    sync.Mutex
	boxes map[string][][]byte // by local part
	mails map[string]envelope
}

// An envelope is what go-smtp tells its backend.
type envelope struct {
	mail  gosmtp.MailOptions
	rcpts []gosmtp.RcptOptions
	to    []string
}

func hostGoSMTP(t *testing.T) *host { return hostGoSMTPWith(t, func(*gosmtp.Server) {}) }

func hostGoSMTPWith(t *testing.T, set func(*gosmtp.Server)) *host {
	k := &keeper{boxes: map[string][][]byte{}, mails: map[string]envelope{}}
	c := newCertificate(t, "mx.b.example")
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", freeIP()+":0")
	if err != nil {
		t.Fatal(err)
	}
	srv := gosmtp.NewServer(gosmtp.BackendFunc(func(*gosmtp.Conn) (gosmtp.Session, error) { return &keeping{k: k}, nil }))
	srv.Domain, srv.MaxMessageBytes, srv.MaxRecipients = "mx.b.example", 50<<20, matrixRcpts
	srv.ErrorLog = log.New(io.Discard, "", 0)
	srv.EnableDSN, srv.EnableSMTPUTF8, srv.EnableBINARYMIME, srv.EnableRRVS = true, true, true, true
	srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
	set(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return &host{name: "go-smtp", addr: l.Addr().String(), password: dovecotPassword, got: k,
		box: func(user string) [][]byte {
			k.mu.Lock()
			defer k.mu.Unlock()
			return append([][]byte(nil), k.boxes[user]...)
		}}
}

// A keeping is a session that fills a keeper.
type keeping struct {
	k   *keeper
	now envelope
}

func (*keeping) AuthMechanisms() []string { return []string{sasl.Plain} }
func (*keeping) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != matrixFrom || password != dovecotPassword {
			return gosmtp.ErrAuthFailed
		}
		return nil
	}), nil
}

func (s *keeping) Mail(_ string, o *gosmtp.MailOptions) error {
	s.now = envelope{mail: *o}
	return nil
}

func (s *keeping) Rcpt(to string, o *gosmtp.RcptOptions) error {
	s.now.rcpts, s.now.to = append(s.now.rcpts, *o), append(s.now.to, to)
	return nil
}

func (s *keeping) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	for _, to := range s.now.to {
		user, _, _ := strings.Cut(to, "@")
		s.k.boxes[user] = append(s.k.boxes[user], b)
	}
	s.k.mails[named(b)] = s.now
	return nil
}

func (s *keeping) Reset()      { s.now = envelope{} }
func (*keeping) Logout() error { return nil }

// named is the X-Name of a message.
func named(b []byte) string {
	_, rest, _ := bytes.Cut(b, []byte("X-Name: "))
	name, _, _ := strings.Cut(string(rest[:min(len(rest), 100)]), "\n")
	return strings.TrimSpace(name)
}

// A letter is a message that needs some extensions, for the recipients that need
// them.
type letter struct {
	name    string
	needs   smtp.Extensions
	to      []string
	content []byte
	from    time.Time // RRVS
}

// newLetter makes one of at least size octets.
func newLetter(name string, needs smtp.Extensions, size int) letter {
	l := letter{name: name, needs: needs, to: []string{matrixBob}, from: time.Now().Add(time.Hour).UTC().Truncate(time.Second)}
	if needs.Has(smtp.ExtSMTPUTF8) {
		l.to = []string{matrixZoe, matrixBob}
	}
	if needs.Has(smtp.ExtLimits) {
		l.to = append(l.to, crowd...)
	}
	kind := "text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit"
	lines := []string{".", "..", ".dot", "...three", "", "blanks  \t ", "From here", strings.Repeat("x", 998), "=3D"}
	switch {
	case needs.Has(smtp.ExtBinaryMIME):
		kind = "application/octet-stream\r\nContent-Transfer-Encoding: binary"
		lines = append(lines, "nul\x00 \r cr, \n lf \n.\n \xff\xfe")
	case needs.Has(smtp.Ext8BitMIME):
		kind = "text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit"
		lines = append(lines, "caf\xc3\xa9 \xe9 \xff\xfe")
	}
	subject := name
	if needs.Has(smtp.ExtSMTPUTF8 | smtp.Ext8BitMIME) {
		subject += " für Zoë"
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\nDate: Sun, 22 Nov 2026 08:00:00 +0000\r\nMessage-ID: <%s@client.example>\r\nSubject: %s\r\nX-Name: %s\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: %s\r\n\r\n", matrixFrom, name, subject, name, kind)
	for _, l := range lines {
		b.WriteString(l + "\r\n")
	}
	for i := 0; b.Len() < size; i++ {
		b.WriteString(lines[i%len(lines)] + "\r\n")
	}
	b.WriteString("the end\r\n.\r\n\r\n")
	l.content = b.Bytes()
	return l
}

// envID is that of the letter.
func (l letter) envID() string { return "id-" + l.name }

// mailParams and rcptParams are what the letter asks for.
func (l letter) mailParams() smtp.MailParams {
	p := smtp.MailParams{UTF8: l.needs.Has(smtp.ExtSMTPUTF8)}
	if l.needs&(smtp.ExtSize|smtp.ExtChunking) != 0 {
		p.Size = int64(len(l.content))
	}
	switch {
	case l.needs.Has(smtp.ExtBinaryMIME):
		p.Body = smtp.BodyBinaryMIME
	case l.needs.Has(smtp.Ext8BitMIME):
		p.Body = smtp.Body8BitMIME
	}
	if l.needs.Has(smtp.ExtDSN) {
		p.Ret, p.EnvID = smtp.RetHeaders, l.envID()
	}
	if l.needs.Has(smtp.ExtAuth) {
		p.Auth = matrixFrom
	}
	if l.needs.Has(smtp.ExtDeliverBy) {
		p.By = smtp.DeliverBy{Seconds: 3600, Mode: smtp.ByReturn}
	}
	if l.needs.Has(smtp.ExtFutureRelease) {
		p.Hold.For = time.Second
	}
	if l.needs.Has(smtp.ExtMTPriority) {
		p.Priority = 3
	}
	return p
}

func (l letter) rcptParams(to string) (p smtp.RcptParams) {
	if l.needs.Has(smtp.ExtDSN) {
		p.Notify = smtp.NotifySuccess | smtp.NotifyFailure
		if to != matrixZoe {
			p.ORcpt = "rfc822;orig+2B" + to
		} else {
			p.ORcpt = "utf-8;" + to
		}
	}
	if l.needs.Has(smtp.ExtRRVS) && (to == matrixBob || to == matrixZoe) {
		p.RRVS.Since = l.from
	}
	return p
}

// in reports whether the letter lies in a box, and its content is what was sent.
func (l letter) in(h *host, to string) (found bool, err error) {
	user, _, _ := strings.Cut(to, "@")
	for _, b := range h.box(user) {
		if named(b) != l.name {
			continue
		}
		want := l.content
		if h.lines {
			want, b = lf(want), lf(b)
		}
		found = true
		if !bytes.HasSuffix(b, want) && !bytes.HasSuffix(lf(b), lf(want)) {
			return true, fmt.Errorf("%s for %s is not what was sent", l.name, to)
		}
	}
	return found, nil
}

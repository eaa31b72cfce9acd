package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// A caller is a client in the matrix: it sends letters to a host by taps that the
// edge makes, and returns when it has done so.
type caller struct {
	name   string
	speaks smtp.Extensions
	each   bool // it can be told what to use, so that each pair has a letter
	send   func(t *testing.T, h *host, e *edge, letters []letter)
}

var callers = []caller{
	{"smtpc", basic | smtp.ExtPipelining | smtp.ExtEnhancedStatusCodes | smtp.ExtChunking | smtp.ExtBinaryMIME | smtp.ExtLimits | smtp.ExtDeliverBy |
		smtp.ExtFutureRelease | smtp.ExtMTPriority | smtp.ExtRRVS, true, sendLibrary},
	{"Postrider", basic | smtp.ExtPipelining | smtp.ExtEnhancedStatusCodes | smtp.ExtChunking | smtp.ExtBinaryMIME | smtp.ExtLimits | smtp.ExtDeliverBy |
		smtp.ExtMTPriority | smtp.ExtRRVS, false, sendPostrider},
	{"go-smtp", basic | smtp.ExtEnhancedStatusCodes | smtp.ExtRRVS, true, sendGoSMTP},
	{"Postfix", basic | smtp.ExtPipelining | smtp.ExtEnhancedStatusCodes, false, sendPostfix},
	{"Exim", basic&^smtp.Ext8BitMIME | smtp.ExtPipelining | smtp.ExtChunking, false, sendExim}, // it sends eight bits without BODY,
}

// sendLibrary sends each letter in a session of its own, with TLS and AUTH where the
// letter needs them.
func sendLibrary(t *testing.T, h *host, e *edge, letters []letter) {
	plain := e.tap(t, h.addr)
	submit := plain
	if h.submit != "" {
		submit = e.tap(t, h.submit)
	}
	for _, l := range letters {
		to := plain
		if l.needs.Has(smtp.ExtFutureRelease) {
			to = submit
		}
		if err := libraryLetter(t, to.addr, h.password, l); err != nil {
			t.Errorf("%s: %v", l.name, err)
		}
	}
}

func libraryLetter(t *testing.T, addr, password string, l letter) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	c, err := smtpc.NewConn(t.Context(), nc, smtpc.Options{Hello: "client.example", ChunkSize: 700})
	if err != nil {
		return err
	}
	if l.needs&(smtp.ExtStartTLS|smtp.ExtAuth|smtp.ExtFutureRelease) != 0 {
		err = c.StartTLS(t.Context(), &tls.Config{InsecureSkipVerify: true})
	}
	if err == nil && l.needs&(smtp.ExtAuth|smtp.ExtFutureRelease) != 0 {
		err = c.Login(t.Context(), smtpc.Credentials{Username: matrixFrom, Password: password})
	}
	if err != nil {
		return err
	}
	for to := l.to; len(to) > 0; {
		n := len(to)
		if most := c.Limits().RcptMax; most > 0 {
			n = min(n, most)
		}
		tx := smtpc.Transaction{From: mustPath(t, matrixFrom), Params: l.mailParams(), Content: bytes.NewReader(l.content)}
		for _, who := range to[:n] {
			tx.Rcpts = append(tx.Rcpts, smtpc.Rcpt{To: mustPath(t, who), Params: l.rcptParams(who)})
		}
		if res := c.Send(t.Context(), tx); res.Err != nil || res.Accepted() != n || !res.Final.Positive() {
			return fmt.Errorf("MAIL %v, RCPT %v, final %v: %w", res.Mail, res.Rcpts, res.Final, res.Err)
		}
		to = to[n:]
	}
	return c.Quit(t.Context())
}

func mustPath(t *testing.T, addr string) smtp.Path {
	t.Helper()
	p, err := smtp.ParsePath(addr)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// sendGoSMTP sends each letter with the client of go-smtp.
func sendGoSMTP(t *testing.T, h *host, e *edge, letters []letter) {
	to := e.tap(t, h.addr)
	for _, l := range letters {
		if err := goLetter(to.addr, h.password, l); err != nil {
			t.Errorf("%s: %v", l.name, err)
		}
	}
}

func goLetter(addr, password string, l letter) error {
	dial := gosmtp.Dial
	if l.needs&(smtp.ExtStartTLS|smtp.ExtAuth) != 0 {
		dial = func(addr string) (*gosmtp.Client, error) {
			return gosmtp.DialStartTLS(addr, &tls.Config{InsecureSkipVerify: true})
		}
	}
	c, err := dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	p := l.mailParams()
	o := &gosmtp.MailOptions{Size: p.Size, UTF8: p.UTF8, EnvelopeID: p.EnvID, Return: gosmtp.DSNReturn(p.Ret.String())}
	if l.needs.Has(smtp.ExtAuth) {
		if err := c.Auth(sasl.NewPlainClient("", matrixFrom, password)); err != nil {
			return err
		}
		o.Auth = &p.Auth
	}
	if err := c.Mail(matrixFrom, o); err != nil {
		return err
	}
	for _, to := range l.to {
		p := l.rcptParams(to)
		o := &gosmtp.RcptOptions{RequireRecipientValidSince: p.RRVS.Since}
		if l.needs.Has(smtp.ExtDSN) {
			o.Notify = []gosmtp.DSNNotify{gosmtp.DSNNotifySuccess, gosmtp.DSNNotifyFailure}
			if o.OriginalRecipientType, o.OriginalRecipient = gosmtp.DSNAddressTypeRFC822, "orig+"+to; to == matrixZoe {
				o.OriginalRecipientType, o.OriginalRecipient = gosmtp.DSNAddressTypeUTF8, to
			}
		}
		if err := c.Rcpt(to, o); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(l.content); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

// hand gives letters to a server that sends them on, by the parameters of its own
// extensions.
func hand(t *testing.T, addr string, letters []letter) {
	t.Helper()
	for _, l := range letters {
		if err := handOne(addr, l); err != nil {
			t.Errorf("%s is not taken to be sent on: %v", l.name, err)
		}
	}
}

func handOne(addr string, l letter) error {
	c, err := dial(addr)
	if err != nil {
		return err
	}
	defer c.close()
	r, err := c.want(250, "EHLO client.example")
	if err != nil {
		return err
	}
	p := l.mailParams()
	p.Auth, p.Hold = "", smtp.Hold{}
	from, err1 := smtp.ParsePath(matrixFrom)
	if _, err := c.want(250, "MAIL FROM:"+parameters(smtp.AppendMail(nil, from, p))); err != nil || err1 != nil {
		return errors.Join(err, err1)
	}
	for _, who := range l.to {
		to, err1 := smtp.ParsePath(who)
		if _, err := c.want(250, "RCPT TO:"+parameters(smtp.AppendRcpt(nil, to, l.rcptParams(who)))); err != nil || err1 != nil {
			return errors.Join(err, err1)
		}
	}
	if p.Body == smtp.BodyBinaryMIME {
		if err = c.raw(fmt.Sprintf("BDAT %d LAST\r\n%s", len(l.content), l.content)); err == nil {
			r, err = c.read()
		}
	} else if _, err = c.want(354, "DATA"); err == nil {
		r, err = c.content(l.content)
	}
	if err == nil && r.code != 250 {
		err = errors.New(r.String())
	}
	return err
}

// parameters is a command from its path on, without the end of the line.
func parameters(line []byte) string {
	_, rest, _ := strings.Cut(strings.TrimSuffix(string(line), "\r\n"), ":")
	return rest
}

// sendPostrider sends with the relay, which logs in where it can.
func sendPostrider(t *testing.T, h *host, e *edge, letters []letter) {
	to := e.tap(t, h.addr)
	s := newServer(t, "out.example", fmt.Sprintf(`
route "*" {
  via           = "smtp://%s"
  tls           = "require"
  username      = %q
  password_file = "DIR/password"
}
queue {
  retry        = ["1s"]
  delay_notice = "0s"
}
`, to.addr, matrixFrom))
	secret(t, filepath.Join(s.dir, "password"), h.password)
	s.start()
	hand(t, s.addr(), letters)
	s.empty()
	s.stop()
}

func sendPostfix(t *testing.T, h *host, e *edge, letters []letter) {
	to := e.tap(t, h.addr)
	ip, port, _ := net.SplitHostPort(to.addr)
	d := startPostfix(t, "out.example", []string{"s@out.example"}, fmt.Sprintf(`
relayhost = [%[1]s]:%[2]s
smtp_tls_security_level = encrypt
smtp_sasl_auth_enable = yes
smtp_sasl_mechanism_filter = plain
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = inline:{ { [%[1]s]:%[2]s = %[3]s:%[4]s } }
smtp_line_length_limit = 0
`, ip, port, matrixFrom, h.password))
	hand(t, d.addr(), letters)
}

func sendExim(t *testing.T, h *host, e *edge, letters []letter) {
	to := e.tap(t, h.addr)
	d := startExim(t, "out.example", eximConf{
		smart: strings.Replace(to.addr, ":", "::", 1), acl: "  accept hosts = 127.0.0.0/8", strict: true,
		main: "dsn_advertise_hosts = *\nsmtputf8_advertise_hosts = *\n",
		auth: "plain:\n  driver = plaintext\n  public_name = PLAIN\n  client_send = ^" + matrixFrom + "^" + h.password + "\n",
	})
	hand(t, d.addr(), letters)
}

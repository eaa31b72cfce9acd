package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/node"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

type sendCmd struct {
	From     string   `help:"Reverse-path; \"\" is the null path." required:"" placeholder:"ADDRESS"`
	To       []string `help:"Recipient; may be given again." required:"" placeholder:"ADDRESS" sep:"none"`
	Subject  string   `help:"Subject of a message that has no header fields." placeholder:"TEXT"`
	Server   string   `help:"Where to send it. Else our own listener." placeholder:"HOST:PORT"`
	TLS      bool     `name:"tls" help:"Go over to TLS (STARTTLS) before anything else."`
	User     string   `help:"Log in, under TLS. The password is $$POSTRIDER_PASSWORD, or comes from the terminal." placeholder:"ADDRESS"`
	Insecure bool     `help:"Take whatever certificate the server shows."`
	Verbose  bool     `short:"v" help:"Show each command and reply."`
	File     string   `arg:"" optional:"" help:"The message, or its text alone. Else standard input."`
}

// Bounds of send.
const (
	messageMax  = 1 << 30 // octets
	dialTimeout = 30 * time.Second
)

// sent is what became of one recipient, under --json.
type sent struct {
	To    string `json:"to"`
	Code  int    `json:"code"`  // 0: no reply was heard
	Reply string `json:"reply"` // with its codes
	Error string `json:"error,omitempty"`
}

// Run sends one message in one transaction.
func (c sendCmd) Run(a *app) error {
	t, err := c.transaction(a)
	if err != nil {
		return err
	}
	server, err := c.server(a)
	if err != nil {
		return err
	}
	password, err := c.password(a)
	if err != nil {
		return err
	}
	conn, err := dial(a.ctx, server)
	if err != nil {
		return err
	}
	if c.Verbose {
		conn = newTrace(conn, a.stderr)
	}
	peer, err := smtpc.NewConn(a.ctx, conn, smtpc.Options{})
	if err != nil {
		return fmt.Errorf("%s: %w", server, err)
	}
	defer peer.Close()
	if err := c.secure(a, peer, server, password); err != nil {
		return fmt.Errorf("%s: %w", server, err)
	}
	res := peer.Send(a.ctx, t)
	if peer.Usable() {
		peer.Quit(a.ctx) // the message is answered for; nothing hangs on it
	}
	return c.report(a, server, t, res)
}

// password is that of --user.
func (c sendCmd) password(a *app) (string, error) {
	if c.User == "" {
		return "", nil
	}
	if p, ok := os.LookupEnv("POSTRIDER_PASSWORD"); ok {
		return checkPassword(p)
	}
	f, ok := a.stdin.(*os.File)
	if !ok || !isTerminal(f) {
		return "", usagef("--user %s: set POSTRIDER_PASSWORD, or be at a terminal", c.User)
	}
	p, err := a.hidden(f, "Password for "+c.User+": ")
	if err != nil {
		return "", err
	}
	return checkPassword(p)
}

// secure goes over to TLS and logs in, as far as that was asked for.
func (c sendCmd) secure(a *app, peer *smtpc.Conn, server, password string) error {
	if !c.TLS && c.User == "" {
		return nil
	}
	host, _, _ := net.SplitHostPort(server) // checked before
	conf := &tls.Config{ServerName: host, InsecureSkipVerify: c.Insecure, RootCAs: a.roots()}
	if err := peer.StartTLS(a.ctx, conf); err != nil {
		return err
	}
	if c.User == "" {
		return nil
	}
	return peer.Login(a.ctx, smtpc.Credentials{Username: c.User, Password: password})
}

// roots are those of the system, and the certificate that our own server has
// made for itself, if we may read it.
func (a *app) roots() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if cfg, err := a.loadConfig(false); err == nil {
		if text, err := os.ReadFile(filepath.Join(cfg.DataDir, node.SelfSignedFile)); err == nil {
			pool.AppendCertsFromPEM(text)
		}
	}
	return pool
}

// report tells what the server answered for each recipient.
func (c sendCmd) report(a *app, server string, t smtpc.Transaction, res smtpc.Result) error {
	failed := false
	for i, rcpt := range t.Rcpts {
		reply, _ := res.Decides(i)
		s := sent{To: rcpt.To.String(), Code: reply.Code, Reply: replyLine(reply)}
		ok := reply.Positive()
		if !ok {
			failed = true
		}
		if reply.Code == 0 {
			s.Error = "no reply"
			if res.Err != nil {
				s.Error = res.Err.Error()
			}
			if res.Uncertain {
				s.Error += " (the server may have the message all the same)"
			}
		}
		if a.cli.JSON {
			if err := a.printJSON(s); err != nil {
				return err
			}
			continue
		}
		if reply.Code == 0 {
			a.printf("%s: %s\n", s.To, s.Error)
		} else {
			a.printf("%s: %s\n", s.To, s.Reply)
		}
	}
	if failed {
		return errTold
	}
	return nil
}

func replyLine(r smtp.Reply) string {
	if r.Code == 0 {
		return ""
	}
	s := fmt.Sprint(r.Code)
	if !r.Status.IsZero() {
		s += " " + r.Status.String()
	}
	return strings.TrimRight(s+" "+strings.Map(visible, r.Text), " ")
}

// visible keeps what others wrote from moving the cursor or turning the text.
func visible(r rune) rune {
	switch {
	case r == '\n':
		return ' '
	case !unicode.IsPrint(r):
		return '?'
	}
	return r
}

// transaction reads envelope and message.
func (c sendCmd) transaction(a *app) (smtpc.Transaction, error) {
	var t smtpc.Transaction
	from, err := smtp.ParsePath(strings.Trim(c.From, "<>"))
	if err != nil {
		return t, usagef("--from %s: %w", c.From, err)
	}
	t.From = from
	for _, s := range c.To {
		to, err := smtp.ParsePath(strings.Trim(s, "<>"))
		if err == nil && to.IsNull() {
			err = errors.New("a recipient cannot be empty")
		}
		if err != nil {
			return t, usagef("--to %s: %w", s, err)
		}
		t.Rcpts = append(t.Rcpts, smtpc.Rcpt{To: to})
		t.Params.UTF8 = t.Params.UTF8 || !to.IsASCII()
	}
	raw, err := c.read(a)
	if err != nil {
		return t, err
	}
	msg, notes, err := compose(letter{from: from, to: t.Rcpts, subject: c.Subject, raw: raw, now: time.Now()})
	if err != nil {
		return t, usageError{err}
	}
	for _, note := range notes {
		fmt.Fprintf(a.stderr, "postrider: note: %s\n", note)
	}
	head, _, _ := bytes.Cut(msg, []byte("\r\n\r\n"))
	t.Params.UTF8 = t.Params.UTF8 || !from.IsASCII() || !isASCII(head)
	t.Params.Size = int64(len(msg))
	if !isASCII(msg) {
		t.Params.Body = smtp.Body8BitMIME
	}
	t.Content = bytes.NewReader(msg)
	return t, nil
}

func (c sendCmd) read(a *app) ([]byte, error) {
	in := a.stdin
	if c.File != "" && c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, usageError{err}
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, messageMax+1))
	if err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	if len(raw) > messageMax {
		return nil, usagef("the message is larger than %s", config.FormatSize(messageMax))
	}
	return raw, nil
}

// server is --server, or our own first listener, from this machine.
func (c sendCmd) server(a *app) (string, error) {
	if c.Server != "" {
		if _, _, err := net.SplitHostPort(c.Server); err != nil {
			return "", usagef("--server %s: write HOST:PORT, such as 127.0.0.1:2525", c.Server)
		}
		return c.Server, nil
	}
	cfg, err := a.loadConfig(false)
	if err != nil {
		return "", err
	}
	role := config.RoleMX
	if c.User != "" {
		role = config.RoleSubmission
	}
	for _, l := range cfg.Listeners {
		if l.Role == role && l.TLS != config.TLSImplicit {
			return reachable(l.Address), nil
		}
	}
	return "", usagef("no listener of the role %s is configured: name a server with --server HOST:PORT", role)
}

func dial(ctx context.Context, server string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, fmt.Errorf("no server at %s (%w): start one with \"postrider serve\", or name another with --server HOST:PORT", server, err)
	}
	return conn, nil
}

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/postrider/postrider/conformance"
	"github.com/postrider/postrider/smtp"
)

type conformanceCmd struct {
	Server  string        `help:"The server to ask." required:"" placeholder:"HOST:PORT"`
	Rcpt    string        `help:"A recipient that it accepts; the mailbox gets some hundred small messages. Without one, what needs it is skipped." placeholder:"ADDRESS"`
	From    string        `help:"Reverse-path. Else the recipient." placeholder:"ADDRESS"`
	Hello   string        `help:"Name for EHLO. Else the address literal of this end." placeholder:"NAME"`
	Only    []string      `help:"Only the requirements of this name, or that begin with it; may be given again." placeholder:"NAME" sep:"none"`
	Maildir string        `help:"The Maildir of the recipient, where it can be read: what arrives is looked at too." placeholder:"DIR"`
	TLS     bool          `name:"tls" help:"Go over to TLS (STARTTLS) before anything else, whatever the certificate."`
	LMTP    bool          `name:"lmtp" help:"The server speaks LMTP."`
	Slow    bool          `help:"Try also what takes minutes."`
	Timeout time.Duration `help:"How long to wait for one reply." default:"10s" placeholder:"DURATION"`
}

// Help is what --help says beside the flags.
func (conformanceCmd) Help() string {
	return `Asks a server, over the wire, whether it keeps what the RFCs ask of one, a dialogue for each requirement, and prints
what it found. What a MUST or SHOULD asks for and the server does not do is shown with the dialogue. The exit status is 1 if
a MUST is not kept. Ask servers of your own only: some of the dialogues are those of an attacker.`
}

// Run asks a server and tells what it found.
func (c conformanceCmd) Run(a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	cases, err := conformance.Cases()
	if err != nil {
		return err
	}
	if cases, err = conformance.Select(cases, c.Only); err != nil {
		return usagef("--only: %w", err)
	}
	host, _, _ := net.SplitHostPort(c.Server) // checked before
	target := conformance.Target{
		Dial:     func(ctx context.Context) (net.Conn, error) { return dial(ctx, c.Server) },
		TLS:      &tls.Config{ServerName: host, InsecureSkipVerify: true},
		StartTLS: c.TLS, LMTP: c.LMTP, Rcpt: c.Rcpt, From: c.From, Hello: c.Hello, Timeout: c.Timeout, Slow: c.Slow,
	}
	if c.Maildir != "" {
		target.Mailbox = c.mailbox
	}
	width := len("REQUIREMENT")
	for _, k := range cases {
		width = max(width, len(k.Name))
	}
	if !a.cli.JSON {
		a.printf("%-*s  %-20s  %-6s  %s\n", width, "REQUIREMENT", "RFC", "LEVEL", "RESULT")
	}
	var sum conformance.Summary
	var told error
	err = conformance.Run(a.ctx, target, cases, func(r conformance.Result) {
		sum.Add(r)
		if a.cli.JSON {
			told = errors.Join(told, a.printJSON(r))
			return
		}
		c.tell(a, width, r)
	})
	if err = errors.Join(err, told); err != nil {
		return err
	}
	if !a.cli.JSON {
		a.printf("\n%d pass, %d of MUST and %d of SHOULD fail, %d are skipped\n", sum.Pass, sum.FailMust, sum.FailShould, sum.Skipped)
	}
	if sum.FailMust > 0 {
		return errTold
	}
	return nil
}

// check finds mistakes of the caller.
func (c conformanceCmd) check() error {
	if _, _, err := net.SplitHostPort(c.Server); err != nil {
		return usagef("--server %s: write HOST:PORT, such as 127.0.0.1:2525", c.Server)
	}
	if c.Timeout <= 0 {
		return usagef("--timeout %s: write how long to wait for a reply, such as 10s", c.Timeout)
	}
	for _, p := range []struct{ flag, address string }{{"--rcpt", c.Rcpt}, {"--from", c.From}} {
		if _, err := smtp.ParsePath(p.address); err != nil && p.address != "" {
			return usagef("%s %s: %w", p.flag, p.address, err)
		}
	}
	if strings.ContainsAny(c.Hello, " \r\n\x00") {
		return usagef("--hello %q: write one word", c.Hello)
	}
	return nil
}

// mailbox reads the messages of the Maildir that hold a text.
func (c conformanceCmd) mailbox(text string) ([][]byte, error) {
	const most = 1 << 20 // octets: larger ones are not of ours to look at
	var found [][]byte
	for _, sub := range []string{"new", "cur"} {
		dir := filepath.Join(c.Maildir, sub)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if info, err := e.Info(); err != nil || info.Size() > most {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err == nil && bytes.Contains(content, []byte(text)) {
				found = append(found, content)
			}
		}
	}
	return found, nil
}

// tell prints one line, and for what failed what it is about.
func (c conformanceCmd) tell(a *app, width int, r conformance.Result) {
	result := string(r.Verdict)
	if r.Verdict == conformance.Skipped {
		result += ": " + r.Why
	}
	a.printf("%-*s  %-20s  %-6s  %s\n", width, r.Name, r.RFC, r.Level, result)
	if r.Verdict != conformance.Fail {
		return
	}
	a.printf("    %s: %s\n", r.RFC, r.Says)
	for _, line := range r.Heard {
		a.printf("    %s\n", line)
	}
	a.printf("    %s\n", fmt.Sprintf("So: %s", r.Why))
}

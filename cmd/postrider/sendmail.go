package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/smtp"
)

// Exit codes of sysexits.h, which programs that call sendmail know.
const (
	exNoUser   = 67
	exUsage    = 64
	exNoInput  = 66
	exRefused  = 69 // EX_UNAVAILABLE
	exTempFail = 75 // try later: nothing was taken
	exConfig   = 78
)

// A sysexit is an error with its exit code.
type sysexit struct {
	code int
	err  error
}

func (e sysexit) Error() string { return e.err.Error() }

func sysexitf(code int, format string, args ...any) error {
	return sysexit{code, fmt.Errorf(format, args...)}
}

// runAs is the whole program under one of its other names.
func runAs(ctx context.Context, name string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, cli: &cli{}}
	var err error
	switch name {
	case "mailq":
		err = a.mailq()
	case "newaliases":
		err = a.newaliases()
	default:
		err = a.sendmail(args)
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	var exit sysexit
	var wrong config.Diagnostics
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &wrong), errors.As(err, new(usageError)):
		return exConfig
	}
	return exTempFail
}

// newaliases has nothing to compile, for alias files are read as they are. It
// tells what is wrong with them, as the server would be told.
func (a *app) newaliases() error {
	name, src, err := a.findConfig(false)
	if err != nil || name == "" {
		return err
	}
	cfg, err := a.parse(name, src, true)
	if err == nil && len(cfg.warnings) > 0 {
		fmt.Fprint(a.stderr, cfg.warnings)
	}
	return err
}

// A mailing is what sendmail was called with.
type mailing struct {
	mode     string // of -b
	from     string
	fullName string
	headers  bool // -t: the recipients stand in the header
	dots     bool // a line with a dot alone is content, and not the end
	rcpts    []string
}

// Options of sendmail: those with a value, and those that say nothing to us.
const (
	sendmailValues = "BCDFfhLNOopRrVX"
	sendmailFlags  = "AGImnUvti"
)

// parseSendmail reads the command line as sendmail has it: an option and its value
// in one word or in two.
func parseSendmail(args []string) (mailing, error) {
	m := mailing{mode: "m"}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			m.rcpts = append(m.rcpts, args...)
			return m, nil
		case len(arg) < 2 || arg[0] != '-':
			m.rcpts = append(m.rcpts, arg)
			continue
		}
		letter, value := arg[1], arg[2:]
		switch {
		case letter == 'b':
			m.mode = value
		case letter == 'q':
			m.mode = "q"
		case letter == 'd': // debugging, with a value in the same word
		case strings.IndexByte(sendmailValues, letter) >= 0:
			if value == "" {
				if len(args) == 0 {
					return m, sysexitf(exUsage, "%s wants a value", arg)
				}
				value, args = args[0], args[1:]
			}
			m.option(letter, value)
		case strings.IndexByte(sendmailFlags, letter) >= 0:
			for _, l := range []byte(arg[1:]) { // "-ti"
				m.headers, m.dots = m.headers || l == 't', m.dots || l == 'i'
			}
		default:
			return m, sysexitf(exUsage, "there is no option %s", arg)
		}
	}
	return m, nil
}

func (m *mailing) option(letter byte, value string) {
	switch letter {
	case 'f', 'r':
		m.from = cmp.Or(strings.Trim(value, "<>"), "<>")
	case 'F':
		m.fullName = value
	case 'o':
		m.dots = m.dots || value == "i"
	}
}

// sendmail hands a message from standard input to the server on this machine.
func (a *app) sendmail(args []string) error {
	m, err := parseSendmail(args)
	if err != nil {
		return err
	}
	switch m.mode {
	case "p":
		return a.mailq()
	case "i", "q": // alias files and the queue need no help
		return nil
	case "m":
	default:
		return sysexitf(exUsage, "-b%s is not to be had: the server is started with \"postrider serve\"", m.mode)
	}
	cfg, err := a.loadConfig(false)
	if err != nil {
		return err
	}
	raw, err := readMail(a.stdin, m.dots, messageMax)
	if errors.Is(err, errMessageMax) {
		return sysexitf(exRefused, "%w: nothing was sent", err)
	}
	if err != nil {
		return sysexitf(exNoInput, "read the message: %w", err)
	}
	letter, err := m.letter(raw, cfg.Hostname)
	if err != nil {
		return err
	}
	client, up := submitClient(a.ctx, cfg.Config)
	if !up {
		return sysexitf(exTempFail, "no server runs: nobody listens at %s", cfg.SubmitPath())
	}
	done, err := client.Submit(a.ctx, letter)
	to := ""
	if done.To != "" {
		to = done.To + ": "
	}
	switch {
	case err != nil:
		return sysexitf(exTempFail, "%w", err)
	case done.Code/100 == 2:
		return nil
	case done.Code/100 == 4:
		return sysexitf(exTempFail, "%s%s", to, done.Reply)
	case to != "":
		return sysexitf(exNoUser, "%s%s: nothing was sent", to, done.Reply)
	}
	return sysexitf(exRefused, "%s", done.Reply)
}

var errMessageMax = errors.New("the message is larger than " + config.FormatSize(messageMax))

// readMail reads a message up to its end, or a line with a dot alone, and gives
// its lines CRLF. One of more than most octets is errMessageMax: a part of it would look
// like all of it.
func readMail(in io.Reader, dots bool, most int64) ([]byte, error) {
	var out bytes.Buffer
	limited := &io.LimitedReader{R: in, N: most + 1}
	r := bufio.NewReader(limited)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF && limited.N == 0 {
			return nil, errMessageMax
		}
		text := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) > 0 {
			if !dots && string(text) == "." {
				return out.Bytes(), nil
			}
			out.Write(bytes.ReplaceAll(text, []byte("\r"), nil)) // SMTP has no CR alone
			out.WriteString("\r\n")
		}
		if err == io.EOF {
			return out.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// letter is what is handed in: names without a domain are those of this host, and
// a From is added where the header has none.
func (m mailing) letter(raw []byte, hostname string) (admin.Letter, error) {
	l := admin.Letter{}
	sender := m.from
	if sender == "" {
		sender = loginName()
	}
	if sender != "<>" {
		from, err := qualified(sender, hostname)
		if err != nil {
			return l, sysexitf(exUsage, "-f %s: %w", sender, err)
		}
		l.From = from
	}
	head, has := headerOf(raw)
	rcpts := m.rcpts
	if m.headers {
		rcpts = append(rcpts, recipientsOf(head)...)
	}
	for _, s := range rcpts {
		to, err := qualified(s, hostname)
		if err != nil {
			return l, sysexitf(exUsage, "recipient %q: %w", s, err)
		}
		l.To = append(l.To, to)
	}
	if len(l.To) == 0 {
		return l, sysexitf(exUsage, "no recipient: name one, or write it into the header and say -t")
	}
	before := ""
	if !hasField(head, "from") {
		address := l.From.String()
		if l.From.IsNull() {
			address = "MAILER-DAEMON@" + hostname
		}
		before = "From: <" + address + ">\r\n"
		if m.fullName != "" {
			before = "From: " + quotePhrase(m.fullName) + " <" + address + ">\r\n"
		}
	}
	if !has {
		before += "\r\n"
	}
	l.UTF8 = !isASCII([]byte(before)) || !l.From.IsASCII()
	for _, f := range head {
		l.UTF8 = l.UTF8 || !isASCII([]byte(f.value))
	}
	for _, to := range l.To {
		l.UTF8 = l.UTF8 || !to.IsASCII()
	}
	l.Content = io.MultiReader(strings.NewReader(before), bytes.NewReader(raw))
	l.Size = int64(len(before) + len(raw))
	return l, nil
}

// loginName is who calls us.
func loginName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return smtp.QuoteLocal(u.Username)
	}
	return fmt.Sprintf("uid%d", os.Getuid())
}

// qualified is an address, of this host where it has no domain.
func qualified(s, hostname string) (smtp.Path, error) {
	s = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "<"), ">")
	if s == "" {
		return smtp.Path{}, errors.New("it is empty")
	}
	if !strings.Contains(s, "@") {
		s += "@" + hostname
	}
	return smtp.ParsePath(s)
}

// quotePhrase is a name as it stands before an address (RFC 5322 3.2.5).
func quotePhrase(s string) string {
	s = strings.Map(visible, s)
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

package dsn

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/smtp"
)

// ParseMax bounds the octets of a report that Parse reads, and RecipientsMax
// the groups that it keeps.
const (
	ParseMax      = 4 << 20
	RecipientsMax = 100_000
)

// ErrNotReport is what Parse says of a message that is not a delivery status
// notification.
var ErrNotReport = errors.New("dsn: not a delivery status notification")

// Parse reads a report, ours or another's. It is lenient with fields that it
// does not know or cannot read: they are left out. A message that is not a
// multipart/report of type delivery-status, or is longer than ParseMax, is an
// error.
func Parse(r io.Reader) (*Notice, error) {
	lr := &io.LimitedReader{R: r, N: ParseMax + 1}
	msg, err := mail.ReadMessage(lr)
	if err != nil {
		return nil, fmt.Errorf("dsn: read header: %w", err)
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || !strings.EqualFold(params["report-type"], "delivery-status") ||
		params["boundary"] == "" {
		return nil, ErrNotReport
	}
	n := &Notice{}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for i := 0; i < 3; i++ {
		p, err := parts.NextRawPart()
		if err == io.EOF && i == 2 {
			break // RFC 6522 3: the third part is optional
		}
		if err != nil {
			return nil, fmt.Errorf("dsn: read part %d: %w", i+1, err)
		}
		if err := n.take(i, p); err != nil {
			return nil, err
		}
	}
	if lr.N <= 0 {
		return nil, fmt.Errorf("dsn: a report longer than %d octets", ParseMax)
	}
	return n, nil
}

// take reads part i into n.
func (n *Notice) take(i int, p *multipart.Part) error {
	kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
	if err != nil {
		kind = "text/plain" // RFC 2045 5.2
	}
	body, err := io.ReadAll(decoded(p))
	if err != nil {
		return fmt.Errorf("dsn: read part %d: %w", i+1, err)
	}
	switch i {
	case 0:
		n.Text = string(body)
	case 1:
		if kind != "message/delivery-status" && kind != "message/global-delivery-status" {
			return ErrNotReport
		}
		return n.status(string(body))
	case 2:
		n.Returned = body
		n.Full = kind == "message/rfc822" || kind == "message/global"
	}
	return nil
}

func decoded(p *multipart.Part) io.Reader {
	switch strings.ToLower(strings.TrimSpace(p.Header.Get("Content-Transfer-Encoding"))) {
	case "quoted-printable":
		return quotedprintable.NewReader(p)
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, p)
	}
	return p
}

// status reads the fields of the second part, in groups divided by empty lines.
func (n *Notice) status(body string) error {
	var cur *Recipient
	first := true
	for _, g := range groups(body) {
		if first {
			first = false
			for _, f := range g {
				n.messageField(f)
			}
			continue
		}
		if len(n.Recipients) == RecipientsMax {
			return fmt.Errorf("dsn: a report of more than %d recipients", RecipientsMax)
		}
		n.Recipients = append(n.Recipients, Recipient{})
		cur = &n.Recipients[len(n.Recipients)-1]
		for _, f := range g {
			cur.recipientField(f)
		}
	}
	if len(n.Recipients) == 0 {
		return fmt.Errorf("%w: no recipient is named", ErrNotReport)
	}
	return nil
}

// groups splits the part into groups of unfolded fields.
func groups(body string) [][]string {
	var all [][]string
	var cur []string
	for line := range strings.Lines(body) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimLeft(line, " \t") == "":
			if len(cur) > 0 {
				all, cur = append(all, cur), nil
			}
		case (line[0] == ' ' || line[0] == '\t') && len(cur) > 0:
			cur[len(cur)-1] += line
		default:
			cur = append(cur, line)
		}
	}
	if len(cur) > 0 {
		all = append(all, cur)
	}
	return all
}

func (n *Notice) messageField(f string) {
	name, value := split(f)
	switch name {
	case "original-envelope-id":
		n.EnvID = value
	case "reporting-mta":
		_, n.ReportingMTA = typed(value)
	case "arrival-date":
		n.Arrived = parseDate(value)
	}
}

func (r *Recipient) recipientField(f string) {
	name, value := split(f)
	switch name {
	case "original-recipient":
		kind, addr := typed(value)
		if !strings.EqualFold(kind, "utf-8") {
			addr = smtp.EncodeXtext(addr)
		}
		r.ORcpt = kind + ";" + addr
	case "final-recipient":
		kind, addr := typed(value)
		if strings.EqualFold(kind, "utf-8") {
			addr = fromUnitext(addr)
		}
		r.Final = path(addr)
	case "action":
		r.Action = Action(strings.ToLower(value))
	case "status":
		r.Status, _ = parseStatus(value)
	case "remote-mta":
		_, r.RemoteMTA = typed(value)
	case "diagnostic-code":
		if kind, text := typed(value); strings.EqualFold(kind, "smtp") {
			r.Diagnostic = parseReply(text)
		}
	case "last-attempt-date":
		r.LastAttempt = parseDate(value)
	case "will-retry-until":
		r.WillRetryUntil = parseDate(value)
	}
}

func split(f string) (name, value string) {
	name, value, _ = strings.Cut(f, ":")
	return strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
}

// typed splits a value of RFC 3464 2.1.2.
func typed(value string) (kind, rest string) {
	kind, rest, ok := strings.Cut(value, ";")
	if !ok {
		return "", strings.TrimSpace(value)
	}
	return strings.TrimSpace(kind), strings.TrimSpace(rest)
}

func path(addr string) smtp.Path {
	if len(addr) > 1 && addr[0] == '<' && addr[len(addr)-1] == '>' {
		addr = addr[1 : len(addr)-1]
	}
	at := strings.LastIndexByte(addr, '@')
	if at < 0 {
		return smtp.Path{Local: addr}
	}
	return smtp.Path{Local: addr[:at], Domain: addr[at+1:]}
}

// parseDate returns the zero time for what is no date.
func parseDate(value string) time.Time {
	t, err := mail.ParseDate(value)
	if err != nil {
		return time.Time{}
	}
	return t
}

// parseStatus reads a status code at the start of s and returns what follows.
func parseStatus(s string) (smtp.Status, string) {
	word, rest, _ := strings.Cut(s, " ")
	f := strings.Split(word, ".")
	if len(f) != 3 || len(f[0]) != 1 || len(f[1]) > 3 || len(f[2]) > 3 || !strings.Contains("245", f[0]) {
		return smtp.Status{}, s
	}
	var n [3]uint64
	for i := range f {
		var err error
		if n[i], err = strconv.ParseUint(f[i], 10, 16); err != nil {
			return smtp.Status{}, s
		}
	}
	return smtp.Status{Class: uint8(n[0]), Subject: uint16(n[1]), Detail: uint16(n[2])}, rest
}

// parseReply reads a diagnostic code of RFC 3461 9.2. The lines of a reply of
// several are told apart by the code that each begins with.
func parseReply(s string) smtp.Reply {
	if len(s) < 3 {
		return smtp.Reply{}
	}
	code, err := strconv.ParseUint(s[:3], 10, 16)
	if err != nil || code < 200 {
		return smtp.Reply{}
	}
	r := smtp.Reply{Code: int(code)}
	var texts []string
	for more := true; more; {
		more = len(s) > 3 && s[3] == '-'
		line := strings.TrimPrefix(s[3:], "-")
		if more {
			end := nextLine(line, s[:3])
			more = end >= 0
			if more {
				line, s = line[:end], line[end+1:]
			}
		}
		st, text := parseStatus(strings.TrimSpace(line))
		if !st.IsZero() {
			r.Status = st
		}
		texts = append(texts, text)
	}
	r.Text = strings.Join(texts, "\n")
	return r
}

// nextLine finds the space before the next line of a reply.
func nextLine(s, code string) int {
	best := -1
	for _, sep := range []string{"-", " "} {
		if i := strings.Index(s, " "+code+sep); i >= 0 && (best < 0 || i < best) {
			best = i
		}
	}
	if best < 0 && strings.HasSuffix(s, " "+code) {
		best = len(s) - 4
	}
	return best
}

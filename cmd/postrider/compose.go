package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// A letter is what a person gave to be sent.
type letter struct {
	from    smtp.Path
	to      []smtpc.Rcpt
	subject string
	raw     []byte
	now     time.Time
}

// compose returns the message as it goes over the wire, and notes on what is
// not as it came. A message with header fields of its own is left as it is, its
// line ends apart; a text alone gets the fields that RFC 5322 3.6 wants.
func compose(l letter) (msg []byte, notes []string, err error) {
	if strings.ContainsAny(l.subject, "\r\n") {
		return nil, nil, errors.New("--subject: a subject is one line")
	}
	text, changed := toCRLF(l.raw)
	if changed {
		notes = append(notes, "line ends are sent as CRLF, not LF (RFC 5321 2.3.8)")
	}
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\r\n")) {
		text = append(text, "\r\n"...)
		notes = append(notes, "the last line is sent with a CRLF at its end (RFC 5321 4.1.1.4)")
	}
	if hasHeader(text) {
		if l.subject != "" {
			notes = append(notes, "the message has header fields of its own: --subject is not used")
		}
		return text, notes, nil
	}
	return append(header(l, text), text...), notes, nil
}

// toCRLF puts a CR before each LF that has none.
func toCRLF(b []byte) (out []byte, changed bool) {
	out = make([]byte, 0, len(b)+len(b)/32+2)
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') {
			out, changed = append(out, '\r'), true
		}
		out = append(out, c)
	}
	return out, changed
}

// hasHeader reports whether the text begins with a header section: fields to
// the first empty line, and one among them that a message has and a text
// hardly begins with.
func hasHeader(text []byte) bool {
	known := false
	for n, line := range bytes.Split(text, []byte("\r\n")) {
		if len(line) == 0 {
			break
		}
		if n > 0 && (line[0] == ' ' || line[0] == '\t') {
			continue
		}
		name, _, ok := bytes.Cut(line, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		if !ok || len(name) == 0 || bytes.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return false
		}
		switch strings.ToLower(string(name)) {
		case "from", "to", "date", "subject", "message-id", "received", "return-path", "mime-version", "sender":
			known = true
		}
	}
	return known
}

func header(l letter, text []byte) []byte {
	var b bytes.Buffer
	from := l.from.String()
	if l.from.IsNull() {
		from = "postmaster@localhost"
	}
	names := make([]string, len(l.to))
	for i, r := range l.to {
		names[i] = r.To.String()
	}
	fmt.Fprintf(&b, "From: <%s>\r\n", from)
	fmt.Fprintf(&b, "To: <%s>\r\n", strings.Join(names, ">,\r\n\t<"))
	if l.subject != "" {
		fmt.Fprintf(&b, "Subject: %s\r\n", mime.QEncoding.Encode("utf-8", l.subject))
	}
	fmt.Fprintf(&b, "Date: %s\r\n", l.now.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	domain := l.from.Domain
	if domain == "" {
		domain = "localhost"
	}
	fmt.Fprintf(&b, "Message-ID: <%s@%s>\r\n", strings.ToLower(rand.Text()), domain)
	if !isASCII(text) {
		charset := "utf-8"
		if !utf8.Valid(text) {
			charset = "unknown-8bit"
		}
		fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: 8bit\r\n", charset)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

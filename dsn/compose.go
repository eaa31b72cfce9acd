package dsn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/message"
	"github.com/postrider/postrider/smtp"
)

// Bounds on the words of a peer that are repeated in a report.
const (
	replyLinesMax = 16
	replyLineMax  = 512 // octets, smtp.ReplyMax
)

// Errors of Compose.
var (
	ErrNoRecipients = errors.New("dsn: a report without recipients")
	ErrNoReturnPath = errors.New("dsn: a report to the null reverse-path")
)

// Compose writes a report. It is 7-bit, but for two cases that cannot be: an
// 8-bit message that is returned in full, and an address of the sender that is
// not ASCII. To such a sender nothing is encoded that the way back can carry: it
// speaks SMTPUTF8, and RFC 6533 4.1 has the form. To any other the parts are 7-bit,
// for "if the return-path SMTP server does not support SMTPUTF8, then the
// undeliverable body part and headers MUST be encoded" (RFC 6533 4.5). An original that cannot be read is left out, and is no error: the
// sender must hear of a failure also when the disk has one.
func Compose(r Report) (Message, error) {
	if len(r.Recipients) == 0 {
		return Message{}, ErrNoRecipients
	}
	if r.To.IsNull() {
		return Message{}, ErrNoReturnPath
	}
	parts := []part{wordsPart(&r), statusPart(&r)}
	if p, ok := returnedPart(&r); ok {
		parts = append(parts, p)
	}
	eight := false
	for _, p := range parts {
		eight = eight || p.encoding == "8bit"
	}
	mark := boundary(r.ID, parts)
	var b bytes.Buffer
	b.WriteString(header(&r, mark, eight))
	b.WriteString("\r\nWhat follows is a delivery report in several parts.\r\n")
	for _, p := range parts {
		fmt.Fprintf(&b, "\r\n--%s\r\nContent-Description: %s\r\nContent-Type: %s\r\n", mark, p.title, p.kind)
		if p.encoding != "" {
			fmt.Fprintf(&b, "Content-Transfer-Encoding: %s\r\n", p.encoding)
		}
		b.WriteString("\r\n")
		b.Write(p.body)
	}
	fmt.Fprintf(&b, "\r\n--%s--\r\n", mark)
	utf8 := r.global() || !r.From.IsASCII()
	return Message{Content: b.Bytes(), EightBit: eight || utf8, UTF8: utf8}, nil
}

// global reports whether the sender gets what it has in UTF-8.
func (r *Report) global() bool { return !r.To.IsASCII() }

// A part is one body part. Its body is in its encoding already; the empty
// encoding is 7bit.
type part struct {
	title, kind, encoding string
	body                  []byte
}

func header(r *Report, mark string, eight bool) string {
	from := r.From
	host := ascii(r.ReportingMTA)
	if from.IsNull() {
		from = smtp.Path{Local: "postmaster", Domain: host}
	}
	var b strings.Builder
	field(&b, "From", "Mail Delivery System <"+printable(from.String())+">")
	field(&b, "To", "<"+printable(r.To.String())+">")
	field(&b, "Subject", subject(r.Recipients))
	field(&b, "Date", date(r.Now))
	field(&b, "Message-ID", "<"+ascii(r.ID)+"@"+host+">")
	// RFC 3834 5.2: auto-replied "MAY be used on Delivery Status Notifications".
	field(&b, "Auto-Submitted", "auto-replied")
	field(&b, "MIME-Version", "1.0")
	field(&b, "Content-Type", `multipart/report; report-type=delivery-status; boundary="`+mark+`"`)
	if eight {
		field(&b, "Content-Transfer-Encoding", "8bit")
	}
	return b.String()
}

// boundary makes a line that is in none of the parts. "=_" is never in
// quoted-printable text (RFC 2045 6.7).
func boundary(id string, parts []part) string {
	for n := 0; ; n++ {
		mark := "=_" + ascii(id) + "_" + strconv.Itoa(n)
		free := true
		for _, p := range parts {
			free = free && !bytes.Contains(p.body, []byte("--"+mark))
		}
		if free {
			return mark
		}
	}
}

// statusPart is the message/delivery-status: RFC 6533 4.4 allows it where nothing is
// lost, and the 7-bit form of an address loses nothing. Where the sender has UTF-8 and
// something of it is, it is the message/global-delivery-status.
func statusPart(r *Report) part {
	var b strings.Builder
	if r.EnvID != "" {
		field(&b, "Original-Envelope-Id", ascii(r.EnvID))
	}
	field(&b, "Reporting-MTA", mtaType(r.ReportingMTA)+"; "+ascii(r.ReportingMTA))
	if !r.Arrived.IsZero() {
		field(&b, "Arrival-Date", date(r.Arrived))
	}
	if !r.DeliverBy.IsZero() {
		field(&b, "Deliver-By-Date", date(r.DeliverBy))
	}
	switch {
	case r.Hold.For > 0:
		field(&b, "Future-Release-Request", "for;"+strconv.FormatInt(int64(r.Hold.For/time.Second), 10))
	case !r.Hold.Until.IsZero():
		field(&b, "Future-Release-Request", "until;"+smtp.FormatDateTime(r.Hold.Until))
	}
	for i := range r.Recipients {
		b.WriteString("\r\n")
		recipientFields(&b, &r.Recipients[i], r.global())
	}
	p := part{title: "Delivery report", kind: "message/delivery-status", body: []byte(b.String())}
	if !isASCII(b.String()) {
		p.kind, p.encoding = "message/global-delivery-status", "8bit"
	}
	return p
}

// mtaType is the type of our own name. RFC 3461 6.3: where the fully-qualified
// name is not known, the type "MUST NOT be "dns"".
func mtaType(host string) string {
	if strings.Contains(strings.Trim(host, "."), ".") {
		return "dns"
	}
	return "x-local-hostname"
}

// recipientFields writes one group, in the order of RFC 3464 2.3.
func recipientFields(b *strings.Builder, r *Recipient, global bool) {
	if r.ORcpt != "" {
		field(b, "Original-Recipient", originalRecipient(r.ORcpt, global))
	}
	field(b, "Final-Recipient", finalRecipient(r.Final, global))
	field(b, "Action", ascii(string(r.Action)))
	field(b, "Status", r.status().String())
	if r.RemoteMTA != "" {
		field(b, "Remote-MTA", "dns; "+ascii(r.RemoteMTA))
	}
	if !r.Diagnostic.IsZero() {
		lines := replyLines(r.Diagnostic)
		// RFC 3461 9.2: "it is necessary to insert a SPACE before each line
		// after the first".
		for i, l := range lines {
			if l = ascii(l); i == 0 {
				field(b, "Diagnostic-Code", "smtp; "+l)
			} else {
				continued(b, l)
			}
		}
	}
	if !r.LastAttempt.IsZero() {
		field(b, "Last-Attempt-Date", date(r.LastAttempt))
	}
	if r.Action == Delayed && !r.WillRetryUntil.IsZero() {
		field(b, "Will-Retry-Until", date(r.WillRetryUntil))
	}
}

// continued writes a further line of the field before it.
func continued(b *strings.Builder, line string) {
	for rest := " " + line; rest != ""; {
		at := -1
		if len(rest) > foldWidth {
			at = foldAt(rest)
		}
		if at < 0 {
			at = len(rest)
		}
		b.WriteString(rest[:at] + "\r\n")
		if rest = rest[at:]; rest != "" && rest[0] != ' ' {
			rest = " " + rest
		}
	}
}

// status is the code that is told. RFC 3461 6.3: without a specific one
// "either 4.0.0 (temporary failure), or 5.0.0 (permanent failure) MUST be used".
func (r *Recipient) status() smtp.Status {
	switch {
	case !r.Status.IsZero():
		return r.Status
	case !r.Diagnostic.Status.IsZero():
		return r.Diagnostic.Status
	case r.Action == Delivered || r.Action == Relayed || r.Action == Expanded:
		return smtp.Status{Class: 2}
	case r.Action == Delayed:
		return smtp.Status{Class: 4}
	}
	return smtp.Status{Class: 5}
}

// replyLines writes a reply as it came over the wire, without the CRLFs.
func replyLines(r smtp.Reply) []string {
	code := r.Code
	if code == 0 {
		code = 451
	}
	texts := strings.Split(r.Text, "\n")
	if len(texts) > replyLinesMax {
		texts = texts[:replyLinesMax]
	}
	lines := make([]string, len(texts))
	for i, t := range texts {
		if t = printable(t); len(t) > replyLineMax {
			t = printable(t[:replyLineMax])
		}
		sep := "-"
		if i == len(texts)-1 {
			sep = " "
		}
		if !r.Status.IsZero() {
			t = r.Status.String() + " " + t
		}
		lines[i] = strings.TrimRight(fmt.Sprintf("%03d%s%s", code, sep, t), " ")
	}
	return lines
}

// returnedPart is the message that the report is about, or its header.
func returnedPart(r *Report) (part, bool) {
	if r.Original == nil {
		return part{}, false
	}
	limit := r.ReturnMax
	if limit == 0 {
		limit = ReturnMax
	}
	if r.Return != smtp.RetFull || !anyFailed(r.Recipients) {
		limit = 0
	}
	raw, err := io.ReadAll(io.LimitReader(r.Original, max(limit, HeaderMax)+1))
	if err == nil && int64(len(raw)) <= limit {
		if p, ok := fullPart(raw, r); ok {
			return p, true
		}
	}
	head, _ := message.Header(bytes.NewReader(raw), HeaderMax) // memory can be read
	if err != nil {
		if head = head[:bytes.LastIndexByte(head, '\n')+1]; len(head) == 0 {
			return part{}, false
		}
	}
	p := part{title: "Header of the message", kind: "text/rfc822-headers", body: head}
	if r.UTF8 && !isASCII(string(head)) {
		p.kind = "message/global-headers"
	}
	switch shape := shapeOf(head); {
	case shape == shape8Bit && r.global():
		p.encoding = "8bit"
	case shape != shape7Bit:
		// RFC 6522 4: they "MAY be encoded with quoted-printable".
		p.encoding, p.body = "quoted-printable", quoted(head)
	}
	return p, true
}

// fullPart returns a whole message. RFC 2046 5.2.1 leaves message/rfc822 no
// encoding but 7bit and 8bit, so one whose lines cannot be sent as they are is
// not returned in full. RFC 6533 4.5: an SMTPUTF8 message is encoded where the way
// back may not speak SMTPUTF8.
func fullPart(raw []byte, r *Report) (part, bool) {
	p := part{title: "The message", kind: "message/rfc822", body: raw}
	shape := shapeOf(raw)
	switch {
	case shape == shapeBinary:
		return part{}, false
	case shape == shape8Bit && r.UTF8 && r.global():
		p.kind, p.encoding = "message/global", "8bit"
	case shape == shape8Bit && r.UTF8:
		p.kind, p.encoding, p.body = "message/global", "quoted-printable", quoted(raw)
	case shape == shape8Bit:
		p.encoding = "8bit"
	}
	return p, true
}

func anyFailed(rcpts []Recipient) bool {
	for i := range rcpts {
		if rcpts[i].Action == Failed {
			return true
		}
	}
	return false
}

// The shapes that content has for transport (RFC 2045 2.7 to 2.9).
const (
	shape7Bit = iota
	shape8Bit
	shapeBinary
)

func shapeOf(b []byte) int {
	shape, width := shape7Bit, 0
	for i, c := range b {
		switch {
		case c == '\n':
			if i == 0 || b[i-1] != '\r' {
				return shapeBinary
			}
			width = 0
			continue
		case c == 0, i > 0 && b[i-1] == '\r':
			return shapeBinary
		case c >= 0x80:
			shape = shape8Bit
		}
		if width++; width > smtp.TextMax-1 { // the CR is counted, the LF is not
			return shapeBinary
		}
	}
	if len(b) > 0 && b[len(b)-1] == '\r' || width > smtp.TextMax-2 { // a last line without an end gets one behind it
		return shapeBinary
	}
	return shape
}

func date(t time.Time) string { return string(message.AppendDate(nil, t)) }

func quoted(raw []byte) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	w.Write(raw) // to memory: cannot fail
	w.Close()
	return b.Bytes()
}

package dsn

import (
	"strconv"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// wordsMax is how many recipients of each kind the words name; the part for
// programs has them all.
const wordsMax = 100

// wordWidth is the width of the lines for people.
const wordWidth = 72

// subject says in a few words what the report is about.
func subject(rcpts []Recipient) string {
	n := counts(rcpts)
	switch {
	case n[Failed] == len(rcpts):
		return "Undelivered mail"
	case n[Failed] > 0:
		return "Undelivered mail, for some of its recipients"
	case n[Delayed] > 0:
		return "Delayed mail, still being tried"
	case n[late] > 0:
		return "Mail that came late"
	case n[Delivered] == 0:
		return "Mail that was passed on"
	}
	return "Delivered mail"
}

// late is what the words call a Delayed that is Late.
const late Action = "late"

func kindOf(r *Recipient) Action {
	if r.Action == Delayed && r.Late {
		return late
	}
	return r.Action
}

func counts(rcpts []Recipient) map[Action]int {
	n := make(map[Action]int)
	for i := range rcpts {
		n[kindOf(&rcpts[i])]++
	}
	return n
}

// wordsPart is the part for people: what happened, to whom, in whose words, and
// what the sender can do.
func wordsPart(r *Report) part {
	var b strings.Builder
	wrap(&b, "", "This is the mail system at "+printable(r.ReportingMTA)+".")
	n := counts(r.Recipients)
	for _, a := range []Action{Failed, Delayed, late, Delivered, Relayed, Expanded} {
		if n[a] == 0 {
			continue
		}
		b.WriteString("\r\n")
		wrap(&b, "", opening(a, r))
		group(&b, a, n[a], r.Recipients)
	}
	if n[Failed] > 0 {
		b.WriteString("\r\n")
		wrap(&b, "", "If the reason is not clear, forward this report to postmaster@"+
			printable(r.ReportingMTA)+". Its parts below hold what a mail administrator needs.")
	}
	p := part{title: "Notification", kind: "text/plain; charset=us-ascii", body: []byte(b.String())}
	if !isASCII(b.String()) {
		p.kind, p.encoding, p.body = "text/plain; charset=utf-8", "quoted-printable", quoted(p.body)
	}
	return p
}

// opening is the sentence over the recipients of one kind.
func opening(a Action, r *Report) string {
	yours := "Your message"
	if !r.Arrived.IsZero() {
		yours += " of " + date(r.Arrived)
	}
	switch a {
	case Failed:
		return yours + " could not be delivered to the recipients below, and is not tried again for them."
	case Delayed:
		return yours + " has not been delivered yet to the recipients below. It is still being tried." +
			" You need not send it again."
	case late:
		return yours + " was delivered to the recipients below, or passed on for them, later than you had asked for. You need not send it again."
	case Delivered:
		return yours + " was delivered to the recipients below, as you asked to be told."
	case Expanded:
		return yours + " was passed on to all whom the addresses below stand for. What becomes of it there is told only where it fails."
	}
	return yours + " was passed on for the recipients below, to mail systems that send no report of their own."
}

// group names the n recipients of one kind.
func group(b *strings.Builder, a Action, n int, rcpts []Recipient) {
	named := 0
	for i := range rcpts {
		r := &rcpts[i]
		if kindOf(r) != a {
			continue
		}
		if named == wordsMax {
			b.WriteString("\r\n")
			wrap(b, "  ", "and "+strconv.Itoa(n-named)+" more, named in the next part.")
			return
		}
		named++
		b.WriteString("\r\n")
		address(b, r.Final)
		said(b, r)
		if a == Delayed && !r.WillRetryUntil.IsZero() {
			wrap(b, "      ", "It is tried until "+date(r.WillRetryUntil)+".")
		}
		if a == Failed {
			if s := advice(r.status()); s != "" {
				wrap(b, "      ", s)
			}
		}
	}
}

// address writes a recipient on a line of its own, as it is; one that no line can
// hold, which no command brought, is broken.
func address(b *strings.Builder, p smtp.Path) {
	const indent = "  "
	a := "<" + printable(p.String()) + ">"
	if len(a) > lineMax-len(indent) {
		wrap(b, indent, a)
		return
	}
	b.WriteString(indent + a + "\r\n")
}

// said repeats the last answer, word for word.
func said(b *strings.Builder, r *Recipient) {
	if r.Diagnostic.IsZero() || r.Action == Delivered || r.Action == Expanded {
		return
	}
	who := "We say:"
	if r.RemoteMTA != "" {
		who = "The mail server " + printable(r.RemoteMTA) + " said:"
	}
	wrap(b, "      ", who)
	for _, l := range replyLines(r.Diagnostic) {
		wrap(b, "        ", l)
	}
}

// advice is what the sender can do about a status (RFC 3463 3).
func advice(s smtp.Status) string {
	switch {
	case s.Subject == 1 && s.Detail == 10:
		return "The domain takes no mail at all."
	case s.Subject == 1:
		return "Please look for a mistake in the address."
	case s.Subject == 2 && s.Detail == 2:
		return "The mailbox is full. Please try again later, or reach the recipient in another way."
	case s.Subject == 2 && s.Detail == 3, s.Subject == 3 && s.Detail == 4:
		return "The message is too large there. Please send a smaller one."
	case s.Subject == 4 && s.Detail == 7:
		return "It was tried until its time was over. Please send it again later."
	case s.Subject == 4 && s.Detail == 6:
		return "The message went in a circle. A mail administrator has to correct that."
	case s.Subject == 7:
		return "The rules of the receiving side refused it. Its postmaster can say why."
	}
	return ""
}

// wrap writes text in lines of wordWidth, indented. Words are not broken, but
// for those that no line can hold.
func wrap(b *strings.Builder, indent, text string) {
	line := indent
	for _, w := range strings.Fields(text) {
		for len(w) > lineMax-len(indent) {
			cut := len(strings.ToValidUTF8(w[:lineMax-len(indent)], ""))
			if line != indent {
				b.WriteString(line + "\r\n")
			}
			b.WriteString(indent + w[:cut] + "\r\n")
			line, w = indent, w[cut:]
		}
		if line != indent && len(line)+1+len(w) > wordWidth {
			b.WriteString(line + "\r\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += w
	}
	b.WriteString(line + "\r\n")
}

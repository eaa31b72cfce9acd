package policy

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

// Recipient refuses recipients that cannot be delivered to, while the client
// still waits, so that no report goes to a sender that may be forged: those of
// our domains that do not exist, and those whose domain DNS could never hold.
// The others it takes with 250 2.1.5. A recipient with another address is told in
// the words of its Resolution: 251, or 551.
type Recipient struct{}

// Check implements postrider.Check, for the phase of RCPT.
//
// RFC 5321 3.3: "If the recipient is known not to be a deliverable address, the
// SMTP server returns a 550 reply".
func (Recipient) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	told, known := tx.Resolution.Reply, !tx.Resolution.Reply.IsZero()
	switch tx.Resolution.Kind {
	case postrider.KindMailbox, postrider.KindAlias:
		if known && sayable(told, tx) && told.Positive() {
			return postrider.Verdict{Reply: told}
		}
		return accept(1, 5, "Recipient OK")
	case postrider.KindRemote:
		if !namesHost(tx.To.Domain) {
			return refuse(550, 5, 1, 2, "No such domain can exist")
		}
		return accept(1, 5, "Recipient OK, will be relayed")
	}
	switch {
	case !known || !told.Permanent():
		return refuse(550, 5, 1, 1, "No such user here")
	case !sayable(told, tx):
		return refuse(550, 5, 6, 8, "User not local; the new address is beyond ASCII, and is told where MAIL has SMTPUTF8")
	}
	return postrider.Verdict{Refuse: true, Reply: told}
}

// sayable reports whether a reply may go to the client. RFC 6531 3.7.4.1: to one
// that sent no SMTPUTF8 the server "MUST NOT return a 251 or 551 response
// containing a non-ASCII mailbox. Instead, it MUST transform such responses into
// 250 or 550 responses".
func sayable(r smtp.Reply, tx *postrider.Transaction) bool {
	return tx.Params.UTF8 || !strings.ContainsFunc(r.Text, func(c rune) bool { return c >= utf8.RuneSelf })
}

// namesHost reports whether a domain is an address literal, or one that DNS can
// hold.
func namesHost(domain string) bool {
	if smtp.IsLiteral(domain) {
		return true
	}
	_, err := dns.ToASCII(domain)
	return err == nil
}

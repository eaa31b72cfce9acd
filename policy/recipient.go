package policy

import (
	"context"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtp"
)

// Recipient refuses recipients that cannot be delivered to, while the client
// still waits, so that no report goes to a sender that may be forged: those of
// our domains that do not exist, and those whose domain DNS could never hold.
// The others it takes with 250 2.1.5.
type Recipient struct{}

// Check implements postrider.Check, for the phase of RCPT.
//
// RFC 5321 3.3: "If the recipient is known not to be a deliverable address, the
// SMTP server returns a 550 reply".
func (Recipient) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	switch tx.Resolution.Kind {
	case postrider.KindMailbox, postrider.KindAlias:
		return accept(1, 5, "Recipient OK")
	case postrider.KindRemote:
		if !namesHost(tx.To.Domain) {
			return refuse(550, 5, 1, 2, "No such domain can exist")
		}
		return accept(1, 5, "Recipient OK, will be relayed")
	}
	return refuse(550, 5, 1, 1, "No such user here")
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

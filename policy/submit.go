package policy

import (
	"context"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Authenticated refuses everything of a client that has not authenticated.
//
// RFC 6409 4.3: "The MSA MUST, by default, issue an error response to the MAIL
// command if the session has not been authenticated". RFC 4954 6 has the code.
type Authenticated struct{}

// Check implements postrider.Check, for every phase.
func (Authenticated) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	switch {
	case tx.Submitter != nil:
		return postrider.Verdict{}
	case tx.Source.TLS == "":
		return refuse(530, 5, 7, 0, "Authentication required: STARTTLS first, then AUTH")
	}
	return refuse(530, 5, 7, 0, "Authentication required")
}

// SendAs refuses a client that has authenticated a reverse-path that is neither
// its own nor given to it (RFC 6409 6.1). It has no opinion of who has not.
//
// The null reverse-path is everyone's, for users send disposition notifications
// (RFC 8098 3). RFC 6409 3.2: it "is permitted and MUST NOT, in itself, be cause
// for rejecting a message."
type SendAs struct{}

// Check implements postrider.Check, for the phase of MAIL.
func (SendAs) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	switch {
	case tx.Submitter == nil, tx.From.IsNull(), tx.Submitter.MaySend(tx.From):
		return postrider.Verdict{}
	case !qualified(tx.From.Domain):
		return refuse(554, 5, 1, 8, "The sender needs a fully qualified domain")
	}
	return refuse(550, 5, 7, 1, "Account "+tx.Submitter.Name()+
		" may not send as this address: the operator allows it with --send-as")
}

// Qualified refuses recipients in a domain of one label, such as "sales", unless
// it is ours. RFC 6409 4.2: "The MSA MUST ensure that all domains in the SMTP
// envelope are fully qualified", and "554 is to be used".
type Qualified struct{}

// Check implements postrider.Check, for the phase of RCPT.
func (Qualified) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	if tx.Resolution.Kind == postrider.KindRemote && !qualified(tx.To.Domain) {
		return refuse(554, 5, 1, 2, "The recipient needs a fully qualified domain")
	}
	return postrider.Verdict{}
}

// qualified reports whether a domain is an address literal, or has more than one
// label.
func qualified(domain string) bool {
	return smtp.IsLiteral(domain) || strings.Contains(strings.Trim(domain, "."), ".")
}

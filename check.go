package postrider

import (
	"context"

	"github.com/postrider/postrider/smtp"
)

// A Check looks at a transaction so far and may object. The checks of a phase
// run in order until one has an opinion.
type Check interface {
	Check(ctx context.Context, tx *Transaction) Verdict
}

// A Verdict is the opinion of a check. The zero Verdict has none, and the
// transaction goes on.
type Verdict struct {
	// Refuse ends this command with Reply; a zero Reply is 451 4.3.0.
	Refuse bool
	// Reply without Refuse, if it is positive, is what the command is answered
	// when no later check refuses.
	Reply smtp.Reply
}

// A Transaction is what is known of a message on its way in, at the phase that
// a check runs in.
type Transaction struct {
	Source    Source
	Submitter Submitter // who the client has authenticated as; nil: it has not
	From      smtp.Path
	Params    smtp.MailParams
	Accepted  int // recipients taken so far
	// In the phase of RCPT: the recipient in question.
	To         smtp.Path
	RcptParams smtp.RcptParams
	Resolution Resolution
	// In the phase of DATA, after the last octet.
	Size int64
	Hops int // Received fields in the header section
}

// A Submitter is who a client has authenticated as.
type Submitter interface {
	Name() string                // of the account, for Source.Account
	MaySend(from smtp.Path) bool // whether its mail may have this reverse-path
}

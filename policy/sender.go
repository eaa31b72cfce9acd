package policy

import (
	"context"

	"github.com/postrider/postrider"
)

// Sender refuses a reverse-path whose domain DNS could never hold: no report
// could go there. The null reverse-path is always taken (RFC 5321 4.5.5).
type Sender struct{}

// Check implements postrider.Check, for the phase of MAIL.
func (Sender) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	if tx.From.Domain != "" && !namesHost(tx.From.Domain) {
		return refuse(550, 5, 1, 8, "No such sender domain can exist")
	}
	return accept(1, 0, "Sender OK")
}

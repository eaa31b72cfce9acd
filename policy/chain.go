// Package policy holds the checks that decide what mail we take, one file each,
// and the order in which they run. What RCPT is answered is decided here.
package policy

import (
	"context"
	"net/netip"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Chains are the checks of each phase: of a transaction, and before and beside it.
type Chains struct {
	Open Chain // before the greeting, where a refusal takes its place
	Ask  Chain // whether VRFY and EXPN may be answered; the words of a refusal are not said
	Mail Chain
	Rcpt Chain
	Data Chain
}

// A Role is what a listener is for.
type Role string

// The roles of a listener. The empty Role is RoleMX.
const (
	RoleMX         Role = "mx"         // anyone hands in mail for our domains
	RoleSubmission Role = "submission" // users hand in mail for anyone, after AUTH (RFC 6409)
	RoleLMTP       Role = "lmtp"       // another server hands in mail for our domains (RFC 2033)
)

// Options are the options of Standard.
type Options struct {
	Role Role // of the listener
	// RelayFrom are the client networks that may send to domains that are not
	// ours without having authenticated. None: nobody may. Only RoleMX has it.
	RelayFrom []netip.Prefix
	// Refuse are the client networks that are not served at all.
	Refuse []netip.Prefix
	// Verify says who gets answers to VRFY and EXPN.
	Verify Who
	// Waiting returns how many recipients wait in the spool, and MaxWaiting is how
	// many may. Nil, or zero: no limit.
	Waiting    func() int
	MaxWaiting int
}

// Standard returns the checks of a listener in their order.
func Standard(o Options) Chains {
	full := Full{Waiting: o.Waiting, Max: o.MaxWaiting}
	open, ask := Chain{Refuse{Networks: o.Refuse, Submission: o.Role == RoleSubmission}}, Chain{Ask{Who: o.Verify, From: o.RelayFrom}}
	switch o.Role {
	case RoleSubmission:
		return Chains{
			Open: open, Ask: ask,
			Mail: Chain{Authenticated{}, SendAs{}, Sender{}, full},
			Rcpt: Chain{Authenticated{}, Relay{}, Qualified{}, Recipient{}},
			Data: Chain{Authenticated{}, Loop{}},
		}
	case RoleLMTP:
		return Chains{
			Open: open, Ask: ask,
			Mail: Chain{Sender{}, full},
			Rcpt: Chain{Local{}, Recipient{}},
			Data: Chain{Loop{}},
		}
	}
	return Chains{
		Open: open, Ask: ask,
		Mail: Chain{SendAs{}, Sender{}, full},
		Rcpt: Chain{Relay{From: o.RelayFrom}, Recipient{}},
		Data: Chain{Loop{}},
	}
}

// A Chain is checks in order, and is a check itself: the first that refuses
// decides. Where none does, the last positive reply stands, and only that.
type Chain []postrider.Check

// Check implements postrider.Check. A refusal with a reply that would accept is
// answered with the zero reply: the client comes again.
func (c Chain) Check(ctx context.Context, tx *postrider.Transaction) postrider.Verdict {
	var said postrider.Verdict
	for _, check := range c {
		v := check.Check(ctx, tx)
		if v.Refuse {
			if v.Reply.Positive() || v.Reply.Intermediate() {
				v.Reply = smtp.Reply{}
			}
			return v
		}
		if v.Reply.Positive() {
			said.Reply = v.Reply
		}
	}
	return said
}

// refuse returns the verdict that ends a command with a reply of ours.
func refuse(code int, class uint8, subject, detail uint16, text string) postrider.Verdict {
	return postrider.Verdict{Refuse: true,
		Reply: smtp.Reply{Code: code, Status: smtp.Status{Class: class, Subject: subject, Detail: detail}, Text: text}}
}

// accept returns the verdict that lets a command pass with a reply of ours.
func accept(subject, detail uint16, text string) postrider.Verdict {
	return postrider.Verdict{Reply: smtp.Reply{Code: 250, Status: smtp.Status{Class: 2, Subject: subject, Detail: detail}, Text: text}}
}

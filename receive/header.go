package receive

import (
	"context"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/message"
	"github.com/postrider/postrider/smtp"
)

// addresses is who looks at the address fields of what a user submits. Nil: nobody,
// for others hand in what they were given, and programs of this machine write names of
// it, such as "From: root".
//
// RFC 6409 4.2: the MSA "MUST ensure that all domains in address header fields are
// fully qualified." A domain of one label is, if it is ours. Nothing is added to one:
// 8 warns that "appending a domain to an address or element that lacks one
// typically results in more broken addresses."
func (s *session) addresses(ctx context.Context, t *transaction) *message.Addresses {
	if !s.o.Submission || s.o.Local != "" {
		return nil
	}
	ours := func(domain string) bool {
		res, err := s.o.Router.Resolve(ctx, smtp.Path{Local: "postmaster", Domain: domain}, t.source)
		return err != nil || res.Kind != postrider.KindRemote // who cannot be asked has no opinion
	}
	return &message.Addresses{UTF8: t.params.UTF8, Domain: func(domain string) bool {
		return strings.ContainsAny(domain, ".[") || ours(domain)
	}}
}

// misaddressed answers for a content with a fault in an address field, or is the zero
// Reply. RFC 6409 6.3: "Reply code 554 is used for syntactic problems in the data."
func misaddressed(a *message.Addresses) smtp.Reply {
	if a == nil {
		return smtp.Reply{}
	}
	err := a.End()
	if err == nil {
		return smtp.Reply{}
	}
	return smtp.Reply{Code: 554, Status: smtp.Status{Class: 5, Subject: 6, Detail: 0}, Text: "The header is wrong: " + err.Error()}
}

// originator appends who a message is from, where it does not say. RFC 5322 3.6: "The
// only required header fields are the origination date field and the originator
// address field(s)." 3.6.2: where From holds more than one mailbox, "then the sender
// field [...] MUST appear in the message".
func (s *session) originator(head []byte, t *transaction, scan *message.Scanner) []byte {
	from := t.from
	if from.IsNull() && s.submitter != nil {
		from, _ = smtp.ParsePath(s.submitter.Name())
	}
	a := scan.Addresses
	switch {
	case from.Domain == "":
	case !scan.HasFrom():
		head = append(head, "From: <"+from.String()+">\r\n"...)
	case a != nil && a.Authors() > 1 && a.Senders() == 0:
		head = append(head, "Sender: <"+from.String()+">\r\n"...)
	}
	return head
}

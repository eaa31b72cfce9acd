package message

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Addresses checks the address fields of a header section as they stream by a
// Scanner that has it: From, Sender, Reply-To, To, Cc and their Resent- forms
// (RFC 5322 3.6.2, 3.6.3, 3.6.6). It keeps nothing but the first fault.
//
// It takes the obsolete forms of RFC 5322 4.4 too, and what mail programs are
// known to send: lists with nothing between commas, fields with nothing in them, a
// group that nobody has closed and nobody is in, and any octets but line ends in
// what is for people to read, such as an address as a name before an address.
type Addresses struct {
	// UTF8: addresses may be beyond ASCII (RFC 6532 3.2).
	UTF8 bool
	// Domain reports whether a domain will do, as it stands or in its square brackets.
	// It is asked for each address. Nil: every one will.
	Domain func(domain string) bool

	field     string // in hand; empty: none that is looked at
	list      addressList
	authors   int
	senders   int
	fromGiven bool
	err       *AddressError
}

// An AddressError is what is wrong with an address field.
type AddressError struct {
	Field  string // its name
	Near   string // the beginning of the address that is wrong: printable ASCII, of at most 60 octets
	Reason string
}

func (e *AddressError) Error() string {
	if e.Near == "" {
		return e.Field + ": " + e.Reason
	}
	return fmt.Sprintf("%s: %s: %s", e.Field, e.Near, e.Reason)
}

// addressFields are the names of the fields, by themselves in lower case.
var addressFields = map[string]string{
	"from": "From", "sender": "Sender", "reply-to": "Reply-To", "to": "To", "cc": "Cc",
	"resent-from": "Resent-From", "resent-sender": "Resent-Sender", "resent-to": "Resent-To", "resent-cc": "Resent-Cc",
}

// End returns the first fault, an *AddressError, when the content has come to its
// end, or else nil.
func (a *Addresses) End() error {
	a.begin("")
	if a.err != nil {
		return a.err
	}
	return nil
}

// Authors is how many mailboxes From holds; a group counts as one more. Senders is
// the same of Sender.
func (a *Addresses) Authors() int { return a.authors }
func (a *Addresses) Senders() int { return a.senders }

// begin ends the field in hand, and begins one with a name in lower case.
func (a *Addresses) begin(name string) {
	if a.field != "" {
		a.end()
	}
	a.field = ""
	if a.err != nil {
		return
	}
	a.field = addressFields[name]
	a.list = addressList{of: a, domain: a.list.domain[:0], near: a.list.near[:0]}
	if a.field == "From" {
		// RFC 5322 3.6: From must be there, "1" time at most.
		if a.fromGiven {
			a.fault("there is a second field of this name")
		}
		a.fromGiven = true
	}
}

// text takes octets of the value of the field in hand.
func (a *Addresses) text(p []byte) {
	if a.field == "" {
		return
	}
	for _, c := range p {
		if reason := a.list.octet(c); reason != "" {
			a.fault(reason)
			return
		}
	}
}

// end ends the field in hand.
func (a *Addresses) end() {
	reason, count := a.list.end(), a.list.mailboxes+a.list.groups
	switch {
	case reason != "":
	case a.field == "From":
		a.authors = count
		if count == 0 {
			reason = "there is no address"
		}
	case a.field == "Sender":
		a.senders = count
		if count > 1 {
			reason = "there is more than one address"
		}
	}
	if reason != "" {
		a.fault(reason)
	}
}

func (a *Addresses) fault(reason string) {
	a.err = &AddressError{Field: a.field, Near: strings.TrimRight(string(a.list.near), " ,;"), Reason: reason}
	a.field = ""
}

// domain is what is wrong with a domain, or "".
func (a *Addresses) domain(d []byte, eightBit bool) string {
	switch {
	case eightBit && !a.UTF8:
		return "it is not ASCII, which needs SMTPUTF8"
	case !utf8.Valid(d):
		return "its domain is not UTF-8"
	case a.Domain != nil && !a.Domain(string(d)):
		return "its domain is not fully qualified"
	}
	return ""
}

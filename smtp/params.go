package smtp

import (
	"strings"
	"time"
)

// Ret is the RET parameter of MAIL (RFC 3461 4.3): how much of the message a
// report of failure returns.
type Ret uint8

// The values of RET. The zero Ret was not given: we return the header.
const (
	RetUnset Ret = iota
	RetFull
	RetHeaders
)

// Notify is the NOTIFY parameter of RCPT (RFC 3461 4.1), a set. The zero Notify
// was not given; RFC 3461 4.1: it then is "treated as if" FAILURE, and DELAY by
// the server's choice.
type Notify uint8

// The elements of NOTIFY. NotifyNever stands alone.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// A BodyType is the BODY parameter of MAIL (RFC 6152 3, RFC 3030 3).
type BodyType string

// The values of BODY. The empty BodyType was not given.
const (
	Body7Bit       BodyType = "7BIT"
	Body8BitMIME   BodyType = "8BITMIME"
	BodyBinaryMIME BodyType = "BINARYMIME"
)

// MailParams are the parameters of MAIL. The zero value has none.
type MailParams struct {
	Size  int64 // SIZE= (RFC 1870); 0: not given
	Body  BodyType
	UTF8  bool // SMTPUTF8 (RFC 6531)
	Ret   Ret
	EnvID string // ENVID=, xtext decoded
	// Auth is AUTH= (RFC 4954 5), xtext decoded: who has submitted the message, a
	// mailbox; "<>": nobody knows, or it is not for us to say. Empty: not given.
	Auth string
	By   DeliverBy
	Hold Hold
	// Priority is MT-PRIORITY= (RFC 6710), -9 to 9, higher sooner. 0: not given, or
	// given as 0, which is the same.
	Priority int8
	// Solicit is SOLICIT= (RFC 3865 2.3): solicitation class keywords, separated by
	// commas, as they came. Empty: not given.
	Solicit string
}

// A DeliverBy is the BY parameter of MAIL (RFC 2852 4). The zero value was not
// given.
type DeliverBy struct {
	Seconds int32 // within so many from now; with ByNotify it may be over, and negative
	Mode    ByMode
	Trace   bool // T: the sender wants to be told of each relay
}

// A ByMode says what happens when the time of a DeliverBy is over. The zero
// ByMode: none was given.
type ByMode byte

// The modes of BY.
const (
	ByNotify ByMode = 'N' // the sender is told, and delivery goes on
	ByReturn ByMode = 'R' // the message is returned
)

// A Hold is HOLDFOR= or HOLDUNTIL= of MAIL (RFC 4865 4). The zero value: neither
// was given.
type Hold struct {
	For   time.Duration // whole seconds
	Until time.Time     // in UTC; of Hold one is given at most
}

// RcptParams are the parameters of RCPT. The zero value has none.
type RcptParams struct {
	Notify Notify
	ORcpt  string // ORCPT= as it came, "type;xtext"
	RRVS   RRVS
}

// An RRVS is the parameter of RCPT that says since when a mailbox must have
// been its owner's (RFC 7293 3.1). The zero value was not given.
type RRVS struct {
	Since time.Time
	// Continue: C, the message goes on to a server without the extension all the
	// same. False is R: it does not.
	Continue bool
}

// String returns "FULL", "HDRS", or the empty string for RetUnset.
func (r Ret) String() string {
	switch r {
	case RetFull:
		return "FULL"
	case RetHeaders:
		return "HDRS"
	}
	return ""
}

// ParseRet reads the value of RET=, in any case.
func ParseRet(s string) (Ret, bool) {
	switch {
	case strings.EqualFold(s, "FULL"):
		return RetFull, true
	case strings.EqualFold(s, "HDRS"):
		return RetHeaders, true
	}
	return RetUnset, false
}

// notifyWords are the elements of NOTIFY in the order that they are written in.
var notifyWords = [...]struct {
	bit  Notify
	word string
}{
	{NotifyNever, "NEVER"},
	{NotifySuccess, "SUCCESS"},
	{NotifyFailure, "FAILURE"},
	{NotifyDelay, "DELAY"},
}

// String returns the value of NOTIFY=; it is empty for the zero Notify.
func (n Notify) String() string {
	var words []string
	for _, w := range notifyWords {
		if n&w.bit != 0 {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ",")
}

// ParseNotify reads the value of NOTIFY=. RFC 3461 4.1: "the NEVER keyword MUST
// appear by itself", and the words "may be spelled in any combination of upper
// and lower case letters".
func ParseNotify(s string) (Notify, bool) {
	var n Notify
	for word := range strings.SplitSeq(s, ",") {
		var bit Notify
		for _, w := range notifyWords {
			if strings.EqualFold(word, w.word) {
				bit = w.bit
			}
		}
		if bit == 0 {
			return 0, false
		}
		n |= bit
	}
	if n&NotifyNever != 0 && !strings.EqualFold(s, "NEVER") {
		return 0, false
	}
	return n, true
}

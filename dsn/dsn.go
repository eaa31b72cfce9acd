// Package dsn writes and reads delivery status notifications: the
// multipart/report of RFC 6522 with the message/delivery-status of RFC 3464, as
// RFC 3461 6 asks an SMTP server to fill it. It knows nothing of queues: who is
// owed a report, and when, is decided by who calls it.
package dsn

import (
	"io"
	"time"

	"github.com/postrider/postrider/smtp"
)

// ReturnMax is the octets of an original message up to which RET=FULL is
// honoured, where Report.ReturnMax does not say. RFC 3461 6.2: "if the length of
// the message is greater than some implementation-specified length, the MTA MAY
// return only the headers even if the RET parameter specified FULL".
const ReturnMax = 256 << 10

// HeaderMax is the octets of an original header section that a report returns;
// of what is longer the first fields go back.
const HeaderMax = 64 << 10

// An Action is what was done for a recipient (RFC 3464 2.3.3).
type Action string

// The actions. Expanded is what an alias is that stands for several addresses, to
// which the message went on; what became of it there is told of them alone
// (RFC 3461 5.2.7.3).
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed"
	Expanded  Action = "expanded"
)

// A Report is what a notification tells about one message. Two calls of Compose
// with the same Report write the same octets.
type Report struct {
	// ID is unique among all that ReportingMTA writes, of [0-9a-z]. The
	// Message-ID and the boundary are made from it.
	ID           string
	Now          time.Time
	ReportingMTA string    // our host name
	From         smtp.Path // who answers for us; the null path: postmaster at ReportingMTA
	To           smtp.Path // the reverse-path of the message
	EnvID        string    // ENVID, xtext decoded; empty: not given
	Arrived      time.Time // when we accepted the message; zero: not told
	DeliverBy    time.Time // by when it was to be delivered (RFC 2852 5); zero: nobody said
	// Hold is what was asked for with it, HOLDFOR= or HOLDUNTIL= (RFC 4865 5.1.2).
	Hold       smtp.Hold
	Recipients []Recipient

	// Return is the RET of the message. FULL is honoured where a recipient
	// failed; else only the header goes back (RFC 3461 6.2).
	Return    smtp.Ret
	ReturnMax int64     // octets; 0: the constant ReturnMax
	Original  io.Reader // the message as accepted; nil: nothing is returned
	UTF8      bool      // the message was sent with SMTPUTF8 (RFC 6533 4)
}

// A Recipient is one group of per-recipient fields (RFC 3464 2.3).
type Recipient struct {
	Final  smtp.Path
	ORcpt  string // ORCPT as received, "type;xtext"; empty: not given
	Action Action
	// Status is the code of RFC 3463; zero: that of Diagnostic, or else the
	// class that Diagnostic or Action has, as in 5.0.0 (RFC 3461 6.3).
	Status         smtp.Status
	RemoteMTA      string     // who said Diagnostic; empty: we did
	Diagnostic     smtp.Reply // zero: there is none
	LastAttempt    time.Time  // zero: not told
	WillRetryUntil time.Time  // of Delayed; zero: not told
	Late           bool       // of Delayed: it has come through since (RFC 2852 4.1.3)
}

// A Message is a report as it goes out.
type Message struct {
	Content  []byte // header and body, lines ended by CRLF
	EightBit bool   // Content holds octets over 127
	UTF8     bool   // its header does: it needs SMTPUTF8 (RFC 6531), and is in the form of RFC 6533
}

// A Notice is a report as it was read.
type Notice struct {
	ReportingMTA string
	EnvID        string
	Arrived      time.Time
	Recipients   []Recipient
	Text         string // the words for people
	Returned     []byte // the returned message or its header; nil: nothing came back
	Full         bool   // Returned is a whole message
}

// Package postrider holds the nouns and the interfaces of the Postrider mail
// server, and no behaviour: what a message, a parcel, a destination and an
// outcome are, and what a spool, a router, a transport and a check promise.
// Every other folder is a protocol library that knows nothing of these, or an
// implementation of a noun that is met here. Package node joins them.
//
// Three rules hold for every type of this package:
//
//   - The zero value loses time, never mail. The zero Outcome is Deferred, the
//     zero Verdict has no opinion, the zero smtp.Reply is 451 4.3.0.
//   - An error says what failed in us, and never decides between 4xx and 5xx.
//     What a peer or a sender must hear is a Reply, a Verdict or an Outcome.
//   - Times are wall clock times. Waiting is the business of package time.
package postrider

import (
	"net/netip"
	"time"

	"github.com/postrider/postrider/smtp"
)

// An ID names a message for ever: 20 characters of [0-9a-z]. IDs made by one
// spool sort in the order of their making.
type ID string

// A Message is what we have answered 250 for: an envelope, a content kept in
// the spool, and a state for each recipient.
type Message struct {
	ID         ID
	From       smtp.Path      // reverse-path; the null path for reports
	EnvID      string         // ENVID= as received, xtext decoded (RFC 3461 4.4)
	Ret        smtp.Ret       // RET= (RFC 3461 4.3)
	UTF8       bool           // SMTPUTF8 was given: needs a next hop that speaks it (RFC 6531 3.4)
	EightBit   bool           // the content holds octets over 127 (RFC 6152)
	Binary     bool           // the content is not in lines: needs a next hop with BINARYMIME (RFC 3030 3)
	By         smtp.DeliverBy // BY=, counted from Arrived (RFC 2852)
	Release    time.Time      // not sent before, and aged from here (RFC 4865); zero: at once
	HoldFor    time.Duration  // of Release: it was given by HOLDFOR=; 0: by HOLDUNTIL=
	Priority   int8           // MT-PRIORITY=, as far as it was allowed (RFC 6710)
	Auth       string         // AUTH=, as far as it was believed (RFC 4954 5)
	Solicit    string         // SOLICIT= (RFC 3865)
	Arrived    time.Time      // when it was committed
	Size       int64          // octets of the content, our own fields included
	HeaderID   string         // Message-ID of the header, without brackets; empty: it has none. For people who search
	Automatic  bool           // the header says that a program or a list has sent it: nobody is told of a delay
	Source     Source
	Recipients []Recipient
}

// A Source says where a message came from.
type Source struct {
	Listener string         // name of the listener; empty for what we made ourselves
	Peer     netip.AddrPort // zero for what we made ourselves
	Hello    string         // the name given in EHLO or HELO
	Protocol string         // the "with" of the Received field: SMTP, ESMTPSA, LMTP, UTF8SMTP, … (RFC 5321 4.4, RFC 3848, RFC 6531 3.7.3)
	Account  string         // who the client has authenticated as; empty: it has not
	TLS      string         // version and cipher suite of the connection; empty: it was in the clear
}

// A Recipient is one forward-path of a message and what became of it.
type Recipient struct {
	To        smtp.Path
	Notify    smtp.Notify // NOTIFY= (RFC 3461 4.1); zero: not given, which means failure and delay
	ORcpt     string      // ORCPT= as received, "type;xtext" (RFC 3461 4.2); empty: not given
	RRVS      smtp.RRVS   // RRVS= (RFC 7293)
	State     State
	Held      bool       // an operator keeps it back: no attempts, no expiry
	Passed    bool       // an operator has let it go past a route that holds (see Route.Past)
	Reported  bool       // settled, and nothing is owed to the sender any more
	Delayed   bool       // the sender has been told once that it is late
	Due       time.Time  // next attempt, while waiting
	Tries     int        // attempts made
	Settled   time.Time  // when it was delivered or failed
	Reply     smtp.Reply // what the last attempt heard, or why we gave up; Code 0: no attempt yet
	Remote    string     // who said so, a host name; empty: we did
	Final     bool       // delivered into a mailbox, and not only to a next hop
	RelayedTo bool       // delivered to a next hop that will answer NOTIFY itself (RFC 3461 5.2.2)
	Expanded  bool       // an alias that stood for several; what it stood for is beside it (RFC 3461 5.2.7.3)
	Uncertain string     // while waiting: the peer that may have the message, and is tried first (RFC 1047)
}

// A State is what has become of a recipient.
type State uint8

// The states of a recipient. The zero State waits.
const (
	Waiting   State = iota // queued or deferred: another attempt will come
	Delivered              // at the next hop or in the mailbox
	Failed                 // given up
)

// String returns "waiting", "delivered" or "failed".
func (s State) String() string {
	switch s {
	case Delivered:
		return "delivered"
	case Failed:
		return "failed"
	}
	return "waiting"
}

// A Dest is the key of the queue that a recipient waits in: the transport and
// the domain, or the smart host. It is a pure function of the configuration and
// the recipient, asks no DNS, and is never stored, so that a changed
// configuration moves queued mail at once.
type Dest string

// DestHold is the destination of held mail: its parcels are never attempted, and do not expire.
const DestHold Dest = "hold"

// Null reports the null reverse-path: nobody reports on a report (RFC 5321 4.5.5).
func (m *Message) Null() bool { return m.From.IsNull() }

package postrider

import (
	"time"

	"github.com/postrider/postrider/smtp"
)

// An Event is one change of fate, as it stands in the log.
type Event struct {
	LSN        uint64 // place in the log
	Time       time.Time
	Kind       EventKind
	ID         ID
	From       smtp.Path
	Size       int64 // of EventAccepted
	Priority   int8  // of EventAccepted (RFC 6710)
	Given, Has int   // of EventAccepted: recipients as they were named, and as aliases have them
	// Of EventAccepted, and of EventRefused as far as it is known.
	Source   Source
	HeaderID string
	Tos      []smtp.Path // recipients, and what they were before an alias
	// Of EventRecipient: one event for each recipient that an attempt touched.
	Rcpt, Tries int
	To          smtp.Path
	Dest        Dest
	State       State
	Next        time.Time // of Waiting: when it is due again
	Reply       smtp.Reply
	Remote      string
	Arrived     time.Time
	Amend       Amend // what was wanted: of EventAmended and EventOrdered, beside Rcpt and To
	Report      ID    // of EventReported: the message that carries the report; empty where none was owed
}

// An EventKind says what happened.
type EventKind uint8

// The kinds of an event.
const (
	EventAccepted  EventKind = iota + 1 // a message became ours
	EventRecipient                      // a recipient was deferred, delivered or failed
	EventReported                       // the sender was told of what failed, was late or was delivered
	EventRemoved                        // every recipient is settled and reported: the spool forgets the message
	EventDamaged                        // recovery set something aside that it could not read
	EventAmended                        // an operator has held, released, bounced, dropped or hurried a recipient
	EventRefused                        // we did not take a login, a recipient or a message; never in the feed of a spool
	EventOrdered                        // to bounce or drop what is under way was ordered: EventAmended follows when it still waits then
)

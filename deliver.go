package postrider

import (
	"context"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A Transport makes one attempt for a parcel and returns one Outcome per recipient of the attempt, in order. It does
// not fail: what stops it is an Outcome. Outcomes that are missing at the end count as the zero Outcome.
type Transport interface {
	Deliver(ctx context.Context, a *Delivery) []Outcome
}

// A Delivery is one attempt at one parcel.
type Delivery struct {
	Message *Message
	Rcpts   []int // indices into Message.Recipients
	Route   Route
	Content Content
	Again   bool            // an earlier attempt may have got through (see Lease)
	Setup   context.Context // for what comes before a dialogue, and ends before ctx where no more is to begin: what has no connection then stays Untried. nil: ctx
}

// An Outcome is what an attempt came to for one recipient. The zero Outcome is Deferred for a reason that nobody knew: it is tried again.
type Outcome struct {
	Result     Result
	Reply      smtp.Reply // the peer's words, or ours where there was no peer
	Remote     string     // host name of the peer; empty: we say so ourselves
	Scope      Scope
	Uncertain  string        // the peer that was sent the content and did not answer: it may have it, and is tried first from now on (RFC 1047)
	Untried    bool          // Deferred, and no attempt was made, as others hold what it needs: it stays as it was
	Rest       time.Duration // of Untried: how long it is not to be tried again; 0: nobody knows
	PeerHasDSN bool          // Delivered to a host that was given NOTIFY: to report a success is its duty (RFC 3461 5.2.2)
	PeerHasBy  bool          // Delivered to a host that was given BY (RFC 2852 4.1.4)
	Final      bool          // Delivered into a mailbox and not only to a next hop (RFC 3461 5.2.7)
}

// A Result is the kind of an Outcome.
type Result uint8

// The results of an attempt. The zero Result is Deferred.
const (
	ResultDeferred Result = iota
	ResultDelivered
	ResultFailed
)

// String returns "deferred", "delivered" or "failed".
func (r Result) String() string {
	switch r {
	case ResultDelivered:
		return "delivered"
	case ResultFailed:
		return "failed"
	}
	return "deferred"
}

// Scope says how much an outcome speaks for.
type Scope uint8

// The scopes of an outcome, from narrow to wide.
const (
	ScopeRecipient Scope = iota // this recipient alone
	ScopeMessage                // every recipient of this message at this destination
	ScopeDest                   // everything that waits for this destination: no host of it could be talked to
)

package postrider

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A Spool keeps messages from our 250 until every recipient is settled and
// reported. What Commit has returned nil for survives what the implementation
// promises. Delivery is at least once, never zero times.
//
// A parcel is the recipients of one message that share a destination and a due
// time: what is claimed, leased, attempted and settled together.
type Spool interface {
	// Create opens a draft: a content that is invisible until it is committed. The empty ID asks for a new one; a report gives the ID it derived.
	Create(ctx context.Context, id ID) (Draft, error)

	// Commit makes all of b durable, or none of it, and returns after that.
	// An error means "not known to be durable": the caller answers 4xx and
	// tries again, never 5xx. ErrLeaseLost and ErrExists mean that nothing of b
	// was done. Cancelling ctx does not take back a batch that is under way.
	Commit(ctx context.Context, b Batch) error

	// Claim waits until a parcel is due or a message wants to be looked at, and
	// leases it; at most maxRcpts recipients of a parcel come at once. Of what is due
	// the earliest comes first, and priority counts as time: ten minutes a step, so
	// that nothing starves (RFC 6710 5). Parcels of paused destinations and of DestHold
	// do not come as Attempt; their messages' Wake does.
	Claim(ctx context.Context, maxRcpts int) (Lease, error)

	// Pause keeps the parcels of a destination back until a time: in memory only, at once, O(log n). The zero time ends the
	// pause. A pause that is over is the same as none.
	Pause(d Dest, until time.Time)

	// Rekey gives every waiting recipient the Dest that key computes, now and for all that is committed later. It is called
	// once before the first Claim, and again when the configuration changes. What leaves DestHold is due now, and looked at.
	Rekey(key func(to smtp.Path) Dest)

	// Open returns a message and its content, pinned until Close.
	Open(ctx context.Context, id ID) (Content, error)

	// Feed yields what was made durable, in the order of the log, to a named
	// reader. To ask for the next event acknowledges the one before. The
	// position of a reader is durable but may lag: after a crash the last
	// events come again. A reader that stops holds back the removal of what it
	// has not read, up to a cap.
	Feed(ctx context.Context, reader string) iter.Seq2[Event, error]

	// Scan yields the messages, oldest first, leased or not; one that cannot be read has its ID alone, and an error.
	Scan(ctx context.Context) iter.Seq2[*Message, error]

	// Close makes durable what was written, and ends every wait with ErrClosed.
	Close(ctx context.Context) error
}

// Errors of a Spool.
var (
	ErrClosed    = errors.New("spool: closed")
	ErrNotFound  = errors.New("spool: no such message")
	ErrExists    = errors.New("spool: a message of this ID exists")
	ErrLeaseLost = errors.New("spool: the lease is no longer held")
	ErrFull      = errors.New("spool: as many recipients wait as may")
)

// A Draft is a content on its way in. Write it, then hand it to Commit in an
// Addition, or Discard it. Discard after a commit does nothing.
type Draft interface {
	io.Writer
	ID() ID
	Size() int64
	Discard()
}

// A Content is a message and the octets that were accepted for it.
type Content interface {
	// Message is the message as it stood when Open was called. It is the caller's own copy.
	Message() *Message
	// Head returns the fields that we put before the content.
	Head() []byte
	// Reader returns a new reader of Head followed by the content. A damaged block is a read error before the last octet, never
	// silence and never wrong octets.
	Reader() io.Reader
	Close() error
}

// A Batch is what must become true together.
type Batch struct {
	Add    []Addition
	Settle []Settlement
	Amend  []Amendment
	// Lazy, only without Add: Commit returns once the batch is written, and it
	// is synced within 50 ms or with the next commit that is not lazy. A killed
	// process loses nothing of it; a power cut may, and repeats an attempt.
	Lazy bool
}

// An Addition is a new message. Message.ID, Arrived and Size are filled in by
// the caller; its recipients are due at their Due, and the message wants to be
// looked at when Wake has come.
type Addition struct {
	Draft   Draft
	Message *Message
	Head    []byte // header fields that go before the content
	Wake    time.Time
}

// Why says what a lease is for.
type Why uint8

// The reasons of a lease.
const (
	// Attempt leases a parcel that is due.
	Attempt Why = iota
	// Wake leases a message that wants to be looked at: its Wake time has come,
	// or something is owed to its sender and no recipient is in, or before, its
	// first attempt any more. It holds all waiting recipients that no other
	// lease holds, and the settled ones that are not reported.
	Wake
)

// A Lease gives its holder, and nobody else, the right to settle its
// recipients. It ends with the Settlement, with the process, or with Close.
type Lease struct {
	ID    ID
	Token uint64 // of this lease alone
	Dest  Dest   // of Attempt
	Why   Why
	Rcpts []int // indices into Message.Recipients, ascending
	// Again is set when an earlier attempt at these recipients may have got through without our knowing: they were tried
	// before, or the spool was opened anew since they were accepted.
	Again bool
}

// A Settlement ends a lease. Recipients of the lease that Changes does not name stay as they are, and are due as they were.
type Settlement struct {
	Lease   Lease
	Changes []Change // those of a Wake lease move no Due
	// Wake is when to look at the message next, and never puts off what was asked for before. A Wake lease uses up its time.
	Wake time.Time
}

// A Change is what became of one recipient.
type Change struct {
	Rcpt      int
	State     State
	Reported  bool
	Delayed   bool
	Due       time.Time // of Waiting
	Tries     int
	Settled   time.Time // of Delivered and Failed
	Reply     smtp.Reply
	Remote    string
	Final     bool
	RelayedTo bool
	Uncertain string // of Waiting
}

// An Amendment is what an operator wants of a message. It needs no lease, and is
// durable when Commit returns. A recipient that is under way is not torn out of
// the hands of its attempt: what was wanted of it holds when the attempt comes
// back without having delivered it.
type Amendment struct {
	ID    ID
	Rcpts []int // indices into Message.Recipients; nil: all. Settled ones stay as they are
	Do    Amend
	Due   time.Time  // of AmendDue
	Reply smtp.Reply // of AmendBounce: what the sender is told
}

// An Amend is a kind of Amendment.
type Amend uint8

// What an operator may want.
const (
	AmendDue     Amend = iota // the next attempt is at Due
	AmendHold                 // no attempt and no expiry until AmendRelease
	AmendRelease              // held no longer, and due now
	AmendBounce               // Failed with Reply: the sender is told
	AmendDrop                 // Failed and Reported: nobody is told
	AmendPass                 // AmendRelease, and past a route that holds: from now on it goes by ViaMX there
)

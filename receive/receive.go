// Package receive takes mail in: it implements smtpd.Handler, finds out who the
// client is, runs the checks of each phase, puts our trace field on top and
// commits the message to the spool. Nothing is answered 250 for content before
// Commit has returned nil. What users submit it also makes presentable.
package receive

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// Options are the options of a Receiver.
type Options struct {
	Spool  postrider.Spool
	Router postrider.Router
	// Open is the check before the greeting: a refusal takes its place. Mail, Rcpt
	// and Data are the checks of each phase. A nil check has no opinion; without one
	// for RCPT no recipient is taken.
	Open postrider.Check
	Mail postrider.Check
	Rcpt postrider.Check
	Data postrider.Check
	// Directory is where names are looked up for VRFY and EXPN, and Ask is the check of
	// who is answered, by Source and Submitter; a client that it refuses hears 252. If
	// either is nil, everybody does.
	Directory Directory
	Ask       postrider.Check
	// Hostname is our name in trace fields, Listener that of the listener.
	Hostname string
	Listener string
	// Accounts knows who may authenticate. Nil: AUTH is not offered. It is offered
	// under TLS only, and never with LMTP. One that is a Prover too has SCRAM, and one
	// that is a Voucher too has what Tokens and ClientCAs are for.
	Accounts Accounts
	// Tokens says whom a token of OAUTHBEARER is for. Nil: nobody's are taken.
	Tokens Tokens
	// ClientCAs are who may sign certificates that clients show, for EXTERNAL. Nil, or
	// nil from it: no certificate says who a client is.
	ClientCAs func() *x509.CertPool
	// Local is who hands in, where that is a program on this machine; it stands in
	// the trace field, and as the account of the Source.
	Local string
	// Submission: the clients are mail programs of users (RFC 6409). A Date, a From and a
	// Message-ID are added where there is none, and a Sender where From holds many; Bcc and
	// Return-Path are taken out; a wrong address in the header refuses the message, unless
	// there is Local. Who may submit is for the checks to say.
	Submission bool
	// Offer is what the sessions promise; see there. FUTURERELEASE is left out of it
	// but where users submit, and ETRN without Turn, or where they do. Nil: nothing.
	Offer func() smtpd.Offer
	// Trusted reports whether a client may relay without AUTH; what it says of mail
	// that it hands on is believed. Nil: none.
	Trusted func(client netip.Addr) bool
	// Future reports whether an account may have another message that waits for its
	// release. Nil: each may.
	Future func(ctx context.Context, account string) (bool, error)
	// Turn begins to send what waits for a domain, or with "@" before it also for those
	// below it, and answers ETRN (RFC 1985 5.1). Nil: ETRN is not offered.
	Turn func(ctx context.Context, node string) smtp.Reply
	// Since says since when a mailbox or alias of ours has had the same owner; zero:
	// nobody knows. Nil: of none.
	Since func(to smtp.Path) time.Time
	// Box is the mailbox that an address of ours is: "user" for "user+tag". Nil: itself.
	Box func(to smtp.Path) smtp.Path
	// Envelopes is what recipients of transactions under way may take of memory; one for
	// all. Nil: there is no bound.
	Envelopes *Envelopes
	// Room reports whether there is room for a message of so many octets; 0: its
	// size is not known. It is asked at MAIL. Nil: there always is.
	Room func(size int64) bool
	// Refused is told of each sender, recipient, message and login that was not
	// taken, in an Event of EventRefused. It must not wait. Of a login From and
	// the account are what the client said it is, where that is an address, the reply
	// is that to AUTH, and there are no recipients. Nil: nobody is told.
	Refused func(postrider.Event)
	// Wake says when the queue wants to look at a new message for the first time.
	// Nil: at once.
	Wake func(m *postrider.Message) time.Time
	Now  func() time.Time // nil: time.Now
	// Alarm is called for what is wrong with us: the sender was answered 4yz for
	// it. Nil: nobody is told.
	Alarm func(error)
}

// A Receiver takes the mail of one listener. It implements smtpd.Handler.
type Receiver struct {
	o Options
}

// New returns a Receiver.
func New(o Options) *Receiver {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Wake == nil {
		o.Wake = func(m *postrider.Message) time.Time { return m.Arrived }
	}
	if o.Room == nil {
		o.Room = func(int64) bool { return true }
	}
	if o.Refused == nil {
		o.Refused = func(postrider.Event) {}
	}
	if o.Alarm == nil {
		o.Alarm = func(error) {}
	}
	return &Receiver{o: o}
}

// Open implements smtpd.Handler: everyone is greeted, but for clients that the
// check of this phase refuses.
func (r *Receiver) Open(ctx context.Context, c smtpd.Client) (smtpd.Session, smtp.Reply) {
	s := &session{o: &r.o, client: c, lmtp: c.LMTP, source: postrider.Source{Listener: r.o.Listener, Peer: c.Peer, Account: r.o.Local}}
	if c.TLS != nil {
		s.suite = tls.CipherSuiteName(c.TLS.CipherSuite)
		s.source.TLS = tls.VersionName(c.TLS.Version) + " " + s.suite
		if r.o.ClientCAs != nil {
			s.named = certificateNames(c.TLS, r.o.ClientCAs(), r.o.Now())
		}
	}
	s.vouched(ctx)
	if v := check(ctx, r.o.Open, &postrider.Transaction{Source: s.source}); v.Refuse {
		s.refused(&transaction{source: s.source}, v.Reply, postrider.Event{})
		return nil, v.Reply.Normal()
	}
	return s, smtp.Reply{}
}

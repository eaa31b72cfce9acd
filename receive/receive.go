// Package receive takes mail in: it implements smtpd.Handler, runs the checks of
// each phase, puts our trace field on top and commits the message to the spool.
// Nothing is answered 250 for content before Commit has returned nil.
package receive

import (
	"context"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// Options are the options of a Receiver.
type Options struct {
	Spool  postrider.Spool
	Router postrider.Router
	// Mail, Rcpt and Data are the checks of each phase. A nil check has no
	// opinion; without one for RCPT no recipient is taken.
	Mail postrider.Check
	Rcpt postrider.Check
	Data postrider.Check
	// Hostname is our name in trace fields, Listener that of the listener.
	Hostname string
	Listener string
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
	if o.Alarm == nil {
		o.Alarm = func(error) {}
	}
	return &Receiver{o: o}
}

// Open implements smtpd.Handler: everyone is greeted.
func (r *Receiver) Open(_ context.Context, c smtpd.Client) (smtpd.Session, smtp.Reply) {
	return &session{o: &r.o, source: postrider.Source{Listener: r.o.Listener, Peer: c.Peer}}, smtp.Reply{}
}

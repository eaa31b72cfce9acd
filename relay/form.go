package relay

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/message"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpc"
)

// A form is how a message goes to one peer.
type form struct {
	path    func(smtp.Path) smtp.Path // how an address is written
	body    smtp.BodyType
	utf8    bool
	size    int64
	content func() io.Reader
	plain   bool // MAIL goes without what only informs
	// lacks is what those get in the end whose address the peer cannot take, where the
	// others of the attempt go without them; Reply zero: there are none.
	lacks postrider.Outcome
}

// takes reports whether a recipient can be named to the peer.
func (f *form) takes(to smtp.Path) bool { return f.lacks.Reply.IsZero() || f.path(to).IsASCII() }

// fit finds the form in which the peer can take the message, and settles recipients
// whom this peer, for good, cannot take it for. No form: it cannot at all, which is
// noted or settled, and next says how to go on.
func (a *attempt) fit(c *smtpc.Conn, t target) (*form, next) {
	if n, ok := a.inTime(c, t); !ok {
		return nil, n
	}
	a.validSince(c, t)
	if len(a.left) == 0 {
		return nil, nextNothing
	}
	f := &form{utf8: a.m.UTF8, size: a.m.Size, content: a.d.Content.Reader, path: asItIs}
	o, ok := a.address8(c, t, f)
	if ok {
		o, ok = a.shape(c, t, f)
	}
	switch {
	case !ok && o.Result == postrider.ResultDeferred:
		a.rest(o)
		return nil, nextNothing
	case !ok:
		a.blocked(rankLacks, o)
		return nil, nextHost
	}
	if limit, ok := sizeLimit(c); ok && f.size > limit {
		// RFC 1870 6.1: what the declared size is too large for is refused at MAIL.
		a.blocked(rankLacks, failed(552, 5, 3, 4, "the message has %d octets, and %s takes no more than %d", f.size, t.host, limit))
		return nil, nextHost
	}
	return f, nextBatch
}

// sizeLimit is the longest message that a peer takes, if it says.
func sizeLimit(c *smtpc.Conn) (int64, bool) {
	params, _ := c.Ext("SIZE")
	limit, ok := smtp.ParseSizeLimit(params)
	return limit, ok && limit > 0
}

// address8 finds whether the message needs SMTPUTF8 of a peer.
//
// RFC 6531 3.2: to one that does not offer it, the client "MUST NOT transmit an
// internationalized email address and MUST NOT transmit a mail message containing
// internationalized mail headers". What was sent with SMTPUTF8 and has neither goes
// without: RFC 6531 3.4, one that is aware of that "SHOULD NOT supply the SMTPUTF8
// parameter". RFC 6531 3.5 has the replies: 550 and 553 with X.6.7, 554 with X.6.9.
func (a *attempt) address8(c *smtpc.Conn, t target, f *form) (postrider.Outcome, bool) {
	if _, ok := c.Ext("SMTPUTF8"); ok {
		f.utf8 = f.utf8 || a.needsUTF8(asItIs)
		return postrider.Outcome{}, true
	}
	f.path = ALabels
	switch {
	case !f.path(a.m.From).IsASCII():
		return failed(550, 5, 6, 7, "the address of the sender needs SMTPUTF8, which %s does not offer", t.host), false
	case a.needsUTF8(f.path):
		f.lacks = failed(553, 5, 6, 7, "an address of the recipients needs SMTPUTF8, which %s does not offer", t.host)
		if !a.anyTaken(f) {
			return f.lacks, false
		}
	}
	if !f.utf8 {
		return postrider.Outcome{}, true
	}
	s, err := a.structure()
	switch {
	case err != nil:
		return unread(err), false
	case s.HeaderEightBit():
		return failed(554, 5, 6, 9, "the header of the message needs SMTPUTF8, which %s does not offer", t.host), false
	}
	f.utf8 = false
	return postrider.Outcome{}, true
}

// anyTaken reports whether one of the recipients that are left can be named to the peer.
func (a *attempt) anyTaken(f *form) bool {
	return slices.ContainsFunc(a.left, func(i int) bool { return f.takes(a.rcpt(i).To) })
}

// needsUTF8 reports whether an address is not ASCII.
func (a *attempt) needsUTF8(path func(smtp.Path) smtp.Path) bool {
	for _, i := range a.left {
		if !path(a.rcpt(i).To).IsASCII() {
			return true
		}
	}
	return !path(a.m.From).IsASCII()
}

func asItIs(p smtp.Path) smtp.Path { return p }

// ALabels is an address with its domain in A-labels, where that makes it ASCII. RFC 6531 3.2: a domain "in
// A-label form as specified in IDNA definitions [...] is not considered to be
// "internationalized"".
func ALabels(p smtp.Path) smtp.Path {
	if plain := (smtp.Path{Local: p.Local}); !p.IsASCII() && plain.IsASCII() {
		if d, err := dns.ToASCII(p.Domain); err == nil {
			p.Domain = d
		}
	}
	return p
}

// shape finds the body that a peer takes, and encodes for one that does not take it
// as it is; unless the route says that such mail is returned.
//
// RFC 6152 3: the client "may implement a gateway transformation to convert the
// message into valid 7-bit MIME, or second, it may treat the barrier to 8-bit as a
// permanent error". RFC 3030 3 says the same of BINARYMIME.
func (a *attempt) shape(c *smtpc.Conn, t target, f *form) (postrider.Outcome, bool) {
	has, need, lacks := message.Shape7Bit, message.Shape7Bit, "8BITMIME"
	_, chunking := c.Ext("CHUNKING")
	if _, ok := c.Ext("8BITMIME"); ok {
		has, lacks = message.Shape8Bit, "BINARYMIME"
	}
	if _, ok := c.Ext("BINARYMIME"); ok && chunking {
		has = message.ShapeBinary
	}
	switch {
	case a.m.Binary:
		need = message.ShapeBinary
	case a.m.EightBit:
		need = message.Shape8Bit
	}
	f.body = bodyOf(need)
	if need <= has {
		return postrider.Outcome{}, true
	}
	if a.d.Route.AsIs {
		return failed(554, 5, 6, 3, "the message needs %s, which %s does not offer, and the route says downgrade = \"bounce\"", lacks, t.host), false
	}
	s, err := a.structure()
	if err != nil {
		return unread(err), false
	}
	switch err := s.Encodable(has); {
	case errors.Is(err, message.ErrSigned):
		return failed(554, 5, 6, 2, "the message needs %s, which %s does not offer: %v", lacks, t.host, err), false
	case err != nil:
		return failed(554, 5, 6, 3, "the message needs %s, which %s does not offer: %v", lacks, t.host, err), false
	}
	f.content = func() io.Reader { return s.Encode(a.d.Content.Reader(), has) }
	f.body = bodyOf(has)
	if f.size, err = io.Copy(io.Discard, f.content()); err != nil {
		return unread(err), false
	}
	return postrider.Outcome{}, true
}

func bodyOf(s message.Shape) smtp.BodyType {
	switch s {
	case message.ShapeBinary:
		return smtp.BodyBinaryMIME
	case message.Shape8Bit:
		return smtp.Body8BitMIME
	}
	return ""
}

// structure looks at the MIME structure of the message, once in an attempt.
func (a *attempt) structure() (*message.Structure, error) {
	if a.mime == nil {
		s, err := message.Survey(a.d.Content.Reader())
		if err != nil {
			return nil, fmt.Errorf("relay: look at the message: %w", err)
		}
		a.mime = s
	}
	return a.mime, nil
}

// unread is the outcome of a message that we cannot read: our own trouble, whoever
// the peer is.
func unread(err error) postrider.Outcome {
	o := deferred(3, 0, "the message cannot be sent: %v", err)
	o.Scope = postrider.ScopeMessage
	return o
}

// by is the BY for the next hop at a time. RFC 2852 4.1.4: "a new BY parameter MUST be
// relayed specifying a by-time value indicating the number of seconds remaining until
// deliver-by-time", which is negative when that has passed.
func (a *attempt) by(now time.Time) smtp.DeliverBy {
	b := a.m.By
	if b.Mode != 0 {
		left := a.m.Arrived.Add(time.Duration(b.Seconds) * time.Second).Sub(now)
		b.Seconds = int32(min(max(math.Floor(left.Seconds()), -byMax), byMax))
	}
	return b
}

// byMax is the most seconds that BY says (RFC 2852 4).
const byMax = 999_999_999

// inTime reports whether the message may go to a peer, as far as its BY says. Who
// delivers, over LMTP, is no relay.
//
// RFC 2852 4.1.4.1: what has the mode R "MUST NOT be relayed to a SMTP server which
// does not support the Deliver By SMTP service extension", nor to one with a minimum
// "which is greater than the time remaining"; if it "cannot be relayed, then the
// message is deemed to be undeliverable for permanent reasons". RFC 2852 7: clients
// "SHOULD NOT attempt multiple MX hosts looking for one which supports Deliver By."
func (a *attempt) inTime(c *smtpc.Conn, t target) (next, bool) {
	if a.m.By.Mode != smtp.ByReturn || a.lmtp() {
		return nextBatch, true
	}
	params, ok := c.Ext("DELIVERBY")
	left := a.by(a.r.o.Now()).Seconds
	switch least, _ := smtp.ParseByMin(params); {
	case left < 1:
		a.rest(failed(554, 5, 4, 7, "Delivery time expired"))
	case !ok:
		a.rest(failed(554, 5, 3, 3, "the message is to be delivered in time or returned (BY), which %s does not offer", t.host))
	case left < least:
		a.blocked(rankLacks, failed(554, 5, 4, 7, "%d seconds are left to deliver the message, and %s takes none with less than %d", left, t.host, least))
		return nextHost, false
	default:
		return nextBatch, true
	}
	return nextNothing, false
}

// byNotify is the NOTIFY of a recipient for a peer. RFC 2852 4.1.4.2: a message with
// the mode N that goes to a server without DELIVERBY asks for a word when it is late:
// ""DELAY" SHOULD be added", which "explicitly overrides" RFC 3461 5.2.1 (c).
func (a *attempt) byNotify(c *smtpc.Conn, f *form, n smtp.Notify) smtp.Notify {
	if a.m.By.Mode != smtp.ByNotify || a.takesBy(c, f.plain) || a.lmtp() || n&smtp.NotifyNever != 0 || a.by(a.r.o.Now()).Seconds < 0 {
		return n
	}
	if n == 0 {
		n = smtp.NotifyFailure
	}
	return n | smtp.NotifyDelay
}

// validSince settles the recipients whose RRVS a peer does not understand. Who
// delivers, over LMTP, is no relay: the mailbox is one of ours, and was looked at.
//
// RFC 7293 5.1.1: where the action "was not specified or is "R" (reject), the MTA
// handling the message MUST reject the message by [...] generating a Delivery Status
// Notification [...] and terminating further relay attempts."
func (a *attempt) validSince(c *smtpc.Conn, t target) {
	if _, ok := c.Ext("RRVS"); ok || a.lmtp() {
		return
	}
	for _, i := range append([]int(nil), a.left...) {
		if r := a.rcpt(i).RRVS; r != (smtp.RRVS{}) && !r.Continue {
			o := failed(550, 5, 7, 19, "nobody can tell whose mailbox it is (RRVS): %s does not offer to", t.host)
			o.Scope = postrider.ScopeRecipient
			a.put(i, o)
		}
	}
}

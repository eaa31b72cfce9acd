package receive

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// A session is one connection: it gathers a transaction until its content comes.
// It implements smtpd.Session.
type session struct {
	o         *Options
	client    smtpd.Client
	named     []string // addresses that the certificate of the client is for
	source    postrider.Source
	submitter postrider.Submitter // nil: nobody has authenticated
	suite     string              // of TLS; empty: in the clear
	lmtp      bool
	esmtp     bool
	mail      *transaction // nil: none is open
}

// A transaction is what MAIL and RCPT have said so far.
type transaction struct {
	source postrider.Source
	from   smtp.Path
	params smtp.MailParams
	rcpts  []postrider.Recipient
	named  []smtp.Path // what RCPT said, where it added to rcpts
	taken  keys        // of rcpts
	seen   postrider.Transaction
	weight int64 // of its recipients, in Envelopes
	idle   int   // whom aliases stood for that added nothing

	began    time.Time // when MAIL came
	release  time.Time // not to be sent before; zero: at once
	priority int8      // as far as it was allowed
	auth     string    // AUTH=, as far as it was believed
}

// A mailboxKey is the same for the spellings of one mailbox.
type mailboxKey struct{ local, domain string }

// keys are a set of them. Most transactions have few recipients, and no map.
type keys struct {
	few  []mailboxKey
	many map[mailboxKey]bool // those that few has no room for
}

// fewMax is how many keys are looked through one by one.
const fewMax = 8

// add reports whether a key is new.
func (k *keys) add(key mailboxKey) bool {
	if k.many[key] || slices.Contains(k.few, key) {
		return false
	}
	if len(k.few) < fewMax {
		k.few = append(k.few, key)
		return true
	}
	if k.many == nil {
		k.many = map[mailboxKey]bool{}
	}
	k.many[key] = true
	return true
}

// protocol returns the "with" of the trace field: RFC 5321 4.4, RFC 3848 for those
// with "S" for TLS and "A" for AUTH, RFC 6531 4.3 for those that begin with UTF8.
func (s *session) protocol(utf8 bool) string {
	var p string
	switch {
	case utf8 && s.lmtp:
		p = "UTF8LMTP"
	case utf8:
		p = "UTF8SMTP"
	case s.lmtp:
		p = "LMTP"
	case s.esmtp:
		p = "ESMTP"
	default:
		return "SMTP" // of HELO there is but one
	}
	if s.suite != "" {
		p += "S"
	}
	if s.submitter != nil {
		p += "A"
	}
	return p
}

// Hello implements smtpd.Session. The reply is the server's own.
func (s *session) Hello(_ context.Context, name string, esmtp bool) smtp.Reply {
	s.Reset()
	s.source.Hello, s.esmtp = name, esmtp
	return smtp.Reply{Code: 250}
}

// Mail implements smtpd.Session.
func (s *session) Mail(ctx context.Context, from smtp.Path, p smtp.MailParams) smtp.Reply {
	s.Reset()
	t := &transaction{source: s.source, from: from, params: p}
	t.source.Protocol = s.protocol(p.UTF8)
	v := check(ctx, s.o.Mail, s.phase(t))
	if !v.Refuse && !s.o.Room(p.Size) {
		v = postrider.Verdict{Refuse: true, Reply: noSpace} // RFC 1870 6.1
	}
	if v.Refuse {
		s.refused(t, v.Reply, postrider.Event{Size: p.Size})
		return v.Reply
	}
	r := s.allow(ctx, t)
	if !r.Positive() && r.Code != 0 {
		s.refused(t, r, postrider.Event{Size: p.Size})
		return r
	}
	s.mail = t
	return positive(positive(r, v.Reply), smtp.Reply{Code: 250, Status: smtp.Status{Class: 2, Subject: 1, Detail: 0}, Text: "Sender OK"})
}

// phase returns what a check sees of a transaction so far, until it is asked again.
func (s *session) phase(t *transaction) *postrider.Transaction {
	t.seen = postrider.Transaction{Source: t.source, Submitter: s.submitter, From: t.from, Params: t.params, Accepted: len(t.rcpts)}
	return &t.seen
}

// refused tells that something of a transaction was not taken, beside what about
// says of it.
func (s *session) refused(t *transaction, r smtp.Reply, about postrider.Event) {
	about.Time, about.Kind = s.o.Now(), postrider.EventRefused
	about.From, about.Source = t.from, t.source
	about.Reply = r.Normal()
	about.Reply.Text = strings.ToValidUTF8(about.Reply.Text[:min(len(about.Reply.Text), refusedTextMax)], "")
	s.o.Refused(about)
}

// refusedTextMax is how much of a reply is told of, in octets.
const refusedTextMax = 512

// Rcpt implements smtpd.Session. What it answers is decided by the checks; what
// is kept is what the Router made of the address. A mailbox that is named twice
// is kept once, with the parameters of the first time.
func (s *session) Rcpt(ctx context.Context, to smtp.Path, p smtp.RcptParams) smtp.Reply {
	t := s.mail
	if t == nil {
		return outOfOrder
	}
	r := s.rcpt(ctx, t, to, p)
	if !r.Positive() {
		s.refused(t, r, postrider.Event{To: to, Tos: []smtp.Path{to}, Size: t.params.Size})
	}
	return r
}

func (s *session) rcpt(ctx context.Context, t *transaction, to smtp.Path, p smtp.RcptParams) smtp.Reply {
	if t.idle >= idleMax {
		return idle
	}
	res, err := s.o.Router.Resolve(ctx, to, t.source)
	if err != nil {
		s.o.Alarm(fmt.Errorf("receive: resolve a recipient: %w", err))
		return smtp.Reply{Code: 451, Status: smtp.Status{Class: 4, Subject: 4, Detail: 3}, Text: "Cannot look up this recipient now, try again later"}
	}
	phase := s.phase(t)
	phase.To, phase.RcptParams, phase.Resolution = to, p, res
	v := check(ctx, s.o.Rcpt, phase)
	if v.Refuse {
		return v.Reply
	}
	if !v.Reply.Positive() {
		return smtp.Reply{} // nobody answers for this recipient
	}
	if res.Kind != postrider.KindRemote {
		if r := s.owned(to, p); r.Code != 0 {
			return r
		}
		p.RRVS = smtp.RRVS{} // it has been looked at, and is not for those that an alias stands for
	}
	weight := cost(to, p, res)
	if !s.o.Envelopes.take(weight) {
		return crowded
	}
	if !s.become(t, to, res, p) {
		s.o.Envelopes.give(weight)
		t.idle += len(res.To) - 1
		return v.Reply
	}
	t.named, t.weight = append(t.named, to), t.weight+weight
	return v.Reply
}

// Reset implements smtpd.Session.
func (s *session) Reset() { s.end(s.mail) }

// Close implements smtpd.Session.
func (s *session) Close() { s.end(s.mail) }

// end forgets a transaction, if there is one.
func (s *session) end(t *transaction) {
	if s.mail = nil; t != nil {
		s.o.Envelopes.give(t.weight)
		t.weight = 0
	}
}

// outOfOrder answers a command without the transaction that it belongs to.
var outOfOrder = smtp.Reply{Code: 503, Status: smtp.Status{Class: 5, Subject: 5, Detail: 1}, Text: "Bad sequence of commands"}

// check runs a check that may be nil.
func check(ctx context.Context, c postrider.Check, tx *postrider.Transaction) postrider.Verdict {
	if c == nil {
		return postrider.Verdict{}
	}
	return c.Check(ctx, tx)
}

// positive returns r, or other where r accepts nothing.
func positive(r, other smtp.Reply) smtp.Reply {
	if r.Positive() {
		return r
	}
	return other
}

// keyOf returns the key of what an address resolved to. The local parts of our
// own mailboxes are the same without case; those of others may not be
// (RFC 5321 2.4).
//
// What is delivered into one folder is one mailbox, by whatever tag it is named. Who
// is given the mail elsewhere may look at the tag.
func (s *session) keyOf(kind postrider.Kind, to smtp.Path) mailboxKey {
	if kind == postrider.KindMailbox && s.o.Box != nil && strings.Contains(to.Local, "+") && s.o.Router.Route(to).Via == postrider.ViaMaildir {
		to = s.o.Box(to)
	}
	local := to.LocalUnquoted()
	if kind == postrider.KindMailbox {
		local = strings.ToLower(local)
	}
	return mailboxKey{local, strings.ToLower(to.Domain)}
}

// original returns the ORCPT of a recipient. One that became another address
// keeps what it was: RFC 3461 5.2.1, an ORCPT that we add "MUST contain the
// recipient address from the RCPT command used when the message was received".
func original(to, became smtp.Path, p smtp.RcptParams) string {
	if p.ORcpt != "" || to == became || to.Domain == "" || !to.IsASCII() {
		return p.ORcpt
	}
	return "rfc822;" + smtp.EncodeXtext(to.String())
}

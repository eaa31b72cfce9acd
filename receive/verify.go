package receive

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Bounds of what VRFY and EXPN tell.
const (
	alternativesMax = 20  // mailboxes that one name could mean
	membersMax      = 200 // of one list; clients read no replies of any length
)

// A Directory says who is called by a name, for VRFY and EXPN.
type Directory interface {
	// Lookup returns who has a name: with a domain of ours one Entry or none, and
	// without a domain one for each of ours where it is known. An error means that we
	// cannot tell now (451).
	Lookup(ctx context.Context, name smtp.Path) ([]Entry, error)
}

// An Entry is what a name is.
type Entry struct {
	Address smtp.Path // as RCPT takes it, with its domain
	Name    string    // of the person; empty: not known. May be UTF-8
	Vague   bool      // nothing is known of that name, but mail for it is taken
	List    bool      // it stands for Members, which nobody is told if it is Closed
	Closed  bool
	Members []Member
	Reply   smtp.Reply // 251 or 551 of an address that has another, else zero
}

// A Member is one address that a list stands for.
type Member struct {
	Address smtp.Path
	Name    string // as Entry.Name
}

// Replies to VRFY and EXPN. RFC 5321 7.3: "If a site disables these commands for
// security reasons, the SMTP server MUST return a 252 response, rather than a code
// that could be confused with successful or unsuccessful verification."
var (
	notVerified = verdict(252, 5, 0, "Cannot VRFY user, but will accept message and attempt delivery")
	notExpanded = verdict(252, 5, 0, "Cannot EXPN list here, but will accept message and attempt delivery")
	elsewhere   = verdict(252, 1, 5, "Cannot VRFY user of another server, but will relay a message")
	farList     = verdict(252, 5, 0, "Cannot EXPN list of another server")
	anyName     = verdict(252, 1, 5, "Cannot VRFY user, for every name is taken here")
	tooLong     = verdict(252, 5, 0, fmt.Sprintf("Cannot EXPN a list of more than %d members, but will accept message and attempt delivery", membersMax))
	wantsUTF8   = verdict(252, 6, 8, "The reply needs SMTPUTF8 after the name")
	noUser      = verdict(550, 1, 1, "No such user here")
	noList      = verdict(550, 1, 1, "No such list here")
	isUser      = verdict(550, 1, 0, "That is a user name, not a mailing list")
	isClosed    = verdict(550, 7, 2, "Access denied: that list is closed")
	isEmpty     = verdict(550, 2, 4, "Nobody on that list can be written to")
	movedUTF8   = verdict(550, 6, 8, "User not local; the new address needs SMTPUTF8 after the name")
	noName      = verdict(504, 5, 4, "Say a local part or a whole address: other names are not looked up")
)

// verdict makes a Reply with the status of the class of its code.
func verdict(code int, subject, detail uint16, text string) smtp.Reply {
	return smtp.Reply{Code: code, Status: smtp.Status{Class: uint8(code / 100), Subject: subject, Detail: detail}, Text: text}
}

// anybody is whoever might authenticate yet.
type anybody struct{}

func (anybody) Name() string           { return "" }
func (anybody) MaySend(smtp.Path) bool { return false }

// mayAsk reports whether VRFY and EXPN are answered for who the client is.
func (s *session) mayAsk(ctx context.Context, who postrider.Submitter) bool {
	if s.o.Directory == nil || s.o.Ask == nil {
		return false
	}
	return !s.o.Ask.Check(ctx, &postrider.Transaction{Source: s.source, Submitter: who}).Refuse
}

// Expands implements smtpd.Expander. A client that can still authenticate does not
// say EHLO again after that, so both verbs are listed for it.
func (s *session) Expands() bool {
	return s.mayAsk(context.Background(), s.submitter) || s.Mechanisms() != nil && s.mayAsk(context.Background(), anybody{})
}

// Verify implements smtpd.Verifier.
func (s *session) Verify(ctx context.Context, what string, wide bool) smtp.Reply {
	if !s.mayAsk(ctx, s.submitter) {
		return notVerified
	}
	entries, r := s.lookup(ctx, what, elsewhere)
	switch {
	case !r.IsZero():
		return r
	case len(entries) == 0:
		return noUser
	case len(entries) > 1:
		return ambiguous(entries, wide)
	}
	return entries[0].verified(wide)
}

// Expand implements smtpd.Expander. RFC 5321 3.5.1: "If a request is made to
// expand a user name, the server MAY return [...] an error".
func (s *session) Expand(ctx context.Context, list string, wide bool) smtp.Reply {
	if !s.mayAsk(ctx, s.submitter) {
		return notExpanded
	}
	entries, r := s.lookup(ctx, list, farList)
	if !r.IsZero() {
		return r
	}
	var lists []Entry
	for _, e := range entries {
		if e.List {
			lists = append(lists, e)
		}
	}
	switch {
	case len(lists) > 1:
		return ambiguous(lists, wide)
	case len(lists) == 1:
		return lists[0].expanded(wide)
	case len(entries) > 1:
		return ambiguous(entries, wide)
	case len(entries) == 0:
		return noList
	case entries[0].Reply.IsZero() && !entries[0].Vague:
		return isUser
	}
	return entries[0].verified(wide)
}

// lookup reads what VRFY and EXPN ask for, and finds it. A reply that is not zero
// ends it: far is for an address of another server that we would relay to.
func (s *session) lookup(ctx context.Context, what string, far smtp.Reply) ([]Entry, smtp.Reply) {
	name, r := parseName(what)
	if !r.IsZero() {
		return nil, r
	}
	if name.Domain != "" {
		t := &transaction{source: s.source}
		phase := s.phase(t)
		res, err := s.o.Router.Resolve(ctx, name, t.source)
		if err == nil && res.Kind == postrider.KindRemote {
			phase.To, phase.Resolution = name, res
			switch v := check(ctx, s.o.Rcpt, phase); {
			case v.Refuse: // as RCPT is: no stranger learns whom we relay for
				return nil, v.Reply.Normal()
			case !v.Reply.Positive():
				return nil, notVerified
			}
			return nil, far
		}
	}
	entries, err := s.o.Directory.Lookup(ctx, name)
	if err != nil {
		s.o.Alarm(fmt.Errorf("receive: look up a name: %w", err))
		return nil, verdict(451, 4, 3, "Cannot look up this name now, try again later")
	}
	return entries, smtp.Reply{}
}

// parseName reads a name: a local part, or an address with or without angle
// brackets and with or without a name before them. RFC 5321 3.5.1: "hosts [...]
// SHOULD accept the "local-part@domain" form as a "user name"".
func parseName(what string) (smtp.Path, smtp.Reply) {
	s := strings.TrimSpace(what)
	bracket := strings.LastIndexByte(s, '<')
	if bracket >= 0 && strings.HasSuffix(s, ">") {
		s = s[bracket+1 : len(s)-1]
	}
	if p, err := smtp.ParsePath(s + "@x"); err == nil && s != "" && p.Domain == "x" {
		return smtp.Path{Local: p.Local}, smtp.Reply{}
	}
	p, err := smtp.ParsePath(s)
	switch {
	case err == nil && p.Domain != "":
		return p, smtp.Reply{}
	case !strings.Contains(s, "@"):
		return smtp.Path{}, noName
	}
	return smtp.Path{}, verdict(501, 1, 3, "Bad address: "+err.Error())
}

// verified answers VRFY of one entry.
func (e Entry) verified(wide bool) smtp.Reply {
	mailbox, ok := mailboxOf(e.Name, e.Address, wide)
	switch {
	case !e.Reply.IsZero() && !wide && !ascii(e.Reply.Text):
		if e.Reply.Permanent() {
			return movedUTF8
		}
		return wantsUTF8
	case !e.Reply.IsZero():
		return e.Reply
	case e.Vague:
		return anyName
	case !ok:
		return wantsUTF8
	}
	return verdict(250, 1, 5, mailbox)
}

// expanded answers EXPN of a list. RFC 5321 3.5.1: "exactly one mailbox is to be
// specified on each line of the reply."
func (e Entry) expanded(wide bool) smtp.Reply {
	switch {
	case e.Closed:
		return isClosed
	case len(e.Members) == 0:
		return isEmpty
	case len(e.Members) > membersMax:
		return tooLong
	}
	lines := make([]string, len(e.Members))
	for i, m := range e.Members {
		var ok bool
		if lines[i], ok = mailboxOf(m.Name, m.Address, wide); !ok {
			return wantsUTF8
		}
	}
	return verdict(250, 1, 5, strings.Join(lines, "\n"))
}

// ambiguous names those whom a name could mean. RFC 5321 3.5.1: "the server MAY
// either note the ambiguity or identify the alternatives", in these words.
func ambiguous(entries []Entry, wide bool) smtp.Reply {
	lines := []string{"Ambiguous; Possibilities are"}
	for _, e := range entries {
		line, ok := mailboxOf(e.Name, e.Address, wide)
		if !ok || len(entries) > alternativesMax {
			return verdict(553, 1, 4, "User ambiguous")
		}
		lines = append(lines, line)
	}
	return verdict(553, 1, 4, strings.Join(lines, "\n"))
}

// mailboxOf returns "User Name <local-part@domain>", without the name where there
// is none that the client can read; ok is false where it cannot read the address.
func mailboxOf(name string, address smtp.Path, wide bool) (line string, ok bool) {
	line = "<" + address.String() + ">"
	if name != "" && (wide || ascii(name)) {
		line = name + " " + line
	}
	return line, wide || address.IsASCII()
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

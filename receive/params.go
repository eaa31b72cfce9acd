package receive

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/message"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/smtpd"
)

// Offer implements smtpd.Offerer: what Options.Offer says, as far as it is for
// this listener.
func (s *session) Offer() smtpd.Offer {
	if s.o.Offer == nil {
		return smtpd.Offer{}
	}
	o := s.o.Offer()
	if !s.o.Submission {
		// RFC 4865 4.2: it is not advertised "on any port other than the submission port".
		o.Extensions &^= smtp.ExtFutureRelease
	}
	if s.o.Turn == nil || s.lmtp || s.o.Submission {
		// Over LMTP nobody relays, and where users submit RFC 6409 7 says "MUST NOT".
		o.Extensions &^= smtp.ExtETRN
	}
	return o
}

// trusted reports whether we believe what a client says of mail that is not its
// own: it may relay here.
func (s *session) trusted() bool {
	return s.submitter != nil || s.o.Trusted != nil && s.o.Trusted(s.source.Peer.Addr())
}

// Turn implements smtpd.Turner, for those that may relay here. RFC 1985 8 asks for
// "some kind of sanity checking" of who may say what.
func (s *session) Turn(ctx context.Context, node string) smtp.Reply {
	if !s.trusted() {
		return smtp.Reply{Code: 459, Status: smtp.Status{Class: 4, Subject: 7, Detail: 0}, Text: "Node " + node + " not allowed: authenticate first"}
	}
	if strings.HasPrefix(node, "#") {
		return smtp.Reply{Code: 458, Status: smtp.Status{Class: 4, Subject: 5, Detail: 4}, Text: "Unable to queue messages for node " + node + ": there are no queues of that name"}
	}
	return s.o.Turn(ctx, node)
}

// allow makes of the parameters of a MAIL what this client may ask for. A reply
// that is not positive refuses them; a positive one is what the client hears; the
// zero Reply: nothing is to be said of them.
func (s *session) allow(ctx context.Context, t *transaction) smtp.Reply {
	t.began, t.priority, t.auth = s.o.Now(), t.params.Priority, t.params.Auth
	if !s.believes(t.auth) {
		// RFC 4954 5: one that does not trust the client "MUST behave as if the AUTH=<>
		// parameter was supplied".
		t.auth = "<>"
	}
	switch hold := t.params.Hold; {
	case hold.For > 0:
		t.release = t.began.Add(hold.For)
	case hold.Until.After(t.began):
		t.release = hold.Until
	}
	if !t.release.IsZero() {
		if r := s.room(ctx); !r.IsZero() {
			return r
		}
	}
	if t.priority > 0 && !s.trusted() {
		// RFC 6710 4.1: "The SMTP server MUST NOT allow "upgraded" (positive) priorities
		// from untrusted (e.g., unauthenticated) or unauthorized sources." Of one that it
		// changes it tells by X.3.6, "the new priority, followed by SP (ASCII space) and
		// explanatory human readable text".
		t.priority = 0
		return smtp.Reply{Code: 250, Status: smtp.Status{Class: 2, Subject: 3, Detail: 6}, Text: "0 is the priority of what is sent without authentication"}
	}
	return smtp.Reply{}
}

// believes reports whether a client may say that mail was submitted by auth: one
// that may relay may, and an account of the addresses that it may send as.
func (s *session) believes(auth string) bool {
	if auth == "" || auth == "<>" {
		return true
	}
	p, err := smtp.ParsePath(auth)
	switch {
	case err != nil:
		return false
	case s.submitter != nil:
		return s.submitter.MaySend(p)
	}
	return s.trusted()
}

// room says why an account can have no more messages that wait for their release;
// the zero Reply: it can. RFC 4865 6: "An MSA's future release message storage
// SHOULD be subject to a per-user quota."
func (s *session) room(ctx context.Context) smtp.Reply {
	if s.o.Future == nil || s.submitter == nil {
		return smtp.Reply{}
	}
	ok, err := s.o.Future(ctx, s.submitter.Name())
	switch {
	case err != nil:
		return s.failed("count what waits for its release", err)
	case !ok:
		return smtp.Reply{Code: 552, Status: smtp.Status{Class: 5, Subject: 7, Detail: 16}, Text: "Too many messages of this account wait for their release"}
	}
	return smtp.Reply{}
}

// roles are the mailboxes that belong to no person (RFC 2142).
var roles = []string{"abuse", "ftp", "hostmaster", "info", "marketing", "news", "noc", "postmaster", "sales", "security", "support", "usenet", "uucp", "webmaster", "www"}

// owned answers a recipient with RRVS= that is a mailbox or an alias of ours: the
// zero Reply where it has had the same owner for long enough, and where the
// parameter is to be ignored. RFC 7293 5.1: "Ignore the parameter if the named
// mailbox is known to be a role account".
func (s *session) owned(to smtp.Path, p smtp.RcptParams) smtp.Reply {
	if p.RRVS.Since.IsZero() || slices.Contains(roles, strings.ToLower(to.LocalUnquoted())) {
		return smtp.Reply{}
	}
	var since time.Time
	if s.o.Since != nil {
		since = s.o.Since(to)
	}
	switch {
	case since.IsZero():
		// RFC 7293 5: "If no reasonable substitute for the timestamp can be selected, the
		// MDA rejects the message using an SMTP reply code, preferably with an enhanced
		// mail system status code [...], that indicates the test cannot be completed."
		return smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 7, Detail: 19}, Text: "Nobody knows since when this mailbox has its owner"}
	case since.After(p.RRVS.Since):
		return smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 7, Detail: 17}, Text: "The owner of this mailbox has changed since then"}
	}
	return smtp.Reply{}
}

// keep writes down of a message what the parameters of its transaction came to.
func (t *transaction) keep(m *postrider.Message, now time.Time) {
	m.Binary = t.params.Body == smtp.BodyBinaryMIME
	m.Auth, m.Priority, m.Solicit = t.auth, t.priority, t.params.Solicit
	if m.By = t.params.By; m.By.Mode != 0 {
		// It is counted from MAIL, and kept as counted from now. RFC 2852 4: what is over
		// is told to no one else with a by-mode of R.
		m.By.Seconds -= int32(min(now.Sub(t.began), 24*time.Hour) / time.Second)
		if m.By.Mode == smtp.ByReturn || t.params.By.Seconds > 0 { // so that who is to be told that it is late is told by us
			m.By.Seconds = max(1, m.By.Seconds)
		}
	}
	if t.release.After(now) {
		m.Release, m.HoldFor = t.release, t.params.Hold.For
	}
}

// headerMax is how much of a header is looked through for solicitations, in octets.
const headerMax = 64 << 10

// A solicitation gathers the header of a message, if there are keywords to find.
type solicitation struct {
	words  []string
	scan   *message.Scanner // of the same octets
	header []byte
	done   bool
}

func (s *solicitation) Write(p []byte) (int, error) {
	if len(s.words) == 0 || s.done {
		return len(p), nil
	}
	before := max(0, len(s.header)-3)
	s.header = append(s.header, p[:min(len(p), headerMax-len(s.header))]...)
	s.done = len(s.header) == headerMax
	if end := bytes.Index(s.header[before:], []byte("\r\n\r\n")); end >= 0 {
		s.header, s.done = s.header[:before+end], true
	}
	return len(p), nil
}

// found returns the first keyword of a field Solicitation (RFC 3865 2.5) that is
// among the words, or nothing. Where the header ends the Scanner knows: it can do so
// without an empty line, and have no field at all.
func (s *solicitation) found() string {
	const name = "solicitation:"
	header := s.header[:min(int64(len(s.header)), s.scan.HeaderSize())]
	if len(header) == 0 {
		return ""
	}
	text := strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(string(header))
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) < len(name) || !strings.EqualFold(line[:len(name)], name) {
			continue
		}
		for word := range strings.FieldsFuncSeq(line[len(name):], func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
			if slices.ContainsFunc(s.words, func(w string) bool { return strings.EqualFold(w, word) }) {
				return word
			}
		}
	}
	return ""
}

// solicits is what the sender of a message hears whose header holds a keyword
// that is not wanted here.
func solicits(word string) smtp.Reply {
	return smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 7, Detail: 1}, Text: fmt.Sprintf("No soliciting: %.200s", word)}
}

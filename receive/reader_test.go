package receive

import (
	"context"
	"fmt"
	"net/mail"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Faults that were found by reading, each made by hand.

// A content that begins with a blank does not go on with our trace field: whom we name
// there, and when, is ours to say, and what the header holds is what was looked at.
func TestContentDoesNotGoOnWithOurField(t *testing.T) {
	spool := &memSpool{}
	s := start(t, options(spool))
	forged := "\t(verified by mx.our.example);\r\n\tThu, 01 Jan 2026 00:00:00 +0000\r\nSubject: x\r\n\r\nbody\r\n"
	if r := send(t, s, smtp.MailParams{}, strings.NewReader(forged)); !r.Positive() {
		t.Fatal(r)
	}
	k, _ := spool.last()
	m, err := mail.ReadMessage(strings.NewReader(string(k.head) + string(k.content)))
	if err != nil || strings.Contains(m.Header.Get("Received"), "verified") || m.Header.Get("Subject") != "" || string(k.content) != forged {
		t.Errorf("%v: %q", err, m.Header)
	}
}

// Our trace field is ASCII, so that a message whose own header is so may go to a host
// that does not offer SMTPUTF8.
func TestTraceFieldIsASCII(t *testing.T) {
	for _, to := range []smtp.Path{{Local: "b", Domain: "bücher.example"}, {Local: "jürgen", Domain: "our.example"}} {
		if k := keptOf(t, from, to); strings.Contains(string(k.head), "for <") || recipientsOf(k)[0] != to.String() {
			t.Errorf("%s: %q", to, k.head)
		}
	}
}

// A path in the trace field has a domain: the bare postmaster is named there as the mailbox
// that it is here, for whoever reads the field elsewhere has a postmaster too.
func TestTraceFieldNamesAMailbox(t *testing.T) {
	if k := keptOf(t, from, smtp.Path{Local: "Postmaster"}); !strings.Contains(string(k.head), "\tfor <ops@our.example>;") {
		t.Errorf("%q", k.head)
	}
}

// folders is a Router with one domain, whose mailboxes are folders.
type folders struct{ via postrider.Via }

func (folders) Resolve(_ context.Context, to smtp.Path, _ postrider.Source) (postrider.Resolution, error) {
	if strings.HasPrefix(to.Local, "list") {
		res := postrider.Resolution{Kind: postrider.KindAlias}
		for i := range 5000 {
			res.To = append(res.To, smtp.Path{Local: fmt.Sprint("r", i), Domain: to.Domain})
		}
		return res, nil
	}
	return postrider.Resolution{Kind: postrider.KindMailbox, To: []smtp.Path{to}}, nil
}

func (f folders) Route(smtp.Path) postrider.Route { return postrider.Route{Via: f.via} }

func untagged(p smtp.Path) smtp.Path {
	p.Local, _, _ = strings.Cut(p.Local, "+")
	return p
}

// One mailbox with many tags is one folder, and gets one copy. A store behind LMTP may
// look at the tag.
func TestTagsOfOneFolder(t *testing.T) {
	for via, want := range map[postrider.Via]int{postrider.ViaMaildir: 2, postrider.ViaLMTP: 5} {
		spool := &memSpool{}
		o := options(spool)
		o.Router, o.Rcpt, o.Box = folders{via}, takesAll, untagged
		s := start(t, o)
		s.Mail(t.Context(), from, smtp.MailParams{})
		for _, local := range []string{"bob+1", "BOB+2", "alice", "bob", "bob+3", "Alice"} {
			if r := s.Rcpt(t.Context(), smtp.Path{Local: local, Domain: "our.example"}, smtp.RcptParams{}); !r.Positive() {
				t.Fatal(r)
			}
		}
		s.Data(t.Context(), strings.NewReader("x"))
		if k, _ := spool.last(); len(k.message.Recipients) != want {
			t.Errorf("via %v: %v, want %d", via, recipientsOf(k), want)
		}
	}
}

// The recipients of all transactions that are under way have a bound, and each gives
// back what it took when it ends, however it does.
func TestEnvelopesAreBounded(t *testing.T) {
	o := options(&memSpool{})
	o.Router, o.Rcpt, o.Envelopes = folders{postrider.ViaMaildir}, takesAll, &Envelopes{Max: 100 * rcptCost}
	other := start(t, o)
	for _, ends := range []string{"DATA", "RSET", "MAIL", "close", "EHLO"} {
		s := start(t, o)
		s.Mail(t.Context(), from, smtp.MailParams{})
		taken := 0
		for i := range 100 {
			r := s.Rcpt(t.Context(), smtp.Path{Local: fmt.Sprint("r", i), Domain: "our.example"}, smtp.RcptParams{ORcpt: "rfc822;" + strings.Repeat("x", 100)})
			if taken++; !r.Positive() {
				if r.Code != 452 {
					t.Errorf("%v", r)
				}
				break
			}
		}
		if taken < 50 || taken > 95 {
			t.Errorf("before %s %d recipients were taken", ends, taken)
		}
		other.Mail(t.Context(), from, smtp.MailParams{})
		if r := other.Rcpt(t.Context(), smtp.Path{Local: strings.Repeat("x", 300), Domain: "our.example"}, smtp.RcptParams{}); r.Code != 452 {
			t.Errorf("another session beside it: %v", r)
		}
		switch ends {
		case "DATA":
			s.Data(t.Context(), strings.NewReader("x"))
		case "RSET":
			s.Reset()
		case "MAIL":
			s.Mail(t.Context(), from, smtp.MailParams{})
		case "EHLO":
			s.Hello(t.Context(), "x", true)
		case "close":
			s.Close()
		}
		if n := o.Envelopes.used.Load(); n != 0 {
			t.Errorf("after %s %d octets are not given back", ends, n)
		}
	}
}

// What may be taken may be taken to the last octet, and what is refused takes nothing.
func TestEnvelopesAreFilled(t *testing.T) {
	e := &Envelopes{Max: 100}
	if e.take(101) || !e.take(60) || e.take(41) || !e.take(40) || e.take(1) || e.used.Load() != 100 {
		t.Errorf("%d of 100 are taken", e.used.Load())
	}
}

// A large list is not expanded again and again for nothing.
func TestListNamedAgainAndAgain(t *testing.T) {
	o := options(&memSpool{})
	o.Router, o.Rcpt = folders{postrider.ViaMaildir}, takesAll
	s := start(t, o)
	s.Mail(t.Context(), from, smtp.MailParams{})
	for i := range 10 {
		r := s.Rcpt(t.Context(), smtp.Path{Local: fmt.Sprint("list+", i), Domain: "our.example"}, smtp.RcptParams{})
		if want := map[bool]int{true: 250, false: 452}[i < 6]; r.Code != want {
			t.Errorf("time %d: %v, want %d", i, r, want)
		}
	}
}

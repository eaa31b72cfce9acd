package receive

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// keptFor is who a message from someone to these is kept for.
func keptFor(t *testing.T, sender smtp.Path, to ...smtp.Path) []string {
	t.Helper()
	return recipientsOf(keptOf(t, sender, to...))
}

// keptOf is what is kept of a message from someone to these.
func keptOf(t *testing.T, sender smtp.Path, to ...smtp.Path) kept {
	t.Helper()
	spool := &memSpool{}
	o := options(spool)
	o.Rcpt = takesAll
	s := start(t, o)
	s.Mail(t.Context(), sender, smtp.MailParams{})
	for _, p := range to {
		if r := s.Rcpt(t.Context(), p, smtp.RcptParams{}); !r.Positive() {
			t.Fatalf("%s: %v", p, r)
		}
	}
	if r := s.Data(t.Context(), strings.NewReader("x"))[0]; !r.Positive() {
		t.Fatal(r)
	}
	k, _ := spool.last()
	return k
}

func recipientsOf(k kept) (all []string) {
	for _, r := range k.message.Recipients {
		all = append(all, r.To.String())
	}
	return all
}

// takesAll takes every recipient.
var takesAll = checkFunc(func(*postrider.Transaction) postrider.Verdict { return postrider.Verdict{Reply: smtp.OK} })

// numbered are n mailboxes of ours.
func numbered(n int) []smtp.Path {
	all := make([]smtp.Path, n)
	for i := range all {
		all[i] = smtp.Path{Local: "r" + strconv.Itoa(i), Domain: "our.example"}
	}
	return all
}

// RFC 5321 2.4: "The local-part of a mailbox MUST BE treated as case sensitive", but for
// a mailbox of ours, of whose local part we decide (RFC 5321 2.3.11).
func TestRemoteLocalParts(t *testing.T) {
	got := keptFor(t, from, smtp.Path{Local: "Bob", Domain: "far.example"}, smtp.Path{Local: "bob", Domain: "FAR.example"}, smtp.Path{Local: "bob", Domain: "far.example"},
		smtp.Path{Local: "Alice", Domain: "our.example"}, smtp.Path{Local: "alice", Domain: "our.example"})
	if want := []string{"Bob@far.example", "bob@FAR.example", "Alice@our.example"}; !slices.Equal(got, want) {
		t.Errorf("kept for %q, want %q", got, want)
	}
}

// RFC 5321 3.9: to eliminate addresses of a list, "such as that of the originator, is
// strongly discouraged".
func TestSenderOnList(t *testing.T) {
	got := keptFor(t, smtp.Path{Local: "one", Domain: "our.example"}, smtp.Path{Local: "team", Domain: "our.example"})
	if want := []string{"one@our.example", "two@far.example"}; !slices.Equal(got, want) {
		t.Errorf("kept for %q, want %q", got, want)
	}
}

// A set of few keys and one of many are the same set.
func TestKeys(t *testing.T) {
	var k keys
	for round := range 2 {
		for i := range 3 * fewMax {
			key := mailboxKey{local: strconv.Itoa(i), domain: "d.example"}
			if added := k.add(key); added != (round == 0) {
				t.Errorf("round %d, key %d: added %v", round, i, added)
			}
		}
	}
	if len(k.few) != fewMax || len(k.many) != 2*fewMax {
		t.Errorf("%d few and %d many", len(k.few), len(k.many))
	}
}

// Who is named again is kept once, however many there are and however it is spelled.
func TestNamedAgain(t *testing.T) {
	for _, n := range []int{1, 2, fewMax, fewMax + 1, 99, 100, 101, 1000} {
		to := numbered(n)
		for _, p := range to[:n:n] {
			to = append(to, p, smtp.Path{Local: strings.ToUpper(p.Local), Domain: p.Domain})
		}
		var want []string
		for _, p := range to[:n] {
			want = append(want, p.String())
		}
		if got := keptFor(t, from, to...); !slices.Equal(got, want) {
			t.Errorf("%d who are named three times are kept as %d", n, len(got))
		}
	}
}

// RFC 5321 4.4: a FOR clause "MUST contain exactly one <path> entry", and 7.2: it must not
// tell one who has a blind copy to another.
func TestTraceNamesOneAlone(t *testing.T) {
	for _, n := range []int{1, 2, 3, fewMax, fewMax + 1, 10, 11, 100, 1000} {
		head := keptOf(t, from, numbered(n)...).head
		if named := bytes.Contains(head, []byte("\tfor <r0@our.example>;")); named != (n == 1) {
			t.Errorf("of %d recipients the trace field is %q", n, head)
		}
		if got := bytes.Count(head, []byte("@")); n > 1 && got > 0 {
			t.Errorf("of %d recipients the trace field names %d: %q", n, got, head)
		}
	}
}

// RFC 5321 4.2.1, of 4yz: "the error condition is temporary, and the action may be
// requested again." A recipient that cannot be looked up now is asked for again, whoever
// was taken before it, and keeps nobody else from the message.
func TestLookupFailsForOne(t *testing.T) {
	late := smtp.Path{Local: "late", Domain: "our.example"}
	for _, before := range []int{0, 1, 2, 3, 4, fewMax, fewMax + 1, 100} {
		spool := &memSpool{}
		fails := true
		o := options(spool)
		o.Router = lateRouter{fails: &fails}
		s := start(t, o)
		s.Mail(t.Context(), from, smtp.MailParams{})
		taken := func(to smtp.Path, want string) {
			t.Helper()
			if r := s.Rcpt(t.Context(), to, smtp.RcptParams{}); !strings.HasPrefix(r.String(), want) {
				t.Errorf("%s behind %d others: %v, want %s", to, before, r, want)
			}
		}
		for _, to := range numbered(before) {
			taken(to, "250 2.1.5 ")
		}
		taken(late, "451 4.4.3 ")
		taken(alice, "250 2.1.5 ")
		taken(late, "451 4.4.3 ")
		fails = false
		taken(late, "250 2.1.5 ")
		if r := s.Data(t.Context(), strings.NewReader("x"))[0]; !r.Positive() {
			t.Fatal(r)
		}
		k, _ := spool.last()
		if got := recipientsOf(k); len(got) != before+2 || got[before] != alice.String() || got[before+1] != late.String() {
			t.Errorf("behind %d others kept for %q", before, got)
		}
	}
}

// A lateRouter cannot look up one mailbox while it fails.
type lateRouter struct {
	mapRouter
	fails *bool
}

func (r lateRouter) Resolve(ctx context.Context, to smtp.Path, from postrider.Source) (postrider.Resolution, error) {
	if *r.fails && to.Local == "late" {
		return postrider.Resolution{}, errors.New("boom")
	}
	return r.mapRouter.Resolve(ctx, to, from)
}

// Who is named again costs nothing that stays: a client that names a mailbox, or a list,
// over and over takes no room from others, and when it has gone all is given back.
func TestNamedAgainTakesNoRoom(t *testing.T) {
	team := smtp.Path{Local: "team", Domain: "our.example"}
	o := options(&memSpool{})
	o.Rcpt, o.Envelopes = takesAll, &Envelopes{Max: 10 * rcptCost}
	s, other := start(t, o), start(t, o)
	s.Mail(t.Context(), from, smtp.MailParams{})
	for i := range 100 {
		for _, to := range []smtp.Path{alice, {Local: "ALICE", Domain: "OUR.example"}, team} {
			if r := s.Rcpt(t.Context(), to, smtp.RcptParams{}); r.Code != 250 {
				t.Fatalf("%s, time %d: %v", to, i, r)
			}
		}
	}
	other.Mail(t.Context(), from, smtp.MailParams{})
	for _, to := range numbered(5) {
		if r := other.Rcpt(t.Context(), to, smtp.RcptParams{}); r.Code != 250 {
			t.Errorf("%s of another client: %v", to, r)
		}
	}
	s.Close()
	other.Close()
	if n := o.Envelopes.used.Load(); n != 0 {
		t.Errorf("%d octets are not given back", n)
	}
}

package receive

import (
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
	spool := &memSpool{}
	o := options(spool)
	o.Rcpt = checkFunc(func(*postrider.Transaction) postrider.Verdict { return postrider.Verdict{Reply: smtp.OK} })
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
	var all []string
	for _, r := range k.message.Recipients {
		all = append(all, r.To.String())
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

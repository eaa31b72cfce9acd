package receive

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// RFC 3461 5.2.7.2 and 5.2.7.3: what an alias hands on.
func TestAliasesHandOn(t *testing.T) {
	since := smtp.RRVS{Since: time.Unix(1e9, 0)}
	for _, c := range []struct {
		to   string
		p    smtp.RcptParams
		want []string
	}{
		{"alias", smtp.RcptParams{Notify: smtp.NotifySuccess, ORcpt: "rfc822;x@y"}, []string{"one@our.example SUCCESS rfc822;x@y"}},
		{"user", smtp.RcptParams{RRVS: since}, []string{"user@our.example   rrvs"}}, // where owned has left it
		{"team", smtp.RcptParams{}, []string{"one@our.example  rfc822;team@our.example", "two@far.example  rfc822;team@our.example"}},
		{"team", smtp.RcptParams{Notify: smtp.NotifySuccess | smtp.NotifyFailure},
			[]string{"one@our.example FAILURE rfc822;team@our.example", "two@far.example FAILURE rfc822;team@our.example", "team@our.example SUCCESS,FAILURE  expanded"}},
		{"team", smtp.RcptParams{Notify: smtp.NotifySuccess, ORcpt: "rfc822;x@y"},
			[]string{"one@our.example NEVER rfc822;x@y", "two@far.example NEVER rfc822;x@y", "team@our.example SUCCESS rfc822;x@y expanded"}},
		{"team", smtp.RcptParams{Notify: smtp.NotifyDelay}, []string{"one@our.example DELAY rfc822;team@our.example", "two@far.example DELAY rfc822;team@our.example"}},
	} {
		s := &session{o: &New(Options{Router: mapRouter{}}).o}
		to := smtp.Path{Local: c.to, Domain: "our.example"}
		res, _ := mapRouter{}.Resolve(context.Background(), to, postrider.Source{})
		tx := &transaction{}
		if !s.become(tx, to, res, c.p) || s.become(tx, to, res, c.p) {
			t.Errorf("%s: not taken, or taken twice", c.to)
		}
		var got []string
		for _, r := range tx.rcpts {
			line := fmt.Sprintf("%s %s %s", r.To, r.Notify, r.ORcpt)
			if r.RRVS != (smtp.RRVS{}) {
				line += " rrvs"
			}
			if r.Expanded && r.State == postrider.Delivered && !r.Reported && !r.Settled.IsZero() {
				line += " expanded"
			}
			got = append(got, line)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %+v becomes\n%q, want\n%q", c.to, c.p, got, c.want)
		}
	}
}

// RFC 3461 5.2.7.3 (c), for aliases of every size: NOTIFY goes on to the members without
// SUCCESS, of which the alias itself tells. Who asked for that alone hears nothing else.
func TestNotifyOfMembers(t *testing.T) {
	const success, failure, delay, never = smtp.NotifySuccess, smtp.NotifyFailure, smtp.NotifyDelay, smtp.NotifyNever
	team := smtp.Path{Local: "team", Domain: "our.example"}
	for asked, want := range map[smtp.Notify]smtp.Notify{
		0: 0, never: never, failure: failure, delay: delay, failure | delay: failure | delay,
		success: never, success | failure: failure, success | delay: delay, success | failure | delay: failure | delay,
	} {
		for _, n := range []int{2, 3, 4, 5, 6, fewMax, fewMax + 1, 100, 1000} {
			s, tx := &session{o: &New(Options{}).o}, &transaction{}
			s.become(tx, team, postrider.Resolution{Kind: postrider.KindAlias, To: numbered(n)}, smtp.RcptParams{Notify: asked})
			for i, r := range tx.rcpts[:min(n, len(tx.rcpts))] {
				if r.Notify != want || r.Expanded {
					t.Errorf("NOTIFY=%s of an alias of %d: member %d has %s, want %s", asked, n, i, r.Notify, want)
					break
				}
			}
			expanded := tx.rcpts[min(n, len(tx.rcpts)):]
			if tells := asked&success != 0; len(tx.rcpts) < n || (len(expanded) == 1) != tells || tells && (!expanded[0].Expanded || expanded[0].Notify != asked) {
				t.Errorf("NOTIFY=%s of an alias of %d: %d recipients, of which are beside its members %+v", asked, n, len(tx.rcpts), expanded)
			}
		}
	}
}

// RFC 3461 5.2.1: an ORCPT that we add "MUST contain the recipient address from the RCPT
// command", and it goes to servers that look at it: what the type rfc822 cannot say, an
// address beyond ASCII or a name without a domain, is left out, or they would refuse the
// recipient.
func TestAddedORcptCanBeSaid(t *testing.T) {
	became := smtp.Path{Local: "ops", Domain: "our.example"}
	for _, c := range []struct {
		to   smtp.Path
		p    smtp.RcptParams
		want string
	}{
		{smtp.Path{Local: "a=b", Domain: "our.example"}, smtp.RcptParams{}, "rfc822;a+3Db@our.example"},
		{smtp.Path{Local: "a", Domain: "our.example"}, smtp.RcptParams{ORcpt: "rfc822;x@y"}, "rfc822;x@y"},
		{became, smtp.RcptParams{}, ""},
		{smtp.Path{Local: "postmaster"}, smtp.RcptParams{}, ""},
		{smtp.Path{Local: "j\u00f6rg", Domain: "our.example"}, smtp.RcptParams{}, ""},
		{smtp.Path{Local: "a", Domain: "b\u00fccher.example"}, smtp.RcptParams{}, ""},
		{smtp.Path{Local: "j\u00f6rg", Domain: "our.example"}, smtp.RcptParams{ORcpt: "utf-8;j\\x{F6}rg@our.example"}, "utf-8;j\\x{F6}rg@our.example"},
	} {
		got := original(c.to, became, c.p)
		if got != c.want {
			t.Errorf("%s with ORCPT %q: %q, want %q", c.to, c.p.ORcpt, got, c.want)
		}
		if _, _, no := smtp.ParseRcpt("TO:<a@b> ORCPT="+got, smtp.ExtDSN|smtp.ExtSMTPUTF8); got != "" && no != nil {
			t.Errorf("%s: the next server refuses %q: %v", c.to, got, no)
		}
	}
}

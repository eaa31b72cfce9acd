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

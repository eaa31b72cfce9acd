package receive

import (
	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// become adds what an address resolved to, and reports whether anything was new. A
// mailbox that is there already stays as it is.
//
// RFC 3461 5.2.7.2: what was asked for goes on with the one address that an alias stands
// for. RFC 3461 5.2.7.3 (c): where it stands for several, NOTIFY "is propagated to the
// forwarding addresses, except that it any SUCCESS keyword is removed", and then "an
// "expanded" DSN is issued for the alias", which is a recipient of its own until then.
func (s *session) become(t *transaction, to smtp.Path, res postrider.Resolution, p smtp.RcptParams) (added bool) {
	r := postrider.Recipient{Notify: p.Notify, RRVS: p.RRVS}
	expands := res.Kind == postrider.KindAlias && len(res.To) > 1 && p.Notify&smtp.NotifySuccess != 0
	if expands {
		if r.Notify &^= smtp.NotifySuccess; r.Notify == 0 {
			r.Notify = smtp.NotifyNever // for no NOTIFY at all would ask for failures
		}
	}
	for _, became := range res.To {
		if key := s.keyOf(res.Kind, became); t.taken.add(key) {
			added = true
			r.To, r.ORcpt = became, original(to, became, p)
			t.rcpts = append(t.rcpts, r)
		}
	}
	if added && expands {
		t.rcpts = append(t.rcpts, postrider.Recipient{
			To: to, Notify: p.Notify, ORcpt: p.ORcpt, State: postrider.Delivered, Expanded: true, Settled: s.o.Now(),
			Reply: smtp.Reply{Code: 250, Status: smtp.Status{Class: 2, Subject: 1, Detail: 5}, Text: "Passed on to those that it stands for"},
		})
	}
	return added
}

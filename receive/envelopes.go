package receive

import (
	"sync/atomic"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Envelopes are the recipients of all transactions that are under way, by the octets
// of memory that they take.
type Envelopes struct {
	Max  int64 // beyond, a recipient is answered with 452; 0: there is no bound
	used atomic.Int64
}

// rcptCost is what a recipient takes beside its texts: the Recipient, what the client
// called it, and the key by which it is known.
const rcptCost = 512

// cost is what a recipient takes that becomes others.
func cost(to smtp.Path, p smtp.RcptParams, res postrider.Resolution) int64 {
	n := int64(len(to.Local) + len(to.Domain) + len(p.ORcpt))
	for i := range res.To {
		n += rcptCost + int64(len(res.To[i].Local)+len(res.To[i].Domain))
	}
	return n
}

// take takes n octets, if there is room for them.
func (e *Envelopes) take(n int64) bool {
	if e == nil || e.Max == 0 {
		return true
	}
	if e.used.Add(n) > e.Max {
		e.used.Add(-n)
		return false
	}
	return true
}

func (e *Envelopes) give(n int64) {
	if e != nil && e.Max != 0 {
		e.used.Add(-n)
	}
}

var crowded = smtp.Reply{Code: 452, Status: smtp.Status{Class: 4, Subject: 3, Detail: 1}, Text: "Too many recipients are under way, try again later"}

// idleMax is for how many an alias may have stood that added nothing to a transaction,
// all of them together: to find out takes time for each.
const idleMax = 20_000

var idle = smtp.Reply{Code: 452, Status: smtp.Status{Class: 4, Subject: 5, Detail: 3}, Text: "Too many recipients that are there already"}

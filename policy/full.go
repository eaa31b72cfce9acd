package policy

import (
	"context"

	"github.com/postrider/postrider"
)

// Full puts senders off while too many recipients wait, so that what we have
// taken is delivered before we take more. Waiting returns how many wait, and Max
// is how many may; without them there is no limit.
type Full struct {
	Waiting func() int
	Max     int
}

// Check implements postrider.Check, for the phase of MAIL.
func (f Full) Check(context.Context, *postrider.Transaction) postrider.Verdict {
	if f.Waiting != nil && f.Max > 0 && f.Waiting() >= f.Max {
		return refuse(452, 4, 3, 1, "The queue is full, try again later")
	}
	return postrider.Verdict{}
}

package policy

import (
	"context"

	"github.com/postrider/postrider"
)

// hopsMax is how many Received fields are a loop. RFC 5321 6.3: "SHOULD use a
// large rejection threshold, normally at least 100 Received entries."
const hopsMax = 100

// Loop refuses a message that came by too many servers. Max is how many are too
// many; zero: 100.
type Loop struct {
	Max int
}

// Check implements postrider.Check, for the phase of DATA.
func (l Loop) Check(_ context.Context, tx *postrider.Transaction) postrider.Verdict {
	limit := l.Max
	if limit <= 0 {
		limit = hopsMax
	}
	if tx.Hops >= limit {
		return refuse(554, 5, 4, 6, "Routing loop detected: too many Received fields")
	}
	return postrider.Verdict{}
}

// Package pace says how much a peer may get at a time, and how often: as pure
// state, whose owner guards it and says what time it is. The queue keeps a Pace and
// a Bucket for each destination, the relay for each host.
package pace

import "time"

// A Pace is how many may go at a time. It is halved when the peer wants less of us
// and when it does not answer, and raised by what goes well: up to half of what was
// too much by one each time, from there on by one after as many as go at a time.
// So it comes back fast to where it was well, and feels its way on slowly.
type Pace struct {
	Limit  int
	Reason string    // why it was lowered last; empty: it is as high as may be, or never was
	Since  time.Time // of Reason

	goal int // up to which each success counts
	wins int // successes since the last step
}

// Start is a pace that begins at limit and may come to most, one with each success.
func Start(limit, most int) Pace {
	most = max(1, most)
	return Pace{Limit: max(1, min(limit, most)), goal: most}
}

// Slower halves the pace. Running is how many there were, whom it was too much for
// among them.
func (p *Pace) Slower(running int, reason string, now time.Time) {
	p.Limit = max(1, min(p.Limit, running)/2)
	p.goal, p.wins = p.Limit, 0
	p.Reason, p.Since = reason, now
}

// Faster counts a success.
func (p *Pace) Faster(most int) {
	if p.Limit < most {
		if p.wins++; p.Limit < p.goal || p.wins >= p.Limit {
			p.Limit, p.wins = p.Limit+1, 0
		}
	}
	if p.Limit >= most {
		p.Reason, p.Since = "", time.Time{}
	}
}

// Change gives the pace another most. One that nobody has lowered may come to it with
// each success.
func (p *Pace) Change(most int) {
	most = max(1, most)
	if p.Limit = min(p.Limit, most); p.Reason == "" || p.goal > most {
		p.goal = most
	}
}

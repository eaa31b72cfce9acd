package spool

import "time"

// On a disk whose sync takes long, whoever is answered sends the next message while
// the first of those that were answered with it has begun another sync: groups of one
// and of all but one take turns, and every second sync is for next to nothing. So
// where groups are large and a sync takes long, the committer waits for as many as
// came lately, for a small part of what the sync will take. Where that does not help
// it stops to.
const (
	lingerGroup = 8                    // members of the larger of the last two groups
	lingerSync  = time.Millisecond     // what a sync takes at least
	lingerPart  = 8                    // of a sync is waited, one in so many
	lingerMost  = 2 * time.Millisecond // and no longer
	lingerPause = 64                   // groups without waiting, after a wait in vain
)

// A pace is what groups and syncs were like lately.
type pace struct {
	groups [2]int        // members of the last two, lazy ones left out
	took   time.Duration // the last sync
	pause  int           // groups for which nothing is waited for
	timer  *time.Timer
}

// linger adds to a group what comes while it is worth waiting for.
func (s *Spool) linger(group []*request) []*request {
	p := &s.pace
	hasty := 0
	for _, req := range group {
		if !req.batch.Lazy {
			hasty++
		}
	}
	want := max(p.groups[0], p.groups[1])
	if hasty > 0 {
		defer func() { p.groups = [2]int{p.groups[1], hasty} }()
	}
	switch {
	case hasty == 0 || hasty >= want*3/4 || want < lingerGroup || p.took < lingerSync:
		return group
	case p.pause > 0:
		p.pause--
		return group
	}
	wait := min(p.took/lingerPart, lingerMost)
	if p.timer == nil {
		p.timer = time.NewTimer(wait)
	} else {
		p.timer.Reset(wait)
	}
	defer p.timer.Stop()
	first, octets := hasty, 0
	for _, req := range group {
		octets += req.octets()
	}
	for hasty < want && octets < groupMax {
		select {
		case req := <-s.requests:
			group = append(group, req)
			octets += req.octets()
			if !req.batch.Lazy {
				hasty++
			}
		case <-p.timer.C:
			if hasty < 2*first || hasty < want/4 {
				p.pause = lingerPause
			}
			return group
		}
	}
	return group
}

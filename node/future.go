package node

import (
	"context"
	"time"
)

// futureEvery is how long what was counted is good for.
const futureEvery = time.Second

// Futures counts, for each account, the messages that wait for their release
// (RFC 4865 6). What was let in since the spool was asked, and may not be in it yet,
// is counted beside it; where that matters the spool is asked again.
type futures struct {
	count func(now time.Time) map[string]int // Spool.Futures
	turn  chan struct{}                      // holds a token while somebody asks
	found map[string]int                     // by the spool, a short while ago
	added map[string]int                     // since
	at    time.Time
}

func newFutures(count func(time.Time) map[string]int) *futures {
	return &futures{count: count, turn: make(chan struct{}, 1)}
}

// future reports whether an account may have another message that waits for its
// release, and counts one more if so.
func (n *Node) future(ctx context.Context, account string) (bool, error) {
	f, most := n.futures, n.gen.Load().cfg.Limits.FutureMessages
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	now := n.env.Now()
	old := f.found == nil || now.Sub(f.at) >= futureEvery || now.Before(f.at)
	doubtful := f.found[account] < most && f.found[account]+f.added[account] >= most
	if old || doubtful {
		f.found, f.added, f.at = f.count(now), map[string]int{}, now
	}
	if f.found[account]+f.added[account] >= most {
		return false, nil
	}
	f.added[account]++
	return true, nil
}

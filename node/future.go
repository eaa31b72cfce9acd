package node

import (
	"context"
	"time"
)

// futureEvery is how long what was found in the spool is good for, at least; it is
// longer where to look through it takes more than a tenth of that.
const futureEvery = time.Second

// Futures counts, for each account, the messages that wait for their release
// (RFC 4865 6). Many questions are answered from one look through the spool: what was
// let in since is counted beside it, and where that matters the spool is looked through
// again.
type futures struct {
	turn  chan struct{}  // holds a token while somebody asks
	found map[string]int // at
	added map[string]int // since
	at    time.Time
	until time.Time
}

func newFutures() *futures { return &futures{turn: make(chan struct{}, 1)} }

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
	old := !now.Before(f.until) || now.Before(f.at)
	doubtful := f.found[account] < most && f.found[account]+f.added[account] >= most
	if old || doubtful {
		if err := n.countFutures(ctx, now); err != nil {
			return false, err
		}
	}
	if f.found[account]+f.added[account] >= most {
		return false, nil
	}
	f.added[account]++
	return true, nil
}

// countFutures looks through the spool. The caller has the token.
func (n *Node) countFutures(ctx context.Context, now time.Time) error {
	f, found := n.futures, map[string]int{}
	for m, err := range n.spool.Scan(ctx) {
		if err != nil {
			return err
		}
		if m.Source.Account != "" && m.Release.After(now) {
			found[m.Source.Account]++
		}
	}
	f.found, f.added, f.at = found, map[string]int{}, n.env.Now()
	f.until = f.at.Add(max(futureEvery, 10*f.at.Sub(now)))
	return nil
}

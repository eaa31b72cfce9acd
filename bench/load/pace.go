package load

import (
	"context"
	"runtime"
	"time"
)

// dueMax is how many messages may be due while all sessions are busy, before the
// pacer waits. Each is told when it was due, so no latency is lost by that.
const dueMax = 1 << 16

// pauseMax is how long the pacer sleeps without a look whether all is over.
const pauseMax = 100 * time.Millisecond

// pace says when each message is due: at even distances from began on, whatever
// became of those before.
func (r *run) pace(ctx context.Context, began time.Time, over <-chan struct{}) {
	runtime.LockOSThread() // a thread that sleeps by itself wakes to the tenth of a millisecond
	defer runtime.UnlockOSThread()
	defer close(r.due)
	for n := 0; r.Messages == 0 || n < r.Messages; n++ {
		after := time.Duration(float64(n) / r.Rate * float64(time.Second))
		if r.For > 0 && after >= r.For {
			return
		}
		due := began.Add(after)
		for left := time.Until(due); left > 0; left = time.Until(due) {
			if Pause(left); ctx.Err() != nil || closed(over) {
				return
			}
		}
		select {
		case r.due <- due:
		case <-over:
			return
		case <-ctx.Done():
			return
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

package main

import (
	"sync"
	"sync/atomic"
	"time"
)

// A curve is what a picture is drawn from.
type curve struct {
	Picture string  `json:"picture"` // its title
	Name    string  `json:"name"`    // of the line
	Points  []point `json:"points"`
}

type point struct{ X, Y float64 }

// Pictures of what is accepted while the queue grows.
const (
	queuePicture = "accepted messages a second by the length of the queue, held"
	deadPicture  = "accepted messages a second by the length of the queue, all for dead hosts"
)

// watchParts is how many points a watched run gives.
const watchParts = 40

// watch counts while f sends, and keeps the rate over what was sent before as a
// curve where it is wanted.
func (b *bench) watch(sent *atomic.Int64, wanted bool, picture string, f func() error) {
	if !wanted {
		_ = f()
		return
	}
	var at []time.Time
	var n []int64
	over := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			at, n = append(at, time.Now()), append(n, sent.Load())
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	})
	_ = f()
	close(over)
	watcher.Wait()
	c := curve{Picture: picture, Name: ours}
	for step, i := max(1, len(at)/watchParts), 0; i+step < len(at); i += step {
		d := at[i+step].Sub(at[i]).Seconds()
		c.Points = append(c.Points, point{float64(n[i+step]), float64(n[i+step]-n[i]) / d})
	}
	b.curves = append(b.curves, c)
}

//go:build !linux

package load

import "time"

// Pause sleeps, for 100 ms at most.
func Pause(d time.Duration) { time.Sleep(min(d, pauseMax)) }

package load

import (
	"syscall"
	"time"
)

// Pause sleeps in the kernel, for 100 ms at most: a timer of the runtime may come a
// millisecond late where nothing else goes on. The caller looks at its context in
// between.
func Pause(d time.Duration) {
	for d = min(d, pauseMax); d > 0; {
		t, left := syscall.NsecToTimespec(int64(d)), syscall.Timespec{}
		if syscall.Nanosleep(&t, &left) != syscall.EINTR {
			return
		}
		d = time.Duration(left.Nano())
	}
}

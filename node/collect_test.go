package node

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 4 << 20: 100, 16 << 20: 100, 20 << 20: 80, 48 << 20: 50, 1 << 34: 50} {
		if got := garbagePercent(live); got != want {
			t.Errorf("garbagePercent(%d) = %d, want %d", live, got, want)
		}
	}
}

// What lives decides after each collection, and after the end no more.
func TestTakeGarbage(t *testing.T) {
	t.Setenv("GOGC", "")
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	percent := func() int { // which can only be read by setting it
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	until := func(what string, ok func() bool) {
		for deadline := time.Now().Add(time.Minute); !ok(); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: GOGC is %d", what, percent())
			}
			runtime.GC() // and the goroutine of finalizers runs beside it
			runtime.Gosched()
		}
	}
	stop := TakeGarbage()
	large := make([]byte, 256<<20)
	until("256 MiB live", func() bool { return percent() == percentLeast })
	runtime.KeepAlive(large)
	large = nil
	until("next to nothing lives", func() bool { return percent() > percentLeast })
	stop()
	if p := percent(); p != 100 {
		t.Errorf("after the end GOGC is %d", p)
	}
	for range 3 {
		runtime.GC()
		if p := percent(); p != 100 {
			t.Errorf("some time after the end GOGC is %d", p)
		}
	}
}

func TestGOGCStays(t *testing.T) {
	t.Setenv("GOGC", "70")
	was := debug.SetGCPercent(70)
	defer debug.SetGCPercent(was)
	TakeGarbage()()
	if p := debug.SetGCPercent(70); p != 70 {
		t.Errorf("GOGC is %d", p)
	}
}

package node

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 160, 4 << 20: 160, 10 << 20: 160, 16 << 20: 100, 20 << 20: 80, 48 << 20: 50, 1 << 34: 50} {
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

func TestWorthCollecting(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		what                 string
		collected, last, now counts
		want                 bool
	}{
		{"a crowd came, and is quiet", counts{10 * mib, 5 * mib, mib}, counts{20 * mib, 5 * mib, mib}, counts{20*mib + 1000, 5 * mib, mib}, true},
		{"it is still coming", counts{10 * mib, 5 * mib, mib}, counts{20 * mib, 5 * mib, mib}, counts{21 * mib, 5 * mib, mib}, false},
		{"little since", counts{10 * mib, 5 * mib, mib}, counts{11 * mib, 5 * mib, mib}, counts{11 * mib, 5 * mib, mib}, false},
		{"little since, but for stacks", counts{10 * mib, 5 * mib, mib}, counts{11 * mib, 5 * mib, 9 * mib}, counts{11 * mib, 5 * mib, 9 * mib}, true},
		{"little beside what lives", counts{10 * mib, 100 * mib, mib}, counts{20 * mib, 100 * mib, mib}, counts{20 * mib, 100 * mib, mib}, false},
	} {
		if got := worthCollecting(c.collected, c.last, c.now); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// What was left is collected once, at rest.
func TestRestCollects(t *testing.T) {
	forced := func() uint32 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.NumForcedGC
	}
	ticks, done := make(chan time.Time), make(chan struct{})
	defer close(done)
	was := debug.SetGCPercent(-1) // no collection but those that are asked for
	defer debug.SetGCPercent(was)
	go rest(ticks, done)
	before := forced()
	for range 3 {
		ticks <- time.Time{}
	}
	if n := forced(); n != before {
		t.Errorf("%d collections of nothing", n-before)
	}
	for range 100 {
		runtime.KeepAlive(make([]byte, 1<<20))
	}
	for range 3 { // it grew, it rests, and the one before is over
		ticks <- time.Time{}
	}
	if n := forced(); n == before {
		t.Error("what was left is not collected")
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

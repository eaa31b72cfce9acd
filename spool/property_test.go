package spool

import (
	"flag"
	"fmt"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/postrider/postrider/vfs"
)

// Whatever is done to a spool, in whatever order, with restarts, kills and power
// cuts in between, it holds what the model holds.
func TestSpoolIsItsModel(t *testing.T) {
	if testing.Short() {
		t.Skip("is a crash test of chance")
	}
	flag.Set("rapid.nofailfile", "true") // the seed says it all
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64Range(1, 1<<40).Draw(rt, "seed")
		names := make([]int, len(steps))
		for i := range steps {
			names[i] = i
		}
		plan := rapid.SliceOfN(rapid.SampledFrom(names), 1, 80).Draw(rt, "steps")
		err := fmt.Errorf("not run")
		synctest.Test(t, func(*testing.T) {
			d := newDriver(seed, vfs.NewMem())
			d.fs.SetHook(d.hook)
			if d.start() {
				d.stepFeed()
			}
			for _, i := range plan {
				if d.step(i); d.over() {
					break
				}
			}
			d.close()
			if err = d.err; err == nil {
				s := d.survivor(d.fs.Crash(vfs.KeepNone), 1)
				if s.open(false); !s.over() {
					s.afterlife()
				}
				s.close()
				err = s.err
			}
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

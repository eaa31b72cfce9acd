package sim

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed alone")
	storyFlag = flag.Bool("story", false, "print all that happened")
	opsFlag   = flag.Bool("ops", false, "the operations of disks among it")
	seedsFlag = flag.Int("seeds", 40, "run this many seeds")
	firstFlag = flag.Uint64("first", 1, "the first of them")

	shrinkFlag = flag.Int("shrink", 80, "runs that may be spent to make the story of a seed that fails short; 0: none")
)

// Worlds come and go, and memory is there for many: the collector may wait, but not so
// long that fresh memory costs more than to collect.
func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(500)
	debug.SetMemoryLimit(2 << 30)
	os.Exit(m.Run())
}

// letters is how many there are in a world beside some forty that nobody's client would
// send, and faultsMin how many faults have to strike in each for its end to mean anything.
const (
	letters   = 165
	faultsMin = 20
)

// A run is what came of one plan.
type run struct {
	tally Tally
	story []string
	err   error
}

// play runs a plan in a bubble of its own.
func play(t *testing.T, p *Plan) (r run) {
	synctest.Test(t, func(t *testing.T) {
		s, err := NewSite(p)
		if err == nil {
			s.Ops = *opsFlag
			r.tally, err = s.Run(context.Background())
		}
		r.err = err
		r.story = s.Trace.Lines()
		s.Abandon()
	})
	r.tally.Digest = digestOf(r.story)
	return r
}

// trace is the line that names a run.
func (r run) trace() string {
	return fmt.Sprintf("trace %s faults %d recovered %d", r.tally.Digest, r.tally.Faults, r.tally.Recovered)
}

// failed says what is wrong with a run, and how to see it again: its story, made
// as short as a few more runs can.
func failed(t *testing.T, p *Plan, r run) {
	if *shrinkFlag == 0 {
		t.Errorf("seed %d: %v", p.Seed, r.err)
		return
	}
	again := play(t, p)
	if again.tally.Digest != r.tally.Digest {
		t.Error(otherwise(p.Seed, r, again))
	}
	q, short := shrink(t, p, r)
	t.Errorf("seed %d: %v\n%s\n%s\nshortest: %v: %s\nagain: go test ./internal/sim -run TestSite -seed=%d -v", p.Seed, r.err, r.trace(),
		tell(r.story, r.err), short.err, q, p.Seed)
}

// Whatever befalls, nothing that was acknowledged is lost.
func TestSite(t *testing.T) {
	if *seedFlag != 0 {
		p := NewPlan(*seedFlag, letters)
		r := play(t, p)
		if *storyFlag {
			t.Log(strings.Join(r.story, "\n"))
		}
		t.Log(r.trace())
		if r.err != nil {
			failed(t, p, r)
		}
		return
	}
	n := *seedsFlag
	if testing.Short() {
		n = min(n, 4)
	}
	all := seeds(t, *firstFlag, n)
	t.Log(all.String())
	if never := all.Never(); n >= 500 && len(never) > 0 {
		t.Errorf("these faults never struck: %v", never)
	}
}

// One seed is one story, octet by octet, whatever the scheduler does.
func TestSameStory(t *testing.T) {
	n := uint64(4)
	if testing.Short() {
		n = 1
	}
	for seed := uint64(1); seed <= n; seed++ {
		p := NewPlan(seed, letters)
		first, second := play(t, p), play(t, p)
		if first.tally.Digest != second.tally.Digest {
			t.Error(otherwise(seed, first, second))
		}
	}
}

// otherwise says where two runs of one seed part.
func otherwise(seed uint64, a, b run) string {
	i := 0
	for i < min(len(a.story), len(b.story)) && a.story[i] == b.story[i] {
		i++
	}
	line := func(r run) string {
		if i == len(r.story) {
			return "(its end)"
		}
		return r.story[i]
	}
	return fmt.Sprintf("seed %d does not reproduce: %s, then %s; at line %d:\n%s\n%s", seed, a.trace(), b.trace(), i+1, line(a), line(b))
}

// seeds runs n seeds, as many at a time as there are processors. Each is a test in
// turn of one of so many workers: a test keeps those that run beside one another
// until all have ended, and with them all of their worlds.
func seeds(t *testing.T, first uint64, n int) (all Tally) {
	var mu sync.Mutex
	var next atomic.Uint64
	t.Run("seeds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker", worker), func(t *testing.T) {
				t.Parallel()
				for {
					seed := first + next.Add(1) - 1
					if seed >= first+uint64(n) {
						return
					}
					t.Run(fmt.Sprint(seed), func(t *testing.T) {
						tally := judged(t, seed)
						mu.Lock()
						defer mu.Unlock()
						all.Add(tally)
					})
				}
			})
		}
	})
	return all
}

// judged runs a seed, and some of them twice.
func judged(t *testing.T, seed uint64) Tally {
	p := NewPlan(seed, letters)
	r := play(t, p)
	switch {
	case r.err != nil:
		failed(t, p, r)
	case r.tally.Faults < faultsMin:
		t.Errorf("seed %d: %d faults are too few", seed, r.tally.Faults)
	case seed%50 == 0:
		r.tally.Retold = 1
		if again := play(t, p); again.tally.Digest != r.tally.Digest {
			t.Error(otherwise(seed, r, again))
			r.tally.Changed = 1
		}
	}
	if t.Failed() {
		r.tally.Wrong = []string{fmt.Sprintf("%d: %v", seed, cmp.Or(r.err, errors.New("another story, or too few faults")))}
	}
	return r.tally
}

// tell shortens a story to what an error is about: the faults, and the lines of
// the letter that it names, and of its messages.
func tell(story []string, err error) string {
	token := ""
	for w := range strings.FieldsSeq(err.Error()) {
		if strings.HasPrefix(w, "token-") {
			token = strings.TrimRight(w, ":,")
		}
	}
	var out []string
	for _, l := range story {
		if strings.Contains(l, "FAULT") || token != "" && strings.Contains(l, token) || strings.Contains(l, ": up") {
			out = append(out, l)
		}
	}
	return strings.Join(out[max(0, len(out)-100):], "\n")
}

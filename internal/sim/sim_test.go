package sim

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed alone")
	storyFlag = flag.Bool("story", false, "print all that happened")
	seedsFlag = flag.Int("seeds", 40, "run this many seeds")
	firstFlag = flag.Uint64("first", 1, "the first of them")
)

// letters is how many there are in a world.
const letters = 200

// runSeed runs one world in a bubble of its own.
func runSeed(t *testing.T, p *Plan) (tally Tally, story []string, err error) {
	synctest.Test(t, func(t *testing.T) {
		var s *Site
		s, tally, err = Run(context.Background(), p)
		story = s.Trace.Lines()
		s.Abandon()
	})
	tally.Digest = digestOf(story)
	return tally, story, err
}

// Whatever befalls, nothing that was acknowledged is lost.
func TestSite(t *testing.T) {
	first, n := *firstFlag, uint64(*seedsFlag)
	if testing.Short() {
		n = min(n, 5)
	}
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	var mu sync.Mutex
	var all Tally
	t.Run("seeds", func(t *testing.T) {
		for seed := first; seed < first+n; seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				tally, story, err := runSeed(t, NewPlan(seed, letters))
				if err != nil {
					t.Errorf("seed %d: %v\n%s\nagain: go test ./internal/sim -run TestSite -seed=%d -v", seed, err, tell(story, err), seed)
				}
				if *storyFlag {
					t.Log(strings.Join(story, "\n"))
				}
				if *seedFlag != 0 {
					t.Logf("trace %s faults %d recovered %d", tally.Digest, tally.Faults, tally.Recovered)
				}
				mu.Lock()
				defer mu.Unlock()
				all.Add(tally)
			})
		}
	})
	t.Logf("%d letters to %d recipients, %d acknowledged; recipients: %d delivered, %d reported, %d extra copies, %d lost to turned bits",
		all.Letters, all.Recipients, all.Acked, all.Delivered, all.Reported, all.Duplicates, all.Lost)
	t.Logf("%d faults; %d commits and %d journals looked into; at most %d files open", all.Faults, all.Commits, all.Wheres, all.MostOpened)
	for _, k := range slices.Sorted(maps.Keys(all.Kinds)) {
		t.Logf("  %-20s %d", k, all.Kinds[k])
	}
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
	return strings.Join(out[max(0, len(out)-200):], "\n")
}

package sim

import (
	"context"
	"flag"
	"testing"
	"testing/synctest"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed alone")
	seedsFlag = flag.Int("seeds", 200, "run this many seeds")
)

// Whatever crashes, nothing that was acknowledged is lost.
func TestSite(t *testing.T) {
	first, last := uint64(1), uint64(*seedsFlag)
	if testing.Short() {
		last = 20
	}
	if *seedFlag != 0 {
		first, last = *seedFlag, *seedFlag
	}
	var all Tally
	for seed := first; seed <= last; seed++ {
		synctest.Test(t, func(t *testing.T) {
			got, err := Run(context.Background(), seed, 20)
			if err != nil {
				t.Errorf("seed %d: %v\nagain: go test ./internal/sim -run TestSite -seed=%d -v", seed, err, seed)
			}
			all.Acked += got.Acked
			all.Delivered += got.Delivered
			all.Reported += got.Reported
			all.Duplicates += got.Duplicates
			all.Crashes += got.Crashes
			all.Cuts += got.Cuts
		})
	}
	t.Logf("%d crashes, %d connections cut; %d messages acknowledged; recipients: %d delivered, %d reported, %d extra copies",
		all.Crashes, all.Cuts, all.Acked, all.Delivered, all.Reported, all.Duplicates)
	if *seedFlag == 0 && (all.Acked < 5*int(last) || all.Reported == 0 || all.Crashes < int(last) || all.Cuts == 0) {
		t.Error("too little happened for the checkers to see anything")
	}
}

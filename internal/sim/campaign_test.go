package sim

import (
	"bufio"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"
)

var (
	campaignFlag = flag.String("campaign", "", "the file that a campaign writes, and goes on from")
	untilFlag    = flag.Duration("for", 8*time.Hour, "how long a campaign runs at most, all its parts together")
)

// A part of a campaign is one line of its file.
type part struct {
	First   uint64  `json:"first"`
	Seeds   int     `json:"seeds"`
	Seconds float64 `json:"seconds"`
	Failed  bool    `json:"failed"`
	Tally   Tally   `json:"tally"`
}

// partSeeds is how many seeds a part has.
const partSeeds = 200

// A campaign runs seeds until there are -seeds of them, or for so long. It can be
// stopped at any time, and goes on where it was.
func TestCampaign(t *testing.T) {
	if *campaignFlag == "" {
		t.Skip("only with -campaign=FILE: make campaign")
	}
	next, spent, total := uint64(1), 0.0, Tally{}
	f, err := os.OpenFile(*campaignFlag, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var p part
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			t.Fatalf("%s: %v", *campaignFlag, err)
		}
		next, spent = max(next, p.First+uint64(p.Seeds)), spent+p.Seconds
		total.Add(p.Tally)
	}
	for next <= uint64(*seedsFlag) && spent < untilFlag.Seconds() && !t.Failed() {
		began := time.Now()
		p := part{First: next, Seeds: min(partSeeds, *seedsFlag-int(next)+1)}
		p.Tally = seeds(t, p.First, p.Seeds)
		p.Seconds, p.Failed = time.Since(began).Seconds(), t.Failed()
		line, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
		total.Add(p.Tally)
		next, spent = next+uint64(p.Seeds), spent+p.Seconds
		t.Logf("%d seeds in %.0f s", next-1, spent)
	}
	t.Log(total.String())
	if never := total.Never(); len(never) > 0 {
		t.Errorf("these faults never struck: %v", never)
	}
}

//go:build unix

package sim

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	campaignFlag = flag.String("campaign", "", "the file that a campaign writes, and goes on from")
	untilFlag    = flag.Duration("for", 8*time.Hour, "how much time of the machine a campaign takes at most, all its parts together")
	commitFlag   = flag.String("commit", "", "what was built, for the file of a campaign")
)

// A part of a campaign is one line of its file.
type part struct {
	Commit  string    `json:"commit"`
	Machine string    `json:"machine"`
	Date    time.Time `json:"date"` // of its end
	First   uint64    `json:"first"`
	Seeds   int       `json:"seeds"`
	Failed  []string  `json:"failed"`      // seeds, and why
	Seconds float64   `json:"seconds"`     // on the clock
	CPU     float64   `json:"cpu_seconds"` // of all processors
	Never   []string  `json:"never"`       // kinds of faults that did not strike
	Tally   Tally     `json:"tally"`
}

// partSeeds is how many seeds a part has.
const partSeeds = 200

// A campaign runs seeds until there are -seeds of them, or until it has had so much
// time of all processors. It can be stopped at any time, and goes on where it was;
// a seed that fails is written down, and does not end it.
func TestCampaign(t *testing.T) {
	if *campaignFlag == "" {
		t.Skip("only with -campaign=FILE: make campaign")
	}
	f, err := os.OpenFile(*campaignFlag, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	next, spent, total := uint64(1), 0.0, Tally{}
	add := func(p *part) {
		next, spent = max(next, p.First+uint64(p.Seeds)), spent+p.CPU/float64(runtime.NumCPU())
		total.Add(p.Tally)
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var p part
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			t.Fatalf("%s: %v", *campaignFlag, err)
		}
		add(&p)
	}
	for next <= uint64(*seedsFlag) && spent < untilFlag.Seconds() {
		began, used := time.Now(), cpuSeconds(t)
		p := part{Commit: *commitFlag, Machine: machine(), First: next, Seeds: min(partSeeds, *seedsFlag-int(next)+1)}
		p.Tally = seeds(t, p.First, p.Seeds)
		p.Failed, p.Never, p.Tally.Wrong = p.Tally.Wrong, p.Tally.Never(), nil
		p.Date, p.Seconds, p.CPU = time.Now().UTC(), time.Since(began).Seconds(), cpuSeconds(t)-used
		line, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
		add(&p)
		fmt.Printf("%d seeds, %.0f s of the machine; the last %d: %.0f s of processors, failed: %q\n", next-1, spent, p.Seeds, p.CPU, p.Failed)
	}
	t.Log(total.String())
	if never := total.Never(); len(never) > 0 {
		t.Errorf("these faults never struck: %v", never)
	}
}

// cpuSeconds is what this process has used of all processors.
func cpuSeconds(t *testing.T) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// machine says on what a campaign runs.
func machine() string {
	model := ""
	info, _ := os.ReadFile("/proc/cpuinfo") // elsewhere there is none
	for line := range strings.Lines(string(info)) {
		if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
			model = strings.TrimSpace(value)
		}
	}
	return fmt.Sprintf("%d × %s, %s/%s, %s", runtime.NumCPU(), cmp.Or(model, "a processor"), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

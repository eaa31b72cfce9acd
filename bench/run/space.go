package main

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/postrider/postrider/bench/load"
)

const (
	spaceShort  = 30 * time.Second
	spaceLong   = time.Hour
	spaceWindow = 3 * time.Second
	spaceRate   = 600 // messages a second
	spaceMargin = 256 << 20
)

// space keeps mixed traffic up: of the messages one in twenty stays in the queue,
// of 4 KiB to 256 KiB. It looks at what the spool takes on the disk at the end,
// and at the latency of the 250 while segments go.
func space(b *bench) ([]row, error) {
	h, err := b.sink(settings{})
	if err != nil {
		return nil, err
	}
	defer h.stop()
	i, err := startPostrider(b, mode{next: h.addr, extra: "route \"held.example\" { via = \"hold\" }\n"})
	if err != nil {
		return nil, err
	}
	defer i.end()
	length := spaceShort
	if b.long {
		length = spaceLong
	}
	length = time.Duration(float64(length) * min(1, b.scale))
	var live int64
	calm, busy := series{}, series{}
	for began, turn := time.Now(), uint64(0); time.Since(began) < length; turn++ {
		before := i.segments()
		octets, p99, err := b.mixed(i.addr, turn)
		if err != nil {
			return nil, err
		}
		live += octets
		if gone(before, i.segments()) {
			busy.add(ours, p99)
		} else {
			calm.add(ours, p99)
		}
	}
	i.quiet(30 * time.Second)
	disk, _ := i.spoolSize()
	r := row{Work: "the spool on the disk after " + length.String() + " of mixed traffic", Unit: "MiB", Order: []string{ours, "live"},
		Figures: map[string]spread{ours: spreadOf([]float64{float64(disk) / (1 << 20)}), "live": spreadOf([]float64{float64(live) / (1 << 20)})}}
	limit := 2*float64(live) + spaceMargin
	r.Checks = append(r.Checks, atMost("at most 2 x live + 256 MiB: "+number(limit/(1<<20)), float64(disk)/(1<<20), limit/(1<<20)))
	p := row{Work: "p99 of the 250 in 3 s, while segments go", Unit: "ms", Order: []string{ours, "while none goes"}, Figures: map[string]spread{ours: busy.of(ours), "while none goes": calm.of(ours)}}
	if b.long && busy.of(ours).known() && calm.of(ours).known() { // half a minute has too few of each to tell
		p.Checks = append(p.Checks, atMost("# x that while none goes", busy.of(ours).Median/calm.of(ours).Median, 2))
	}
	return []row{r, p}, nil
}

// mixed sends for a while at an even rate, and returns how many octets of it stay
// in the queue.
func (b *bench) mixed(addr string, turn uint64) (octets int64, p99 float64, err error) {
	size := []int64{4 << 10, 4 << 10, 4 << 10, 64 << 10, 256 << 10}[turn%5]
	rate := min(spaceRate, float64(spaceRate)*(32<<10)/float64(size))
	kinds := []load.Source{
		{To: "r@sink.example", Rate: rate * 0.95, Sessions: 50},
		{To: "r@held.example", Rate: rate * 0.05, Sessions: 5},
	}
	sums, errs := make([]load.Tally, len(kinds)), make([]error, len(kinds))
	done := make(chan int)
	for k, s := range kinds {
		s.Server, s.Size, s.From, s.For, s.Reuse, s.Seed = addr, size, "s@bench.example", spaceWindow, true, turn
		go func() {
			sums[k], errs[k] = b.send(s)
			done <- k
		}()
	}
	for range kinds {
		<-done
	}
	return sums[1].Bytes, sums[0].P99, cmp.Or(errs[0], errs[1])
}

// segments are the files of the log.
func (i *instance) segments() (names []string) {
	entries, _ := os.ReadDir(filepath.Join(i.dir, "data", "spool", "seg"))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// gone reports whether a segment was removed.
func gone(before, after []string) bool {
	return slices.ContainsFunc(before, func(name string) bool { return !slices.Contains(after, name) })
}

// logSize is how long the log is, without what is reserved for its last segment,
// and what lies beside it.
func (i *instance) logSize() (octets int64) {
	_ = filepath.Walk(filepath.Join(i.dir, "data", "spool"), func(name string, fi os.FileInfo, err error) error {
		switch {
		case err != nil || !fi.Mode().IsRegular():
		case filepath.Ext(name) == ".seg":
			content, _ := os.ReadFile(name)
			octets += int64(len(bytes.TrimRight(content, "\x00")))
		default:
			octets += fi.Size()
		}
		return nil
	})
	return octets
}

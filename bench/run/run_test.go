package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/bench/load"
	"github.com/postrider/postrider/vfs"
)

// TestMain plays a part for the tests, as main does.
func TestMain(m *testing.M) {
	if is, err := child(os.Args[1:]); is {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		all  []float64
		want string
	}{
		{nil, "-"},
		{[]float64{3}, "3.00"},
		{[]float64{3, 1, 2}, "2.00 (1.00-3.00)"},
		{[]float64{1000, 4000, 2000, 3000}, "2,500 (1,000-4,000)"},
	} {
		if got := spreadOf(tt.all).String(); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.all, got, tt.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 0.0123: "0.012", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234.4: "1,234", 1234567: "1,234,567", -1234: "-1,234"} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

// A ratio is the median of those of the rounds, and a round that one lacks does
// not count.
func TestRatios(t *testing.T) {
	s := series{ours: {10, 30, 90}, "Postfix": {1, 2}, "Exim": {0, 3, 3}}
	if got := s.ratios(ours, "Postfix"); got.Median != 12.5 || len(got.All) != 2 {
		t.Errorf("%+v", got)
	}
	if got := s.ratios(ours, "Exim"); len(got.All) != 2 { // nothing is divided by zero
		t.Errorf("%+v", got)
	}
	r := rowOf("work", "unit", s, ours, "Postfix", "Haraka")
	if diff := cmp.Diff([]string{ours, "Postfix"}, r.Order); diff != "" {
		t.Error(diff)
	}
	r.beside(s, "# x NAME", 20, "Exim", "Postfix")
	r.beside(s, "# x NAME", 20, "Haraka") // was not measured
	if len(r.Checks) != 1 || r.Checks[0].What != "# x Exim" || r.Checks[0].Reached != (r.Checks[0].Got >= 20) {
		t.Errorf("%+v", r.Checks)
	}
}

func someReport(scenario string) report {
	s := series{ours: {900, 1100}, "Postfix": {100, 100}}
	a := rowOf("relay", "messages/s", s, ours, "Postfix")
	a.beside(s, "# x Postfix", 10, "Postfix")
	a.Checks = append(a.Checks, atMost("#", 3, 2))
	b := rowOf("memory", "MiB", s, ours)
	a.Scenario, b.Scenario = scenario, scenario
	return report{Conditions: "now, here", Rows: []row{a, b}, Curves: []curve{{Picture: sessionsPicture, Name: ours, Points: []point{{1, 10}, {20, 30}}}}}
}

func TestTable(t *testing.T) {
	want := `now, here

| work              | Postrider         | beside                 | target               | got  | reached |
| ----------------- | ----------------- | ---------------------- | -------------------- | ---- | ------- |
| relay, messages/s | 1,000 (900-1,100) | Postfix 100 (100-100)  | at least 10.0 x Postfix | 10.0 | yes     |
`
	got := someReport("relay").String()
	squeeze := func(s string) []string {
		var lines []string
		for line := range strings.Lines(s) {
			lines = append(lines, strings.Join(strings.Fields(strings.ReplaceAll(line, "-", "")), " "))
		}
		return lines
	}
	if diff := cmp.Diff(squeeze(want), squeeze(got)[:5]); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(got, "at most 2.00") || !strings.Contains(got, "| no ") || !strings.Contains(got, "memory, MiB") {
		t.Error(got)
	}
}

// The results survive JSON, and a new run takes the place of what it has measured
// anew.
func TestDocs(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := someReport("relay").writeDocs(); err == nil || !strings.Contains(err.Error(), "root of the module") {
		t.Errorf("no document: %v", err)
	}
	if err := os.MkdirAll("docs", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(docsFile, []byte("no marks"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := someReport("relay").writeDocs(); err == nil || !strings.Contains(err.Error(), "no lines") {
		t.Errorf("no marks: %v", err)
	}
	if err := os.WriteFile(docsFile, []byte("before\n"+tableBegin+"old\n"+tableEnd+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"relay", "accept", "relay"} {
		if err := someReport(name).writeDocs(); err != nil {
			t.Fatal(err)
		}
	}
	doc, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	text := string(doc)
	if !strings.HasPrefix(text, "before\n"+tableBegin) || !strings.HasSuffix(text, tableEnd+"after\n") || strings.Contains(text, "old") {
		t.Error(text)
	}
	if n := strings.Count(text, "| relay, messages/s"); n != 2 { // of accept, and of the last relay
		t.Errorf("%d tables:\n%s", n, text)
	}
	var all []report
	raw, err := os.ReadFile(figuresFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &all); err != nil || len(all) != 2 || len(all[1].Curves) != 1 || all[0].Rows[0].Scenario != "accept" {
		t.Errorf("%v: %s", err, raw)
	}
	if err := os.WriteFile(figuresFile, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := someReport("relay").writeDocs(); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("broken results: %v", err)
	}
}

// A picture is XML, and holds what it is of.
func TestSVG(t *testing.T) {
	for _, log := range []bool{true, false} {
		lines := []curve{{Name: "A & B", Points: []point{{1, 10}, {20, 30}, {200, 25}}}, {Name: "empty"}, {Name: "one", Points: []point{{5, 7}}}}
		s := svg("a < b", "x", log, lines)
		for d := xml.NewDecoder(strings.NewReader(s)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v:\n%s", err, s)
			}
		}
		if strings.Count(s, "<polyline") != 2 || !strings.Contains(s, "A &amp; B") || strings.Contains(s, "%!") || strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
			t.Error(s)
		}
	}
	if s := svg("nothing", "x", true, nil); strings.Contains(s, "NaN") || strings.Contains(s, "Inf") {
		t.Error(s)
	}
	for v, want := range map[float64]float64{0: 1, 0.7: 1, 1: 1, 3: 5, 2300: 2500, 999: 1000, 6000: 10000} {
		if got := nice(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("nice(%v) is %v, want %v", v, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	if o, names, err := parse([]string{"-rounds", "2", "-long", "relay", "local"}); err != nil || o.rounds != 2 || !o.long || len(names) != 2 {
		t.Errorf("%+v, %v, %v", o, names, err)
	}
	for _, tt := range []struct{ args, want string }{
		{"realy", "there are: relay, accept"}, {"-rounds 0", "more than nothing"}, {"-scale -1", "more than nothing"}, {"-fast", "fast"},
	} {
		if _, _, err := parse(strings.Fields(tt.args)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.want)
		}
	}
	var b bytes.Buffer
	list(&b)
	if n := strings.Count(b.String(), "\n"); n != len(scenarios()) {
		t.Errorf("%d lines:\n%s", n, &b)
	}
}

func TestHosts(t *testing.T) {
	seen := map[string]bool{}
	for n := range 10_000 {
		a := hostOf(blackHoleNet, n)
		if seen[a.String()] || !a.IsLoopback() {
			t.Fatalf("host %d is %v", n, a)
		}
		seen[a.String()] = true
	}
}

// Nobody who connects to a black hole hears anything.
func TestBlackHole(t *testing.T) {
	b := &bench{ctx: t.Context()}
	defer func() {
		for _, stop := range b.stops {
			stop()
		}
	}()
	l, err := net.Listen("tcp", hostOf(blackHoleNet, 0).String()+":0")
	if err != nil {
		t.Skip(err) // not every address of the loopback network is there
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	if err := b.blackHoles(2, port); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("%v:%d", hostOf(blackHoleNet, n), port), 50*time.Millisecond)
		if timeout, ok := err.(net.Error); !ok || !timeout.Timeout() {
			t.Errorf("host %d: %v, %v", n, c, err)
		}
	}
}

// A slow disk takes its time for each flush, one after another, and for nothing
// else.
func TestSlowDisk(t *testing.T) {
	const delay = 20 * time.Millisecond
	disk := &platter{busy: make(chan struct{}, 1)}
	fsys := slowFS{vfs.NewMem(), disk}
	disk.delay.Store(int64(delay))
	began := time.Now()
	f, err := fsys.OpenFile("a", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	for range 2 {
		go func() { done <- f.Sync() }()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := fsys.SyncDir("."); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took < 3*delay {
		t.Errorf("three flushes took %v", took)
	}
}

// What a group has used is counted when its processes have ended too, and stop
// leaves none of them.
func TestGroup(t *testing.T) {
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		t.Skip(err)
	}
	burn := `i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done`
	g, err := launch("test", t.TempDir(), []string{"A=b"}, "sh", "-c", "sh -c '"+burn+"'; echo done $A; sleep 1000 & trap : TERM; sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	defer g.kill()
	wait := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); <-time.After(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain: %s", what)
			}
		}
	}
	wait("three processes", func() bool { return len(g.pids()) == 3 })
	if g.cpu() <= 0.01 {
		t.Errorf("the work of a child that has ended took %v s", g.cpu())
	}
	if g.pss() <= 0 {
		t.Error("it has no memory")
	}
	if got := g.said(); !strings.Contains(got, "done b\n") {
		t.Errorf("it said %q", got)
	}
	pids := g.pids()
	g.kill()
	wait("the end", func() bool {
		for _, pid := range pids {
			if syscall.Kill(pid, 0) == nil {
				return false
			}
		}
		return true
	})
}

// One that refuses a tenth of what it gets is measured by the rest; one that
// refuses more is not.
func TestSendWantsNextToAll(t *testing.T) {
	b := &bench{ctx: t.Context()}
	for share, good := range map[float64]bool{0: true, 0.02: true, 0.5: false} {
		h, err := b.sink(settings{Refuse: share})
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.send(load.Source{Server: h.addr, Messages: 200, To: "r@b.example", Reuse: true})
		if (err == nil) != good {
			t.Errorf("%v refused: %v", share, err)
		}
		h.stop()
	}
}

// The scenarios run, small: what they measure is there, and nothing is left.
func TestScenarios(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the program")
	}
	dir := t.TempDir()
	if err := newBenchHere(dir); err != nil {
		t.Skip(err) // the folder for tests is in memory
	}
	binary := filepath.Join(t.TempDir(), "postrider")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/postrider/postrider/cmd/postrider").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := newBench(t.Context(), options{rounds: 1, scale: 0.002, dir: dir, binary: binary, peers: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	b.lost = map[string]bool{}
	for name, figures := range map[string]int{"accept": 2, "fanout": 3} {
		for _, s := range scenarios() {
			if s.name != name {
				continue
			}
			rows, err := s.run(b)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if len(rows) != figures || !rows[0].Figures[ours].known() || rows[0].Figures[ours].Median <= 0 {
				t.Errorf("%s: %+v", name, rows)
			}
		}
	}
	b.close()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// newBenchHere reports whether a bench can be in a folder.
func newBenchHere(dir string) error {
	b, err := newBench(context.Background(), options{dir: dir, binary: os.Args[0]})
	if err == nil {
		b.close()
	}
	return err
}

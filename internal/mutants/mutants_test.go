package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The list fits the code: what a defect replaces is there, once.
func TestList(t *testing.T) {
	all, err := defects()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	hard := 0
	for _, d := range all {
		if names[d.Name] {
			t.Errorf("%s is there twice", d.Name)
		}
		names[d.Name] = true
		if d.Needs == needsCrash || d.Needs == needsInterleaving {
			hard++
		}
		src, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(d.File)))
		if err != nil {
			t.Errorf("%s: %v", d.Name, err)
			continue
		}
		if _, err := d.apply(string(src)); err != nil {
			t.Error(err)
		}
	}
	if len(all) < leastDefects || hard < leastHard {
		t.Errorf("%d defects, %d of them need a crash or an interleaving: at least %d and %d are wanted", len(all), hard, leastDefects, leastHard)
	}
}

// How many defects the list has at least, and how many of them need a crash or an
// interleaving.
const (
	leastDefects = 40
	leastHard    = 15
)

func TestParse(t *testing.T) {
	const good = "words for people\n\ndefect a\nfile x/y.go\nneeds crash\nwhat It is wrong.\n--- old\n\tone\n\ttwo\n--- new\n--- end\nmore words\n"
	all, err := parse(good)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	d := all[0]
	if d.Name != "a" || d.pkg() != "./x" || d.What != "It is wrong." || d.old != "\tone\n\ttwo" || d.new != "" {
		t.Errorf("%+v", d)
	}
	for _, bad := range []string{
		strings.Replace(good, "needs crash", "needs luck", 1),
		strings.Replace(good, "what It is wrong.\n", "", 1),
		strings.Replace(good, "--- new", "\tthree", 1),
		strings.Replace(good, "--- old", "-- old", 1),
		strings.Replace(good, "--- new\n", "--- new\n\tone\n\ttwo\n", 1),
	} {
		if all, err := parse(bad); err == nil {
			t.Errorf("%q is taken: %+v", bad, all)
		}
	}
	if got, err := d.apply("zero\n\tone\n\ttwo\nthree\n"); err != nil || got != "zero\n\nthree\n" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"one\n", "\tone\n\ttwo\n\tone\n\ttwo\n"} {
		if got, err := d.apply(bad); err == nil {
			t.Errorf("%q is taken: %q", bad, got)
		}
	}
}

func TestRead(t *testing.T) {
	for _, tt := range []struct{ name, out, checker, seed, line string }{
		{"pass", "=== RUN   TestSite\n    site_test.go:9: seed 3: 4 faults\n--- PASS: TestSite (1.0s)\nPASS\n", "", "", ""},
		{"checker", "=== RUN   TestSite\n    sim_test.go:32: seed 17: acked_is_kept: a message\n        again: go test -seed=17\n--- FAIL: TestSite (1.0s)\nFAIL\n",
			"acked_is_kept", "17", "sim_test.go:32: seed 17: acked_is_kept: a message"},
		{"no checker", "    a_test.go:9: seed 12: no such file\n--- FAIL: TestSite (1.0s)\nFAIL\n", "TestSite", "12", "seed 12: no such file"},
		{"words after the end", "--- FAIL: TestCrash (1.0s)\n    a_test.go:9: crash before operation 7\nFAIL\n", "TestCrash", "", "crash before operation 7"},
		{"panic", "=== RUN   TestSite\npanic: test timed out after 1m0s\n", "hang", "", "panic: test timed out after 1m0s"},
		{"deadlock", "panic: deadlock: all goroutines in bubble are blocked\n", "deadlock", "", "panic: deadlock: all goroutines in bubble are blocked"},
		{"no tests", "testing: warning: no tests to run\nPASS\n", "", "", ""},
		{"cut short", "=== RUN   TestSite\n", "", "", ""},
	} {
		got := read(bufio.NewReader(strings.NewReader(tt.out)))
		switch {
		case got == nil && tt.checker == "":
		case got == nil || *got != (finding{tt.checker, tt.seed, tt.line}):
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}

func TestTable(t *testing.T) {
	results := []result{
		{defect: defect{Name: "a", What: "It is wrong.", File: "x/y.go", Needs: "crash"}, Counts: true, Finder: "simulator", Checker: "drains", Seed: "4", Seconds: 1.25},
		{defect: defect{Name: "b", What: "It is worse.", File: "x/y.go", Needs: "plain"}, Counts: true},
		{defect: defect{Name: "c", What: "It is seen.", File: "x/y.go", Needs: "plain"}},
	}
	got := table(results)
	for _, want := range []string{
		"| a: It is wrong. | x/y.go | crash | simulator | drains | 4 | 1.2 |\n",
		"| b: It is worse. | x/y.go | plain | **nothing** |  |  |  |\n",
		"| c: It is seen. | x/y.go | plain | does not count |  |  |  |\n",
		"\n1 of 3 found\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if foundAll(results, 3, false) || foundAll(results, 3, true) || !foundAll(results[:2], 2, true) || !foundAll(results[:1], 1, false) ||
		foundAll(results[:1], 2, false) {
		t.Error("what counts as all is wrong")
	}
	name := filepath.Join(t.TempDir(), "results.json")
	if err := writeResults(name, results); err != nil {
		t.Fatal(err)
	}
	if back, err := readResults(name); err != nil || len(back) != 3 || back["a"].Checker != "drains" || back["a"].What != "It is wrong." {
		t.Errorf("%+v, %v", back, err)
	}
}

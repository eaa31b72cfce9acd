package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
)

// A result is what came of one defect.
type result struct {
	defect
	Digest  string  `json:"digest"`
	Counts  bool    `json:"counts"`            // it builds, and the unit tests do not see it
	Finder  string  `json:"finder,omitempty"`  // that found it
	Checker string  `json:"checker,omitempty"` // by which it failed; empty: not found
	Seed    string  `json:"seed,omitempty"`
	Seconds float64 `json:"seconds,omitempty"` // of the finder, its build included
	Total   float64 `json:"total"`             // seconds, of all
	Why     string  `json:"why,omitempty"`     // in the words of the finder, or why it does not count
}

// line tells of one result while the others run.
func (r *result) line() string {
	switch {
	case !r.Counts:
		return fmt.Sprintf("%-34s DOES NOT COUNT: %s", r.Name, r.Why)
	case r.Checker == "":
		return fmt.Sprintf("%-34s unseen by its unit tests; %s", r.Name, r.Why)
	}
	return fmt.Sprintf("%-34s found by %s (%s, seed %s) in %.1f s", r.Name, r.Checker, r.Finder, r.Seed, r.Seconds)
}

// table is the results in Markdown, and a last line with their count.
func table(results []result) string {
	var b strings.Builder
	b.WriteString("| defect | file | needs | found by | checker | seed | seconds |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	found := 0
	for _, r := range results {
		finder, checker, seconds := r.Finder, r.Checker, fmt.Sprintf("%.1f", r.Seconds)
		switch {
		case r.Checker != "":
			found++
		case r.Counts:
			finder, checker, seconds = "**nothing**", "", ""
		default:
			finder, checker, seconds = "does not count", "", ""
		}
		fmt.Fprintf(&b, "| %s: %s | %s | %s | %s | %s | %s | %s |\n", r.Name, r.What, r.File, r.Needs, finder, checker, r.Seed, seconds)
	}
	fmt.Fprintf(&b, "\n%d of %d found\n", found, len(results))
	return b.String()
}

// foundAll reports whether all is as it must be. Where only the unit tests were
// run, that is that each defect counts.
func foundAll(results []result, want int, units bool) bool {
	good := 0
	for _, r := range results {
		if r.Checker != "" || units && r.Counts {
			good++
		}
	}
	return good == want && want > 0
}

// readResults reads a file of results, by the name of the defect. None is no
// mistake.
func readResults(name string) (map[string]result, error) {
	all := map[string]result{}
	if name == "" {
		return all, nil
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	var list []result
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, r := range list {
		all[r.Name] = r
	}
	return all, nil
}

func writeResults(name string, results []result) error {
	text, err := json.MarshalIndent(results, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(name+".tmp", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}

// sorted returns results by name.
func sorted(all map[string]result) []result {
	var list []result
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[name])
	}
	return list
}

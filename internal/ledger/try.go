package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// tryMax is how long a test may take to fail.
const tryMax = 5 * time.Minute

// pick returns n rows that count, drawn with a seed; all of them for n < 0.
func pick(all []book, n int, seed uint64, only *regexp.Regexp) []row {
	var rows []row
	for _, b := range all {
		for _, r := range b.rows {
			if r.proven() && only.MatchString(r.name()) {
				rows = append(rows, r)
			}
		}
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	if n >= 0 {
		rows = rows[:min(n, len(rows))]
	}
	return rows
}

// try lays the edit of each row over the module at root and runs the row's first
// test. It returns how many tests passed all the same, or could not be run.
func try(ctx context.Context, root string, rows []row, w io.Writer) (bad int, err error) {
	temp, err := os.MkdirTemp("", "ledger")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(temp)
	for i, r := range rows {
		why, err := r.try(ctx, root, filepath.Join(temp, fmt.Sprint(i)))
		switch {
		case ctx.Err() != nil:
			return bad, ctx.Err()
		case err != nil:
			bad++
			fmt.Fprintf(w, "BROKEN  %s\n        %v\n", r.name(), err)
		case why == "":
			bad++
			fmt.Fprintf(w, "PASSES  %s\n        %s passes without what the row says\n", r.name(), r.tests[0])
		default:
			fmt.Fprintf(w, "fails   %s\n", r.name())
		}
	}
	return bad, nil
}

// try returns what the test said when it failed; empty: it passed.
func (r *row) try(ctx context.Context, root, dir string) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryMax)
	defer cancel()
	overlay, err := r.edit.Overlay(root, dir)
	if err != nil {
		return "", err
	}
	folder, name, _ := strings.Cut(r.tests[0], " ")
	env := append(os.Environ(), "GOFLAGS=-overlay="+overlay)
	bin := filepath.Join(dir, "x.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", bin, "./"+folder)
	build.Dir, build.Env = root, env
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not build: %s", lastLines(out))
	}
	// The tests of another folder may start the program itself: they build it with
	// this environment.
	test := exec.CommandContext(ctx, bin, "-test.run", runOf(name), "-test.v", "-test.timeout", tryMax.String())
	test.Dir, test.Env = filepath.Join(root, filepath.FromSlash(folder)), env
	out, err := test.CombinedOutput()
	switch {
	case !strings.Contains(string(out), "=== RUN   "+name):
		return "", fmt.Errorf("there is no test %s: %s", r.tests[0], lastLines(out))
	case strings.Contains(string(out), "--- SKIP: "+name):
		return "", fmt.Errorf("%s is skipped", r.tests[0])
	case err == nil:
		return "", nil
	}
	return lastLines(out), nil
}

// runOf is the -test.run of a test and its case, and of nothing else.
func runOf(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

func lastLines(out []byte) string {
	s := strings.TrimSpace(string(out))
	return s[max(0, len(s)-600):]
}

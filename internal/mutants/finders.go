package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A runner runs defects.
type runner struct {
	settings
	root string
	temp string
}

// A finder is tests that may find a defect.
type finder struct {
	name  string
	short string // in -with
	pkg   string
	run   string   // of -run
	args  []string // of the test binary
	only  []string // packages whose defects it can find; none: all
}

// finders are what is run, in this order.
func (r *runner) finders() []finder {
	return []finder{
		{name: "crash test", short: "crash", pkg: "./spool", run: "Crash|Property|Model", only: []string{"./spool"}},
		{name: "crash test", short: "crash", pkg: "./journal", run: "Crash", only: []string{"./journal"}},
		{name: "crash test", short: "crash", pkg: "./maildir", run: "Crash", only: []string{"./maildir"}},
		{name: "simulator", short: "sim", pkg: "./internal/sim", run: "^TestSite$", args: []string{"-seeds=" + strconv.Itoa(r.seeds), "-shrink=0"}},
		{name: "torture", short: "torture", pkg: "./internal/e2e", run: "^TestTorture$"},
	}
}

// one tries one defect. Counted: it is known to pass the unit tests.
func (r *runner) one(ctx context.Context, d defect, counted bool) result {
	res := result{defect: d, Digest: d.digest()}
	began := time.Now()
	defer func() { res.Total = time.Since(began).Round(100 * time.Millisecond).Seconds() }()
	overlay, err := r.overlay(d)
	if err != nil {
		res.Why = err.Error()
		return res
	}
	env := append(os.Environ(), "GOFLAGS=-overlay="+overlay)
	if res.Why = r.uncounted(ctx, d, env, counted); res.Why != "" {
		return res
	}
	res.Counts = true
	if r.units {
		return res
	}
	for _, f := range r.finders() {
		if !r.tries(f, d) {
			continue
		}
		start := time.Now()
		found, err := r.find(ctx, f, d, env)
		if ctx.Err() != nil {
			return res
		}
		if err != nil {
			res.Why = err.Error()
			return res
		}
		if found != nil {
			res.Finder, res.Checker, res.Seed = f.name, found.checker, found.seed
			res.Seconds = time.Since(start).Round(100 * time.Millisecond).Seconds()
			res.Why = found.line
			return res
		}
	}
	res.Why = "not found"
	return res
}

// control runs the finders on the code as it is. One that fails there finds
// nothing that it could be believed of a defect.
func (r *runner) control(ctx context.Context, todo []defect) error {
	for _, f := range r.finders() {
		if !slices.ContainsFunc(todo, func(d defect) bool { return r.tries(f, d) }) {
			continue
		}
		start := time.Now()
		found, err := r.find(ctx, f, defect{Name: "control"}, os.Environ())
		if err != nil {
			return err
		}
		if found != nil {
			return fmt.Errorf("%s %s fails without a defect: %s: %s", f.name, f.pkg, found.checker, found.line)
		}
		fmt.Fprintf(os.Stderr, "%s %s finds nothing in the code as it is, in %.0f s\n", f.name, f.pkg, time.Since(start).Seconds())
	}
	return ctx.Err()
}

// tries reports whether a finder is run for a defect.
func (r *runner) tries(f finder, d defect) bool {
	return (len(f.only) == 0 || slices.Contains(f.only, d.pkg())) && strings.Contains(r.with, f.short)
}

// uncounted says why a defect does not count; empty: it does.
func (r *runner) uncounted(ctx context.Context, d defect, env []string, counted bool) string {
	if counted {
		return ""
	}
	if out, err := r.command(ctx, env, "go", "build", d.pkg()).CombinedOutput(); err != nil {
		return "it does not build: " + firstLine(out)
	}
	var out []byte
	var err error
	for range 2 { // a machine that is busy may make a test late once
		if out, err = r.command(ctx, env, "go", "test", "-short", "-count=1", "-timeout=5m", d.pkg()).CombinedOutput(); err == nil {
			return ""
		}
	}
	return "the unit tests of " + d.pkg() + " see it: " + failure(out)
}

// command is a command in the root of the module.
func (r *runner) command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = r.root, env
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// overlay writes the file with the defect, and what lays it over the other.
func (r *runner) overlay(d defect) (string, error) {
	return d.edit().Overlay(r.root, filepath.Join(r.temp, d.Name))
}

// A finding is how a finder failed.
type finding struct {
	checker string
	seed    string
	line    string
}

// find runs one finder to its end or its first failure; nil: it found nothing.
func (r *runner) find(ctx context.Context, f finder, d defect, env []string) (*finding, error) {
	dir := filepath.Join(r.temp, d.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	bin := filepath.Join(dir, filepath.Base(f.pkg)+".test")
	if out, err := r.command(ctx, env, "go", "test", "-c", "-o", bin, f.pkg).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s does not build: %s", f.pkg, firstLine(out))
	}
	defer os.Remove(bin)
	if _, err := os.Stat(bin); err != nil {
		return nil, nil // it has no tests
	}
	ctx, cancel := context.WithTimeout(ctx, r.limit+time.Minute)
	defer cancel()
	args := append([]string{"-test.run=" + f.run, "-test.v", "-test.timeout=" + r.limit.String()}, f.args...)
	cmd := r.command(ctx, env, bin, args...)
	cmd.Dir = filepath.Join(r.root, filepath.FromSlash(f.pkg))
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	found := read(bufio.NewReaderSize(pipe, 1<<20))
	if found != nil {
		cancel() // the rest of the seeds adds nothing
	}
	if err := cmd.Wait(); found == nil && err != nil && ctx.Err() == nil {
		return &finding{checker: "failed", line: err.Error()}, nil
	}
	return found, nil
}

var (
	checkerName = regexp.MustCompile(`\b(acked_is_kept|one_fate|content_intact|no_backscatter_of_null|duplicates_only_after_uncertainty|` +
		`internal_failure_is_4xx|order_of_commit|bounded|drains|no_open_relay|journal_agrees)\b`)
	// verdict is a complaint of the simulator.
	verdict    = regexp.MustCompile(`\bseed (\d+): ([a-z_0-9]+): `)
	seedNumber = regexp.MustCompile(`\bseed[ =](\d+)`)
	testName   = regexp.MustCompile(`^\s*--- FAIL: (\S+)`)
	// complaint is a line of the testing package: file.go:12: words.
	complaint = regexp.MustCompile(`^\s+\w+_test\.go:\d+: (.*)`)
	passed    = regexp.MustCompile(`^PASS$`)
)

// read reads the output of verbose tests up to the first failure. A line that
// names a checker, and a panic, are failures at once; others are known by the end
// of their test.
func read(in *bufio.Reader) *finding {
	var last string // the first complaint that names no checker
	seed := ""
	for {
		line, err := in.ReadString('\n')
		line = strings.TrimRight(line, "\n")
		if m := seedNumber.FindStringSubmatch(line); m != nil {
			seed = m[1]
		}
		c := complaint.FindStringSubmatch(line)
		if m := verdict.FindStringSubmatch(line); m != nil && c != nil {
			return &finding{m[2], m[1], short(line)}
		}
		switch m := checkerName.FindString(line); {
		case m != "" && (c != nil || seedNumber.MatchString(line)):
			return &finding{m, seed, short(line)}
		case strings.HasPrefix(line, "panic: "), strings.HasPrefix(line, "fatal error: "):
			return &finding{kindOfPanic(line), seed, short(line)}
		case c != nil && last == "":
			last = c[1]
		}
		if m := testName.FindStringSubmatch(line); m != nil {
			return &finding{m[1], seed, short(lastOf(in, last))}
		}
		if err != nil || passed.MatchString(line) {
			return nil
		}
	}
}

// lastOf is the complaint of a test that has just failed: the one that was heard
// before, or that which comes with the end of the test.
func lastOf(in *bufio.Reader, last string) string {
	for last == "" {
		line, err := in.ReadString('\n')
		if c := complaint.FindStringSubmatch(line); c != nil {
			return c[1]
		}
		if err != nil {
			break
		}
	}
	return last
}

// kindOfPanic names a panic for the table.
func kindOfPanic(line string) string {
	switch {
	case strings.Contains(line, "test timed out"):
		return "hang"
	case strings.Contains(line, "deadlock"), strings.Contains(line, "durably blocked"):
		return "deadlock"
	}
	return "panic"
}

func short(s string) string {
	s = strings.TrimSpace(s)
	return s[:min(len(s), 300)]
}

func firstLine(out []byte) string {
	for line := range bytes.Lines(out) {
		if !bytes.HasPrefix(line, []byte("#")) {
			return short(string(line))
		}
	}
	return ""
}

// failure is which test failed, and what it said.
func failure(out []byte) string {
	if f := read(bufio.NewReader(bytes.NewReader(out))); f != nil {
		return short(f.checker + ": " + f.line)
	}
	return firstLine(out)
}

// Package e2e holds tests of the real binary, from outside: it is built once,
// run with a configuration of its own on free loopback addresses, and spoken to
// by real programs, by a server of another project, and by raw octets.
//
// A test that needs a program which is not installed is skipped and says so.
// With POSTRIDER_REAL=required that is a failure, and nothing is shortened.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"
)

// binary is the program under test.
var binary string

// patience bounds every wait for what must come. It is long, so that a loaded
// machine fails no test; what goes well never waits for it.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	if testing.Short() && !required() {
		fmt.Println("e2e: skipped with -short")
		return 0
	}
	dir, err := os.MkdirTemp("", "postrider-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "postrider")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "github.com/postrider/postrider/cmd/postrider")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// required reports whether everything must run, and in full length.
func required() bool { return os.Getenv("POSTRIDER_REAL") == "required" }

// need skips the test where one of the programs is not installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			miss(t, "%s is not installed", p)
		}
	}
}

// miss skips the test for want of something, or fails it where all is required.
func miss(t *testing.T, format string, args ...any) {
	t.Helper()
	if required() {
		t.Fatalf("POSTRIDER_REAL=required: "+format, args...)
	}
	t.Skipf(format, args...)
}

// full returns all where everything is required, and few elsewhere.
func full(all, few int) int {
	if required() {
		return all
	}
	return few
}

// output runs a program to its end and returns what it printed and its exit
// status.
func output(t *testing.T, dir, name string, args ...string) (out string, status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = environment()
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() < 0 {
		t.Fatalf("%s %q: %v\n%s", name, args, err, b)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// environment is that of the test, without what would lead the program to
// another configuration or service manager.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		for _, name := range []string{"POSTRIDER_CONFIG=", "NOTIFY_SOCKET=", "http_proxy=", "all_proxy=", "ALL_PROXY="} {
			if len(kv) >= len(name) && kv[:len(name)] == name {
				return true
			}
		}
		return false
	})
}

// eventually waits until ok returns true, and fails the test when that takes
// longer than patience. The last value of what is told then.
func eventually(t *testing.T, what func() string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %v in vain: %s", patience, what())
		case <-tick.C:
		}
	}
}

// says makes a fixed text for eventually.
func says(format string, args ...any) func() string {
	return func() string { return fmt.Sprintf(format, args...) }
}

// linux reports whether every address of 127.0.0.0/8 is ours without asking.
func linux() bool { return runtime.GOOS == "linux" }

package spool

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// leastCoverage is the share of the statements of this package that its tests
// together run. What is left is mostly the answers to a second failure while a
// first one is dealt with.
const leastCoverage = 0.95

// TestMain holds the coverage where all tests run with -cover.
func TestMain(m *testing.M) {
	code := m.Run()
	run := flag.Lookup("test.run").Value.String()
	if code == 0 && testing.CoverMode() != "" && !testing.Short() && run == "" {
		c := testing.Coverage()
		fmt.Printf("the tests of spool run %.1f%% of its statements\n", 100*c)
		if c < leastCoverage {
			fmt.Printf("less than %.0f%%\n", 100*leastCoverage)
			code = 1
		}
	}
	os.Exit(code)
}

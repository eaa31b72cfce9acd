//go:build !race

package e2e

// raceEnabled: the binary under test is built as it is shipped.
const raceEnabled = false

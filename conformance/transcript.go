package conformance

import (
	"fmt"
	"strconv"
	"strings"
)

// How much of a dialogue is shown.
const (
	lineShown  = 160 // characters of a line
	linesShown = 24
	linesKept  = 1000
)

// A transcript is what was sent and heard, as it may be shown on a terminal.
type transcript struct {
	all []string
	cut int // lines that were not kept
}

func (t *transcript) add(line string) {
	if len(t.all) == linesKept {
		t.cut++
		return
	}
	t.all = append(t.all, line)
}

// sent notes one packet.
func (t *transcript) sent(p []byte) {
	t.add("C: " + printable(strings.TrimSuffix(string(p[:min(len(p), lineShown*2)]), "\r\n"), lineShown) + more(len(p)))
}

// heard notes one line with its end.
func (t *transcript) heard(line string) {
	t.add("S: " + printable(strings.TrimSuffix(line, "\r\n"), lineShown))
}

// fold leaves one line of the n lines that were heard last.
func (t *transcript) fold(n int) {
	if n = min(n, len(t.all)); n > 1 {
		first := len(t.all) - n
		t.all = append(t.all[:first], t.all[first]+fmt.Sprintf(" [and %d lines more]", n-1))
	}
}

// lines are the first and the last of them.
func (t *transcript) lines() []string {
	const half = linesShown / 2
	if len(t.all) <= linesShown {
		return t.all
	}
	shown := append([]string(nil), t.all[:half]...)
	shown = append(shown, fmt.Sprintf("   [%d lines]", len(t.all)-linesShown+t.cut))
	return append(shown, t.all[len(t.all)-half:]...)
}

// more tells the size of what is not shown in full.
func more(n int) string {
	if n <= lineShown {
		return ""
	}
	return fmt.Sprintf(" [%d octets]", n)
}

// printable returns at most limit characters of s, in printable ASCII: other
// octets are escaped as in a Go string.
func printable(s string, limit int) string {
	s = s[:min(len(s), limit+1)]
	q := strconv.QuoteToASCII(s)
	q = strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
	if len(q) > limit {
		q = q[:limit] + "..."
	}
	return q
}

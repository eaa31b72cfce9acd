package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// Where the tables stand, behind a line.
const (
	matrixDocument = "../../docs/interoperability.md"
	matrixStart    = "<!-- What follows is written by a test. -->\n"
)

// compareMatrix compares the tables with the document, or writes them. Without all
// programs there is nothing to compare with.
func compareMatrix(t *testing.T, edges map[[2]string]*edge) {
	if len(edges) < matrixEdges {
		t.Skipf("%d of %d pairs of programs were here: the tables are not compared", len(edges), matrixEdges)
	}
	text, err := os.ReadFile(matrixDocument)
	if err != nil {
		t.Fatal(err)
	}
	head, old, ok := strings.Cut(string(text), matrixStart)
	if !ok {
		t.Fatalf("%s has no line %q", matrixDocument, matrixStart)
	}
	tables := spokenTable() + pairTable(edges) + wantTable()
	if os.Getenv("POSTRIDER_INTEROPERABILITY") == "write" {
		if err := os.WriteFile(matrixDocument, []byte(head+matrixStart+matrixVersions(t)+tables), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, old, _ = strings.Cut(old, "\n## "); "\n## "+old != tables {
		t.Errorf("%s does not say what was seen; POSTRIDER_INTEROPERABILITY=write makes it anew:\n%s", matrixDocument, tables)
	}
}

// matrixEdges is how many clients and servers meet.
const matrixEdges = 4 + 4 + 3

// matrixVersions says what was asked, and when.
func matrixVersions(t *testing.T) string {
	version := func(program string, args []string, pattern string, env ...string) string {
		cmd := exec.Command(program, args...)
		cmd.Env = append(environment(), env...)
		out, _ := cmd.CombinedOutput()
		m := regexp.MustCompile(pattern).FindSubmatch(out)
		if m == nil {
			t.Fatalf("%s does not say its version: %s", program, out)
		}
		return string(m[1])
	}
	conf := filepath.Join(t.TempDir(), "main.cf")
	if err := os.WriteFile(conf, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(peersDir(), "postfix/usr/lib/postfix")
	postfix := version(unpacked(t, "postfix", "usr/sbin/postconf"), []string{"-d", "-h", "mail_version"}, `([\d.]+)`, "LD_LIBRARY_PATH="+dir)
	exim := version(unpacked(t, "exim", "usr/sbin/exim4"), []string{"-C", "/dev/null", "-bV"}, `Exim version ([\d.]+)`)
	library := "?"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/emersion/go-smtp" {
				library = d.Version
			}
		}
	}
	return fmt.Sprintf("\nTaken on %s: Postrider of this commit, Postfix %s, Exim %s, github.com/emersion/go-smtp %s.\n",
		time.Now().UTC().Format(time.DateOnly), postfix, exim, library)
}

// spokenTable is who speaks what.
func spokenTable() string {
	var b strings.Builder
	b.WriteString("\n## Who speaks what\n\n| extension |")
	rule := "| --- |"
	for _, c := range callers {
		fmt.Fprintf(&b, " %s, client |", c.name)
		rule += " --- |"
	}
	for _, h := range hosts {
		fmt.Fprintf(&b, " %s, server |", h.name)
		rule += " --- |"
	}
	b.WriteString("\n" + rule + "\n")
	for _, ext := range matrixExts {
		fmt.Fprintf(&b, "| %s |", ext.Keywords()[0])
		for _, c := range callers {
			b.WriteString(tick(c.speaks.Has(ext)))
		}
		for _, h := range hosts {
			b.WriteString(tick(h.speaks.Has(ext)))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func tick(yes bool) string {
	if yes {
		return " yes |"
	}
	return " |"
}

// pairTable is which pairs went together in a message that arrived.
func pairTable(edges map[[2]string]*edge) string {
	var b strings.Builder
	b.WriteString("\n## Pairs\n\n| together |")
	rule := "| --- |"
	var order []*edge
	for _, c := range callers {
		for _, h := range hosts {
			if e := edges[[2]string{c.name, h.name}]; e != nil {
				order = append(order, e)
				fmt.Fprintf(&b, " %s to %s |", c.name, h.name)
				rule += " --- |"
			}
		}
	}
	b.WriteString("\n" + rule + "\n")
	sums := make([]int, len(order))
	for i, first := range matrixExts {
		for _, second := range matrixExts[i+1:] {
			pair, row, any := first|second, "", false
			for n, e := range order {
				seen := e.pairs[pair] && e.both().Has(pair)
				row += tick(seen)
				if any = any || seen; seen {
					sums[n]++
				}
			}
			if any {
				fmt.Fprintf(&b, "| %s |%s\n", strings.Join(pair.Keywords(), ", "), row)
			}
		}
	}
	b.WriteString("| **pairs** |")
	for _, n := range sums {
		fmt.Fprintf(&b, " %d |", n)
	}
	b.WriteString("\n| **messages** |")
	for _, e := range order {
		fmt.Fprintf(&b, " %d |", e.sent)
	}
	return b.String() + "\n"
}

// wantTable is what becomes of messages for hosts that lack what they need.
func wantTable() string {
	var b strings.Builder
	b.WriteString("\n## What a host lacks\n\n| a message with | for a host without | what becomes of it |\n| --- | --- | --- |\n")
	for _, w := range wants {
		lack := strings.Join(w.lack.Keywords(), ", ")
		if w.lack == everything {
			lack = "any extension"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", w.what, lack, w.result)
	}
	return b.String()
}

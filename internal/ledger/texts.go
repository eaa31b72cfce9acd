package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A text is an RFC as its words, each section on one line.
type text struct {
	order    []string
	sections map[string]string
}

var (
	heading  = regexp.MustCompile(`^((?:\d+|[A-Z])(?:\.\d+)*)\.? +[^ .].*$`)
	appendix = regexp.MustCompile(`^Appendix ([A-Z])[.: ]`)
	footer   = regexp.MustCompile(`\[Page \d+\]$`)
	running  = regexp.MustCompile(`^RFC \d+ .* \d{4}$`)
	keyword  = regexp.MustCompile(`\b(MUST NOT|MUST|SHOULD NOT|SHOULD|MAY|SHALL NOT|SHALL|REQUIRED|RECOMMENDED)\b`)
)

// readText reads the text of an RFC as the RFC Editor publishes it. The lines of
// a table of contents are no headings: they have dots, or stand before the first
// section.
func readText(src string) text {
	t := text{sections: map[string]string{}}
	section := ""
	var last string
	for line := range strings.SplitSeq(strings.ReplaceAll(src, "\f", "\n"), "\n") {
		line = strings.TrimRight(line, " \r")
		if footer.MatchString(line) || running.MatchString(line) {
			continue
		}
		m := heading.FindStringSubmatch(line)
		if m == nil {
			m = appendix.FindStringSubmatch(line)
		}
		if m != nil && !strings.Contains(line, " . ") && !strings.Contains(line, "..") && last == "" {
			section = m[1]
			if _, again := t.sections[section]; !again {
				t.order = append(t.order, section)
			}
			line = ""
		}
		if last = line; section != "" {
			t.sections[section] += " " + line
		}
	}
	for s, words := range t.sections {
		t.sections[s] = squeeze(words)
	}
	return t
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// spans returns where a quote stands in a section: the place of each of its parts,
// in their order, or nil where it does not.
func spans(section, quote string) [][2]int {
	var all [][2]int
	from := 0
	for part := range strings.SplitSeq(quote, "[...]") {
		part = squeeze(part)
		i := strings.Index(section[from:], part)
		if part == "" || i < 0 {
			return nil
		}
		all = append(all, [2]int{from + i, from + i + len(part)})
		from += i + len(part)
	}
	return all
}

// inScope reports whether a section is one of a list, or below one of it.
func inScope(section string, scope []string) bool {
	return slices.ContainsFunc(scope, func(s string) bool { return section == s || strings.HasPrefix(section, s+".") })
}

// missing compares a book with the text of its RFC: quotes that do not stand in
// their section, and requirements in the scope that no quote holds.
func (b *book) missing(t text) (faults []string) {
	held := map[string][][2]int{}
	for _, r := range b.rows {
		at := spans(t.sections[r.section], r.quote)
		if at == nil {
			faults = append(faults, fmt.Sprintf("RFC %s %s does not say: %s", b.rfc, r.section, r.quote))
		}
		held[r.section] = append(held[r.section], at...)
	}
	for _, s := range t.order {
		if !inScope(s, b.scope) {
			continue
		}
		words := t.sections[s]
		for _, at := range keyword.FindAllStringIndex(words, -1) {
			if !slices.ContainsFunc(held[s], func(h [2]int) bool { return h[0] <= at[0] && at[1] <= h[1] }) {
				faults = append(faults, fmt.Sprintf("RFC %s %s has no row for: ...%s...", b.rfc, s, words[max(0, at[0]-120):min(len(words), at[1]+160)]))
			}
		}
	}
	return faults
}

// compare compares all books with the texts in a folder, files named as the RFC Editor
// names them.
func compare(all []book, dir string) (faults []string, err error) {
	for _, b := range all {
		src, err := os.ReadFile(filepath.Join(dir, "rfc"+b.rfc+".txt"))
		if err != nil {
			return nil, err
		}
		faults = append(faults, b.missing(readText(string(src)))...)
	}
	return faults, nil
}

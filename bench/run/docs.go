package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Where the results go, from the root of the module.
const (
	docsFile    = "docs/performance.md"
	figuresFile = "docs/figures/performance.json"
	pictureFile = "docs/figures/performance-%s.svg"
)

// The table stands between these lines.
const (
	tableBegin = "<!-- begin: go run ./bench/run -docs -->\n"
	tableEnd   = "<!-- end -->\n"
)

// pictures are those that curves are drawn in.
var pictures = []struct {
	title, file, x string
	log            bool
}{
	{sessionsPicture, "sessions", "sessions", true},
	{queuePicture, "queue", "messages in the queue", false},
	{deadPicture, "deferred", "messages in the queue", false},
}

// writeDocs puts the table, the pictures and the raw results where they are read.
// Rows of scenarios that were not run stay as they were, with their conditions.
func (r report) writeDocs() error {
	old, err := readReports(figuresFile)
	if err != nil {
		return err
	}
	all := merge(old, r)
	raw, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	doc, err := os.ReadFile(docsFile)
	if err != nil {
		return fmt.Errorf("%w: run it in the root of the module", err)
	}
	var table bytes.Buffer
	for _, part := range all {
		table.WriteString("\n" + part.String())
	}
	table.WriteString("\n")
	if doc, err = between(doc, table.Bytes()); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(figuresFile), 0o755); err != nil {
		return err
	}
	for name, b := range map[string][]byte{figuresFile: append(raw, '\n'), docsFile: doc} {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			return err
		}
	}
	return r.writePictures()
}

func (r report) writePictures() error {
	for _, p := range pictures {
		var lines []curve
		for _, c := range r.Curves {
			if c.Picture == p.title {
				lines = append(lines, c)
			}
		}
		if len(lines) == 0 {
			continue
		}
		if err := os.WriteFile(fmt.Sprintf(pictureFile, p.file), []byte(svg(p.title, p.x, p.log, lines)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// readReports reads the raw results; there are none at first.
func readReports(name string) (all []report, err error) {
	b, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("%s: %w: remove it", name, err)
	}
	for k := range all {
		for j := range all[k].Rows {
			all[k].Rows[j].Order = orderOf(all[k].Rows[j].Figures)
		}
	}
	return all, nil
}

// orderOf is the order in which a table names those who were measured.
func orderOf(figures map[string]spread) (names []string) {
	known := []string{ours, "Postfix", "Exim", hop1, hop2, ceiling}
	for name := range figures {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		i, j := slices.Index(known, a), slices.Index(known, b)
		if i < 0 {
			i = len(known)
		}
		if j < 0 {
			j = len(known)
		}
		if i != j {
			return i - j
		}
		return bytes.Compare([]byte(a), []byte(b))
	})
	return names
}

// merge takes out of old reports what was measured anew, and adds the new one.
func merge(old []report, r report) (all []report) {
	for _, o := range old {
		o.Rows = slices.DeleteFunc(o.Rows, func(w row) bool {
			return slices.ContainsFunc(r.Rows, func(n row) bool { return n.Scenario == w.Scenario })
		})
		o.Curves = slices.DeleteFunc(o.Curves, func(c curve) bool {
			return slices.ContainsFunc(r.Curves, func(n curve) bool { return n.Picture == c.Picture })
		})
		if len(o.Rows)+len(o.Curves) > 0 {
			all = append(all, o)
		}
	}
	return append(all, r)
}

// between puts a text between the two marks of a document.
func between(doc, text []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(doc, []byte(tableBegin))
	_, after, ended := bytes.Cut(rest, []byte(tableEnd))
	if !ok || !ended {
		return nil, fmt.Errorf("%s has no lines %q and %q", docsFile, tableBegin, tableEnd)
	}
	return slices.Concat(before, []byte(tableBegin), text, []byte(tableEnd), after), nil
}

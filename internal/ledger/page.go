package main

import (
	"fmt"
	"strings"
)

const preamble = `# What the RFCs ask for, and what becomes of it

Made by ` + "`go run ./internal/ledger`" + ` from internal/ledger/rows; a test compares. A row is one requirement in the words of the RFC, what Postrider
does about it, and the test that holds it. A row **counts** if there is an edit of the code that takes away what the row says and makes its test
fail; ` + "`go run ./internal/ledger -try 20`" + ` tries twenty of these at random, as CI does. A test without an edit is marked "(not counted)".

`

// page is docs/rfc.md.
func page(all []book) string {
	var b strings.Builder
	b.WriteString(preamble)
	b.WriteString("| RFC | about | rows | count | with a test only | not done | nothing asked of us |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	var sum counts
	seen := map[string]int{}
	for _, bk := range all {
		c := countOf(bk.rows)
		sum.add(c)
		anchor := bk.rfc
		if n := seen[bk.rfc]; n > 0 { // how a heading is linked to that is not the first of its words
			anchor = fmt.Sprintf("%s-%d", bk.rfc, n)
		}
		seen[bk.rfc]++
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |\n", bk.rfc, anchor, bk.title, c)
	}
	fmt.Fprintf(&b, "| all | | %s |\n", sum)
	for _, bk := range all {
		fmt.Fprintf(&b, "\n## %s\n\n%s. Whole in sections %s.\n\n", bk.rfc, bk.title, strings.Join(bk.scope, ", "))
		b.WriteString("| section | level | the RFC | Postrider | test |\n| --- | --- | --- | --- | --- |\n")
		for _, r := range bk.rows {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.section, r.level, cell(r.quote), r.fate(), r.held())
		}
	}
	return b.String()
}

// fate is what becomes of a requirement, for people.
func (r *row) fate() string {
	switch r.kind {
	case not:
		return "**No.** " + cell(r.why)
	case none:
		return "Nothing to do. " + cell(r.why)
	}
	return cell(r.does)
}

// held names the tests of a row.
func (r *row) held() string {
	var words []string
	for _, t := range r.tests {
		folder, name, _ := strings.Cut(t, " ")
		words = append(words, "`"+folder+"` "+name)
	}
	text := strings.Join(words, ", ")
	if r.kind == done && !r.proven() {
		text += " (not counted)"
	}
	return text
}

// cell makes a text fit for a cell of a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "*", `\*`, "_", `\_`).Replace(s)
}

// counts are rows by what becomes of them.
type counts struct{ rows, proven, tested, not, none int }

func countOf(rows []row) (c counts) {
	for _, r := range rows {
		c.rows++
		switch {
		case r.proven():
			c.proven++
		case r.kind == done:
			c.tested++
		case r.kind == not:
			c.not++
		default:
			c.none++
		}
	}
	return c
}

func (c *counts) add(o counts) {
	c.rows += o.rows
	c.proven += o.proven
	c.tested += o.tested
	c.not += o.not
	c.none += o.none
}

func (c counts) String() string {
	return fmt.Sprintf("%d | %d | %d | %d | %d", c.rows, c.proven, c.tested, c.not, c.none)
}

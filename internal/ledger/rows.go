package main

import (
	"embed"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/postrider/postrider/internal/edit"
)

// A book is what one RFC asks for.
type book struct {
	rfc   string   // its number
	title string   // ours, in few words
	scope []string // sections whose requirements all have a row; a section stands for what is below it
	rows  []row
}

// A row is one requirement: the sentence of the RFC, and what becomes of it.
type row struct {
	rfc     string
	section string
	level   string // MUST, MUST NOT, SHOULD, SHOULD NOT, MAY
	quote   string // words of the RFC on one line; [...] stands for what was left out
	does    string // what we do; of a row with kind done
	why     string // of the other kinds: why not, or why there is nothing to do
	kind    kind
	tests   []string // "folder TestName" or "folder TestName/case"
	edit    edit.Edit
}

// A kind is what becomes of a requirement.
type kind string

const (
	done kind = "done" // we do it, and a test holds it
	not  kind = "not"  // we do otherwise, or not yet, and say why
	none kind = "none" // it asks nothing of this program
)

// proven reports whether the row has an edit that takes away what it says, so
// that its first test can be seen to fail. Only such a row counts.
func (r *row) proven() bool { return r.kind == done && r.edit.File != "" }

// name tells a row from all others.
func (r *row) name() string { return "RFC " + r.rfc + " " + r.section + " " + r.level + ": " + r.quote }

//go:embed rows/*.txt
var lists embed.FS

// books returns all rows, in the order of the files' names.
func books() ([]book, error) {
	files, err := lists.ReadDir("rows")
	if err != nil {
		return nil, err
	}
	var all []book
	for _, f := range files {
		text, err := lists.ReadFile("rows/" + f.Name())
		if err != nil {
			return nil, err
		}
		b, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		// A large RFC has several files, one after the other.
		if n := len(all); n > 0 && all[n-1].rfc == b.rfc {
			all[n-1].scope = append(all[n-1].scope, b.scope...)
			all[n-1].rows = append(all[n-1].rows, b.rows...)
			continue
		}
		all = append(all, b)
	}
	return all, nil
}

var (
	sectionForm = regexp.MustCompile(`^(\d+|[A-Z])(\.\d+)*$`)
	levels      = []string{"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"}
)

// A parser reads the rows of one file.
type parser struct {
	book book
	row  *row
	part *string // of the edit that is being read
}

// parse reads a file of rows. Lines that begin with # are for people. A file is
//
//	rfc NUMBER TITLE
//	scope SECTION...
//
// and then rows, each
//
//	row SECTION LEVEL
//	quote WORDS OF THE RFC
//
// and one of
//
//	does WHAT WE DO
//	not WHY WE DO NOT
//	none WHY IT ASKS NOTHING OF US
//
// After does come one or more tests, and if the row is to count an edit of the
// code after which the first of them fails:
//
//	test FOLDER TEST[/CASE]
//	file PATH
//	--- old
//	what stands there once
//	--- new
//	what takes its place
//	--- end
func parse(text string) (book, error) {
	var p parser
	for i, line := range strings.Split(text, "\n") {
		if err := p.line(line); err != nil {
			return book{}, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if err := p.endRow(); err != nil {
		return book{}, fmt.Errorf("the end: %w", err)
	}
	if p.book.rfc == "" || len(p.book.rows) == 0 {
		return book{}, fmt.Errorf("a file begins with \"rfc NUMBER TITLE\", and has rows")
	}
	return p.book, nil
}

func (p *parser) line(line string) error {
	if p.part != nil {
		return p.editLine(line)
	}
	key, value, _ := strings.Cut(line, " ")
	value = strings.TrimSpace(value)
	switch {
	case line == "" || strings.HasPrefix(line, "#"):
		return nil
	case key == "rfc":
		p.book.rfc, p.book.title, _ = strings.Cut(value, " ")
		return nil
	case key == "scope":
		p.book.scope = strings.Fields(value)
		return nil
	case key == "row":
		if err := p.endRow(); err != nil {
			return err
		}
		p.row = &row{rfc: p.book.rfc}
		p.row.section, p.row.level, _ = strings.Cut(value, " ")
		return nil
	case p.row == nil:
		return fmt.Errorf("%q stands before the first row", line)
	}
	return p.rowLine(line, key, value)
}

func (p *parser) rowLine(line, key, value string) error {
	r := p.row
	switch key {
	case "quote":
		r.quote = value
	case "does":
		r.kind, r.does = done, value
	case "not", "none":
		r.kind, r.why = kind(key), value
	case "test":
		r.tests = append(r.tests, value)
	case "file":
		r.edit.File = value
	case "---":
		if line != "--- old" {
			return fmt.Errorf("%q stands where \"--- old\" belongs", line)
		}
		p.part = &r.edit.Old
	default:
		return fmt.Errorf("%q is no part of a row", line)
	}
	return nil
}

func (p *parser) editLine(line string) error {
	e := &p.row.edit
	switch {
	case line == "--- new" && p.part == &e.Old:
		p.part = &e.New
	case line == "--- end" && p.part == &e.New:
		e.Old, e.New = strings.TrimSuffix(e.Old, "\n"), strings.TrimSuffix(e.New, "\n")
		p.part = nil
	case strings.HasPrefix(line, "--- "):
		return fmt.Errorf("%q does not belong here", line)
	default:
		*p.part += line + "\n"
	}
	return nil
}

// endRow checks a row that has been read, and keeps it.
func (p *parser) endRow() error {
	r := p.row
	if p.part != nil {
		return fmt.Errorf("the edit of %s does not end", r.name())
	}
	if r == nil {
		return nil
	}
	p.row = nil
	hasEdit := r.edit != edit.Edit{}
	switch {
	case !sectionForm.MatchString(r.section), !slices.Contains(levels, r.level), r.quote == "":
		return fmt.Errorf("%s: a row has a section, a level (%s) and a quote", r.name(), strings.Join(levels, ", "))
	case r.kind == "", r.kind == done && r.does == "", r.kind != done && r.why == "":
		return fmt.Errorf("%s: it is not said what becomes of it", r.name())
	case r.kind == done && len(r.tests) == 0:
		return fmt.Errorf("%s: no test", r.name())
	case r.kind != done && (len(r.tests) > 0 || hasEdit):
		return fmt.Errorf("%s: a test or an edit, and nothing that is done", r.name())
	case hasEdit && (r.edit.File == "" || r.edit.Old == "" || r.edit.Old == r.edit.New):
		return fmt.Errorf("%s: the edit is not complete", r.name())
	}
	p.book.rows = append(p.book.rows, *r)
	return nil
}

package main

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/postrider/postrider/internal/edit"
)

// A defect is one wrong edit of one file.
type defect struct {
	Name  string `json:"name"`
	File  string `json:"file"`  // from the root of the module, slash separated
	Needs string `json:"needs"` // what must happen for it to do harm
	What  string `json:"what"`
	old   string
	new   string
}

// What a defect may need to be found.
const (
	needsPlain        = "plain"        // ordinary mail
	needsFault        = "fault"        // a peer, a name server, a disk that fails
	needsCrash        = "crash"        // the process or the power ends
	needsInterleaving = "interleaving" // two things at one time
)

func (d *defect) edit() edit.Edit { return edit.Edit{File: d.File, Old: d.old, New: d.new} }

// pkg is the package of the file, as the go command wants it.
func (d *defect) pkg() string { return d.edit().Pkg() }

// digest tells a defect from one of its name that was changed since.
func (d *defect) digest() string {
	sum := sha256.Sum256([]byte(d.File + "\x00" + d.old + "\x00" + d.new))
	return hex.EncodeToString(sum[:8])
}

// apply returns the source with the defect in it.
func (d *defect) apply(src string) (string, error) {
	text, err := d.edit().Apply(src)
	if err != nil {
		return "", fmt.Errorf("%s: %w", d.Name, err)
	}
	return text, nil
}

//go:embed defects/*.txt
var lists embed.FS

// defects returns the whole list.
func defects() ([]defect, error) {
	files, err := lists.ReadDir("defects")
	if err != nil {
		return nil, err
	}
	var all []defect
	for _, f := range files {
		text, err := lists.ReadFile("defects/" + f.Name())
		if err != nil {
			return nil, err
		}
		some, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// parse reads a list. Lines before the first defect, and between two of them,
// are for people. A defect is
//
//	defect NAME
//	file PATH
//	needs plain|fault|crash|interleaving
//	what ONE LINE
//	--- old
//	whole lines of the file
//	--- new
//	whole lines in their place
//	--- end
func parse(text string) ([]defect, error) {
	var all []defect
	var d *defect
	var part *string
	for i, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch {
		case part != nil && line == "--- new":
			part = &d.new
		case part != nil && line == "--- end":
			if part != &d.new {
				return nil, fmt.Errorf("line %d: defect %s has no new text", i+1, d.Name)
			}
			d.old, d.new = strings.TrimSuffix(d.old, "\n"), strings.TrimSuffix(d.new, "\n")
			if err := d.complete(); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			all = append(all, *d)
			d, part = nil, nil
		case part != nil:
			*part += line + "\n"
		case d == nil && key == "defect":
			d = &defect{Name: value}
		case d == nil:
		case line == "--- old":
			part = &d.old
		case key == "file":
			d.File = value
		case key == "needs":
			d.Needs = value
		case key == "what":
			d.What = value
		default:
			return nil, fmt.Errorf("line %d: %q is no part of a defect", i+1, line)
		}
	}
	if d != nil {
		return nil, fmt.Errorf("defect %s does not end", d.Name)
	}
	return all, nil
}

func (d *defect) complete() error {
	switch d.Needs {
	case needsPlain, needsFault, needsCrash, needsInterleaving:
	default:
		return fmt.Errorf("defect %s needs %q, which is nothing that is known", d.Name, d.Needs)
	}
	if d.Name == "" || d.File == "" || d.What == "" || d.old == "" || d.old == d.new {
		return fmt.Errorf("defect %q is not complete", d.Name)
	}
	return nil
}

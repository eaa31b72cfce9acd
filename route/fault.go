package route

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// An AliasFault is one thing that is wrong in an alias file or in a file that it
// includes.
type AliasFault struct {
	File    string
	Line    int    // from 1; 0: the file as a whole, and there is no Source
	Column  int    // from 1, in characters
	Source  string // the line
	Mark    [2]int // octets of Source that are meant
	Warning bool   // the file can be used
	Message string // what is wrong
	Help    string // what to do
}

// Error returns place, message and help in one line.
func (f AliasFault) Error() string {
	at := f.File
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d,%d", f.File, f.Line, f.Column)
	}
	return fmt.Sprintf("%s: %s. %s", at, f.Message, f.Help)
}

// AliasFaults are what is wrong in the alias files of a Table, in the order of
// the files. As an error it holds at least one that is no warning.
type AliasFaults []AliasFault

// Error returns the faults, one a line.
func (fs AliasFaults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// hasErrors reports whether there is more than warnings.
func (fs AliasFaults) hasErrors() bool {
	return slices.ContainsFunc(fs, func(f AliasFault) bool { return !f.Warning })
}

// faultsMax bounds how many faults are told at once.
const faultsMax = 20

// add appends f, or says once that there are more.
func (fs *AliasFaults) add(f AliasFault) {
	switch {
	case len(*fs) < faultsMax:
		*fs = append(*fs, f)
	case len(*fs) == faultsMax:
		f.Message, f.Help = "and more after this", "Mend those before it first."
		*fs = append(*fs, f)
	}
}

// A source is the text of one file.
type source struct {
	name string
	text string
}

// A place is a part of a source, in octets. The zero place is nowhere.
type place struct {
	src      *source
	from, to int
}

// fault returns what is wrong at a place.
func (p place) fault(help, format string, args ...any) AliasFault {
	f := AliasFault{Message: fmt.Sprintf(format, args...), Help: help}
	if p.src == nil {
		return f
	}
	text := p.src.text
	start := strings.LastIndexByte(text[:p.from], '\n') + 1
	line := text[start:]
	if end := strings.IndexByte(line, '\n'); end >= 0 {
		line = line[:end]
	}
	f.File = p.src.name
	f.Line = 1 + strings.Count(text[:start], "\n")
	f.Column = 1 + utf8.RuneCountInString(text[start:p.from])
	f.Source = strings.TrimSuffix(line, "\r")
	f.Mark = [2]int{p.from - start, min(max(p.to-start, p.from-start+1), len(f.Source))}
	return f
}

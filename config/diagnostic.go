package config

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/hashicorp/hcl/v2"
)

// A Pos is a place in a configuration. It carries its line, so that what is
// found wrong later, when a machine tries it, is told in the same form. The zero
// Pos is the built-in configuration.
type Pos struct {
	File   string
	Line   int // from 1
	Column int // from 1
	source string
	mark   [2]int // octets of source that are meant
}

// Error returns a Diagnostic of an error at p.
func (p Pos) Error(message, help string) Diagnostic {
	return Diagnostic{Pos: p, Message: message, Help: help}
}

// A Diagnostic is one thing that is wrong, or that a person should know.
type Diagnostic struct {
	Pos
	Warning bool
	Message string // what is wrong
	Help    string // what to do
}

// Diagnostics are all that was found, in the order of the file.
type Diagnostics []Diagnostic

// HasErrors reports whether there is more than warnings.
func (ds Diagnostics) HasErrors() bool {
	for _, d := range ds {
		if !d.Warning {
			return true
		}
	}
	return false
}

// String returns every diagnostic as a person should read it, each ended by a
// line end.
func (ds Diagnostics) String() string {
	var b strings.Builder
	for _, d := range ds {
		b.WriteString(d.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Error is String without the last line end.
func (ds Diagnostics) Error() string { return strings.TrimSuffix(ds.String(), "\n") }

// sourceMax bounds what is shown of a line, in octets.
const sourceMax = 160

// String returns place, kind and message, then the line with a mark, then what
// to do.
func (d Diagnostic) String() string {
	var b strings.Builder
	switch {
	case d.File == "":
		b.WriteString("built-in configuration")
	case d.Line == 0:
		b.WriteString(d.File)
	default:
		fmt.Fprintf(&b, "%s:%d,%d", d.File, d.Line, d.Column)
	}
	kind := "error"
	if d.Warning {
		kind = "warning"
	}
	fmt.Fprintf(&b, ": %s: %s", kind, d.Message)
	if d.source != "" {
		line, under := d.marked()
		margin := len(fmt.Sprint(d.Line))
		fmt.Fprintf(&b, "\n  %d | %s\n  %*s | %s", d.Line, line, margin, "", under)
	}
	if d.Help != "" {
		b.WriteString("\n  " + d.Help)
	}
	return b.String()
}

// marked returns the line as it can be printed, and the carets under it. What a
// terminal would obey is shown as "?".
func (d Diagnostic) marked() (line, under string) {
	var l, u strings.Builder
	last := 0
	for i, r := range d.source {
		if i >= sourceMax {
			l.WriteString(" ...")
			break
		}
		inside := i >= d.mark[0] && i < d.mark[1]
		switch {
		case r == '\t':
		case !unicode.IsPrint(r):
			r = '?'
		}
		l.WriteRune(r)
		switch {
		case inside:
			u.WriteByte('^')
			last = u.Len()
		case r == '\t':
			u.WriteByte('\t')
		default:
			u.WriteByte(' ')
		}
	}
	if last == 0 { // the end of the line is meant, or what was not shown
		return l.String(), u.String() + "^"
	}
	return l.String(), u.String()[:last]
}

// pos makes a Pos of a range of HCL.
func (r *reader) pos(rng hcl.Range) Pos {
	p := Pos{File: r.file, Line: rng.Start.Line, Column: rng.Start.Column}
	start := min(rng.Start.Byte, len(r.src))
	from := strings.LastIndexByte(r.src[:start], '\n') + 1
	line := r.src[from:]
	if end := strings.IndexByte(line, '\n'); end >= 0 {
		line = line[:end]
	}
	p.source = strings.TrimSuffix(line, "\r")
	p.mark[0] = start - from
	p.mark[1] = min(max(rng.End.Byte-from, p.mark[0]+1), len(p.source))
	return p
}

// errorf notes an error at a range.
func (r *reader) errorf(rng hcl.Range, help, format string, args ...any) {
	r.diags = append(r.diags, r.pos(rng).Error(fmt.Sprintf(format, args...), help))
}

// warnf notes a warning at a range.
func (r *reader) warnf(rng hcl.Range, help, format string, args ...any) {
	d := r.pos(rng).Error(fmt.Sprintf(format, args...), help)
	d.Warning = true
	r.diags = append(r.diags, d)
}

// adopt takes over what HCL itself found.
func (r *reader) adopt(found hcl.Diagnostics) {
	for _, f := range found {
		d := Diagnostic{Pos: Pos{File: r.file}, Message: lowerFirst(f.Summary), Help: f.Detail}
		if f.Subject != nil {
			d.Pos = r.pos(*f.Subject)
		}
		d.Warning = f.Severity == hcl.DiagWarning
		r.diags = append(r.diags, d)
	}
}

func lowerFirst(s string) string {
	if s == "" || len(s) > 1 && unicode.IsUpper(rune(s[1])) {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// warn notes a warning at a Pos.
func (r *reader) warn(p Pos, help, format string, args ...any) {
	d := p.Error(fmt.Sprintf(format, args...), help)
	d.Warning = true
	r.diags = append(r.diags, d)
}

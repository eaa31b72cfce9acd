package postrider_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Sizes, in lines. A file or function that is larger does not fit on what a
// reader can hold in mind.
const (
	fileMax     = 600
	functionMax = 69
	rootMax     = 600 // the files of the root package together, tests left out
)

// ratchet holds what is larger than the limits allow: "file.go" or
// "file.go:Function", and its present size. An entry may only shrink, and goes
// when its subject is within the limit.
var ratchet = map[string]int{}

// A measure is the size of one subject, in lines.
type measure struct {
	subject string
	lines   int
	max     int
}

// measures returns the sizes of a file and its functions.
func measures(f *goFile) []measure {
	all := []measure{{f.name, bytes.Count(f.src, []byte("\n")), fileMax}}
	for _, d := range f.ast.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		lines := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
		all = append(all, measure{f.name + ":" + functionName(fn), lines, functionMax})
	}
	return all
}

// functionName returns "Name", or "Receiver.Name" for a method.
func functionName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	recv := fn.Recv.List[0].Type
	for {
		switch r := recv.(type) {
		case *ast.StarExpr:
			recv = r.X
		case *ast.IndexExpr:
			recv = r.X
		case *ast.IndexListExpr:
			recv = r.X
		case *ast.Ident:
			return r.Name + "." + fn.Name.Name
		default:
			return fn.Name.Name
		}
	}
}

// sizeFaults compares sizes with the limits and with the ratchet.
func sizeFaults(all []measure, ratchet map[string]int) []string {
	var faults []string
	seen := map[string]bool{}
	for _, m := range all {
		seen[m.subject] = true
		held, exempt := ratchet[m.subject]
		switch {
		case exempt && m.lines > held:
			faults = append(faults, fmt.Sprintf("%s has %d lines and grew: the ratchet holds it at %d", m.subject, m.lines, held))
		case exempt && m.lines <= m.max:
			faults = append(faults, fmt.Sprintf("%s has %d lines, within the limit: remove it from the ratchet", m.subject, m.lines))
		case exempt && m.lines < held:
			faults = append(faults, fmt.Sprintf("%s has shrunk to %d lines: write that into the ratchet", m.subject, m.lines))
		case !exempt && m.lines > m.max:
			faults = append(faults, fmt.Sprintf("%s has %d lines, the limit is %d", m.subject, m.lines, m.max))
		}
	}
	for subject := range ratchet {
		if !seen[subject] {
			faults = append(faults, fmt.Sprintf("the ratchet speaks of %s, which is not there", subject))
		}
	}
	slices.Sort(faults)
	return faults
}

// packageCommentFault wants one package comment, which begins as godoc expects.
func packageCommentFault(dir string, files []*goFile) string {
	var comments []string
	name := ""
	for _, f := range files {
		name = f.ast.Name.Name
		if f.ast.Doc != nil {
			comments = append(comments, f.ast.Doc.Text())
		}
	}
	if len(comments) != 1 {
		return fmt.Sprintf("package %s has %d package comments, want 1", dir, len(comments))
	}
	begins := "Package " + name + " "
	if name == "main" {
		begins = "Command " + path.Base(dir) + " "
	}
	if !strings.HasPrefix(comments[0], begins) {
		return fmt.Sprintf("the comment of package %s does not begin with %q", dir, begins)
	}
	return ""
}

// initFaults says where a file runs code before main.
func initFaults(f *goFile) []string {
	var faults []string
	for _, d := range f.ast.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			faults = append(faults, fmt.Sprintf("%s: func init: let the caller call it", f.fset.Position(fn.Pos())))
		}
	}
	return faults
}

// A textRule is a form of words that no file may hold.
type textRule struct {
	bad    *regexp.Regexp
	except []string // a match that begins with one of these is right all the same
	say    string
}

// textRules are written so that they do not match themselves.
var textRules = []textRule{
	{regexp.MustCompile(`\b(?:R[fF][cC]|rfc)[-_]?[0-9]+`), []string{"rfc822", "rfc3339"}, "write RFC 5321 4.5.3, so that one grep finds all"},
	{regexp.MustCompile(`\b(?:R[f]c|R[f]C|r[f]c) [0-9]{3,4}\b`), nil, "write RFC in capitals"},
	{regexp.MustCompile(`\bRFC  +[0-9]`), nil, "one space after RFC"},
	{regexp.MustCompile(`\bRFC [0-9]{3,4},? *(?:[sS]ec(?:tion|\.)|[(]?[§#])`), nil, "write RFC 5321 4.5.3, the number alone"},
	{regexp.MustCompile(`\bRFC [0-9]{3,4}[,:;/] ?[0-9]+\.[0-9]`), nil, "nothing between number and part: RFC 5321 4.5.3"},
	{regexp.MustCompile(`\b[sS]ection [0-9]+(?:\.[0-9]+)*\b`), nil, "write RFC 5321 4.5.3, with the number of the RFC"},
	{regexp.MustCompile(`§ ?[0-9]`), nil, "write RFC 5321 4.5.3, the number alone"},
	{regexp.MustCompile(`\b(?:TO[D]O|FIX[M]E|X[X]X)\b`), nil, "do it, or file it"},
	{regexp.MustCompile(`(?:^|[^\w.])/(?:work|root|home|Users)/`), nil, "a path of a machine that is not the reader's"},
}

// textFaults says which lines of a text break a rule.
func textFaults(name string, text []byte) []string {
	var faults []string
	for i, line := range strings.Split(string(text), "\n") {
		for _, r := range textRules {
			for _, m := range r.bad.FindAllString(line, -1) {
				if slices.ContainsFunc(r.except, func(good string) bool { return strings.HasPrefix(strings.ToLower(m), good) }) {
					continue
				}
				faults = append(faults, fmt.Sprintf("%s:%d: %q: %s", name, i+1, m, r.say))
			}
		}
	}
	return faults
}

// isText reports whether a person wrote the file as text of ours. The licence
// is not ours, the rows of the ledger quote RFCs as they are, fuzz corpora and
// checksums are nobody's.
func isText(name string) bool {
	if strings.Contains(name, "testdata/fuzz/") || strings.Contains(name, "testdata/rapid/") ||
		strings.HasPrefix(name, "internal/ledger/rows/") || name == "docs/rfc.md" {
		return false
	}
	switch path.Ext(name) {
	case ".go", ".md", ".hcl", ".txt", ".sh", ".py", ".html", ".css", ".mod":
		return true
	}
	return name == "Makefile" || name == ".ci/run" || name == ".gitignore"
}

// formatFault wants what gofmt would write.
func formatFault(f *goFile) string {
	want, err := format.Source(f.src)
	if err != nil {
		return fmt.Sprintf("%s: %v", f.name, err)
	}
	if !bytes.Equal(want, f.src) {
		return f.name + " is not as gofmt writes it"
	}
	return ""
}

var (
	mdLink = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	goName = regexp.MustCompile("`((?:[a-z]+/)+[a-z_]+\\.go)`")
)

// linkFaults says which files a document names that are not there: links from
// its own folder, Go files from the root.
func linkFaults(name string, text []byte, exists func(name string) bool) []string {
	var faults []string
	for _, m := range mdLink.FindAllSubmatch(text, -1) {
		if target := path.Join(path.Dir(name), string(m[1])); !exists(target) {
			faults = append(faults, fmt.Sprintf("%s links to %s, which is not there", name, target))
		}
	}
	for _, m := range goName.FindAllSubmatch(text, -1) {
		if target := string(m[1]); !exists(target) {
			faults = append(faults, fmt.Sprintf("%s names %s, which is not there", name, target))
		}
	}
	return faults
}

func TestSizes(t *testing.T) {
	var all []measure
	root := 0
	for _, f := range goFiles(t) {
		m := measures(f)
		all = append(all, m...)
		if f.dir() == "." && !f.test() {
			root += m[0].lines
		}
	}
	for _, fault := range sizeFaults(all, ratchet) {
		t.Error(fault)
	}
	if root == 0 || root > rootMax {
		t.Errorf("the root package has %d lines, the limit is %d: it holds nouns and interfaces only", root, rootMax)
	}
}

func TestPackageComments(t *testing.T) {
	byDir := map[string][]*goFile{}
	tests := map[string][]*goFile{}
	for _, f := range goFiles(t) {
		if f.test() {
			tests[f.dir()] = append(tests[f.dir()], f)
			continue
		}
		byDir[f.dir()] = append(byDir[f.dir()], f)
	}
	for dir, files := range tests {
		if byDir[dir] == nil { // a package of tests alone
			byDir[dir] = files
		}
	}
	for dir, files := range byDir {
		if fault := packageCommentFault(dir, files); fault != "" {
			t.Error(fault)
		}
	}
}

func TestGoIsFormattedAndHasNoInit(t *testing.T) {
	for _, f := range goFiles(t) {
		if fault := formatFault(f); fault != "" {
			t.Error(fault)
		}
		for _, fault := range initFaults(f) {
			t.Error(fault)
		}
	}
}

func TestText(t *testing.T) {
	n := 0
	walk(t, func(name string) {
		if !isText(name) {
			return
		}
		n++
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range textFaults(name, text) {
			t.Error(fault)
		}
		if path.Ext(name) != ".md" {
			return
		}
		for _, fault := range linkFaults(name, text, exists) {
			t.Error(fault)
		}
	})
	if n < 10 {
		t.Errorf("read only %d texts: the walk is broken", n)
	}
}

// exists reports whether a file or folder of the tree is there.
func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func TestLinkChecksCanFail(t *testing.T) {
	exists := func(name string) bool { return name == "docs/a.md" || name == "queue/retry.go" }
	for _, tt := range []struct{ text, want string }{
		{"[a](a.md), [a](a.md#b), [site](https://a.example/x), `queue/retry.go`, `retry.go`", ""},
		{"[b](b.md)", "links to docs/b.md"},
		{"[a](docs/a.md)", "links to docs/docs/a.md"},
		{"in `queue/again.go`", "names queue/again.go"},
	} {
		expectFault(t, linkFaults("docs/x.md", []byte(tt.text), exists), tt.want)
	}
}

func TestTextRulesCanFail(t *testing.T) {
	// A "~" is taken out before the rule sees the line, so that this file keeps
	// the rules itself.
	for _, tt := range []struct{ line, want string }{
		{"as RFC 5321 4.5.3 says", ""},
		{"RFC 3461, 3464 and RFC 5321 4.2, 4.3", ""},
		{"see RFC 5321 and the three sections after it", ""},
		{"Final-Recipient: rfc822;a@b.example, message/rfc822, RFC822;A@b", ""},
		{"R~FC5321", "one grep"},
		{"r~fc5321 4.5", "one grep"},
		{"R~FC-5321", "one grep"},
		{"r~fc 5321", "capitals"},
		{"R~fc 5321", "capitals"},
		{"RFC~  5321", "one space"},
		{"RFC 5321 s~ec. 4.5", "number alone"},
		{"RFC 5321, ~4.5.3", "nothing between"},
		{"the s~ection 4.5", "number of the RFC"},
		{"§~4.5", "number alone"},
		{"// T~ODO: later", "do it"},
		{"F~IXME", "do it"},
		{"X~XX", "do it"},
		{"/w~ork/main/x.go", "machine"},
		{"cat /r~oot/x", "machine"},
		{"dir=\"/h~ome/me/src\"", "machine"},
		{"the network/home/link of http://a.example/home/", ""},
	} {
		t.Run(tt.line, func(t *testing.T) {
			expectFault(t, textFaults("x.md", []byte(strings.ReplaceAll(tt.line, "~", ""))), tt.want)
		})
	}
}

func TestSizeChecksCanFail(t *testing.T) {
	src := "package p\n\nfunc (t *T[K]) f() {\n" + strings.Repeat("\tg()\n", functionMax-2) + "}\n"
	parse := func(src string) []measure {
		f, err := parseFile("p/p.go", []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		return measures(f)
	}
	longer := strings.Replace(src, "g()\n", "g()\n\tg()\n", 1)
	filler := strings.Repeat("var _ = 1\n", fileMax)
	for _, tt := range []struct {
		name, src string
		ratchet   map[string]int
		want      string
	}{
		{"at the limit", src, nil, ""},
		{"over the limit", longer, nil, "p/p.go:T.f has 70 lines, the limit is 69"},
		{"held", longer, map[string]int{"p/p.go:T.f": 70}, ""},
		{"shrunk", longer, map[string]int{"p/p.go:T.f": 71}, "has shrunk to 70"},
		{"grown", longer, map[string]int{"p/p.go:T.f": 69}, "grew"},
		{"no longer needed", src, map[string]int{"p/p.go:T.f": 70}, "remove it"},
		{"stale", src, map[string]int{"p/p.go:T.g": 70}, "not there"},
		{"file", "package p\n" + filler, nil, "p/p.go has 601 lines"},
	} {
		t.Run(tt.name, func(t *testing.T) { expectFault(t, sizeFaults(parse(tt.src), tt.ratchet), tt.want) })
	}
}

func TestFileChecksCanFail(t *testing.T) {
	comment := func(f *goFile) []string { return one(packageCommentFault(f.dir(), []*goFile{f})) }
	layout := func(f *goFile) []string { return one(formatFault(f)) }
	for _, tt := range []struct {
		name, src string
		check     func(*goFile) []string
		want      string
	}{
		{"comment", "// Package p does it.\npackage p\n", comment, ""},
		{"command", "// Command x does it.\npackage main\n", comment, ""},
		{"no comment", "package p\n", comment, "has 0 package comments"},
		{"other words", "// This package does it.\npackage p\n", comment, "does not begin"},
		{"formatted", "package p\n\nvar x = 1\n", layout, ""},
		{"unformatted", "package p\nvar  x = 1\n", layout, "gofmt"},
		{"init", "package p\n\nfunc init() {}\n", initFaults, "func init"},
		{"method init", "package p\n\nfunc (t T) init() {}\n", initFaults, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := parseFile("x/x.go", []byte(tt.src))
			if err != nil {
				t.Fatal(err)
			}
			expectFault(t, tt.check(f), tt.want)
		})
	}
}

// one makes a list of a fault, or of none.
func one(fault string) []string {
	if fault == "" {
		return nil
	}
	return []string{fault}
}

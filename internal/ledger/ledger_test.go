package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// The rows fit the code, and the page fits the rows.
func TestLedger(t *testing.T) {
	all, err := books()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, b := range all {
		for _, r := range b.rows {
			if seen[r.name()] {
				t.Errorf("%s is there twice", r.name())
			}
			seen[r.name()] = true
			for _, name := range r.tests {
				if !exists(t, name) {
					t.Errorf("%s: there is no test %s", r.name(), name)
				}
			}
			if r.proven() {
				if err := r.edit.Fits(root); err != nil {
					t.Errorf("%s: %v", r.name(), err)
				}
			}
		}
	}
	was, err := os.ReadFile(filepath.Join(root, "docs", "rfc.md"))
	if err != nil {
		t.Fatal(err)
	}
	if string(was) != page(all) {
		t.Error("docs/rfc.md is old: go run ./internal/ledger")
	}
}

// exists reports whether a test is in the files of its folder, and its case in
// those or in testdata.
func exists(t *testing.T, name string) bool {
	t.Helper()
	folder, name, _ := strings.Cut(name, " ")
	name, one, _ := strings.Cut(name, "/")
	dir := filepath.Join(root, filepath.FromSlash(folder))
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var src []byte
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		src = append(src, text...)
	}
	if !bytes.Contains(src, []byte("func "+name+"(")) {
		return false
	}
	for _, place := range []string{"testdata", "testdata/*"} {
		for _, end := range []string{"", ".txt"} {
			if found, err := filepath.Glob(filepath.Join(dir, place, filepath.FromSlash(one)+end)); err == nil && len(found) > 0 {
				return true
			}
		}
	}
	// A case of a table is called what it is, with "_" for spaces.
	loose := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(one), "_", "[ _]"))
	return loose.Match(src)
}

const good = `# for people
rfc 1 Words
scope 1 2.3

row 1.1 MUST NOT
quote it MUST NOT [...] be so
does It is not so.
test a TestOne
test b TestTwo/a_case
file a/x.go
--- old
one
--- new
--- end

row 2 MAY
quote it MAY be
not Nobody wants it.

row 3 SHOULD
quote one SHOULD think
none It is about people.
`

func TestParse(t *testing.T) {
	b, err := parse(good)
	if err != nil {
		t.Fatal(err)
	}
	if b.rfc != "1" || b.title != "Words" || !slices.Equal(b.scope, []string{"1", "2.3"}) || len(b.rows) != 3 {
		t.Fatalf("%+v", b)
	}
	r := b.rows[0]
	if !r.proven() || r.name() != "RFC 1 1.1 MUST NOT: it MUST NOT [...] be so" || len(r.tests) != 2 || r.edit.Old != "one" || r.edit.New != "" {
		t.Errorf("%+v", r)
	}
	if c := countOf(b.rows); c != (counts{rows: 3, proven: 1, not: 1, none: 1}) {
		t.Errorf("%+v", c)
	}
	for old, with := range map[string]string{
		"rfc 1 Words":                             "",
		"row 1.1 MUST NOT":                        "row 1.1 OUGHT",
		"quote it MAY be":                         "",
		"not Nobody wants it.":                    "",
		"test a TestOne\ntest b TestTwo/a_case\n": "",
		"file a/x.go\n":                           "",
		"--- end\n\nrow 2":                        "\nrow 2",
		"--- new\n":                               "",
		"--- old":                                 "--- new",
		"none It is":                              "perhaps It is",
		"one\n":                                   "",
		"none It is about people.\n":              "none It is about people.\ntest a TestOne\n",
	} {
		bad := strings.Replace(good, old, with, 1)
		if bad == good {
			t.Errorf("%q is not there", old)
		}
		if b, err := parse(bad); err == nil {
			t.Errorf("without %q it is taken: %+v", old, b)
		}
	}
}

func TestPage(t *testing.T) {
	b, err := parse(good)
	if err != nil {
		t.Fatal(err)
	}
	b.rows[0].quote += " <a|b>"
	got := page([]book{b})
	for _, want := range []string{
		"| [1](#1) | Words | 3 | 1 | 0 | 1 | 1 |\n",
		"| 1.1 | MUST NOT | it MUST NOT [...] be so &lt;a\\|b&gt; | It is not so. | `a` TestOne, `b` TestTwo/a_case |\n",
		"| **No.** Nobody wants it. |  |\n",
		"| Nothing to do. It is about people. |  |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if got := page([]book{b, b}); !strings.Contains(got, "| [1](#1-1) | Words |") {
		t.Errorf("the second list of an RFC is not linked to:\n%s", got)
	}
	b.rows[0].edit.File = ""
	if got := page([]book{b}); !strings.Contains(got, "TestTwo/a_case (not counted)") {
		t.Errorf("a row without an edit counts:\n%s", got)
	}
}

// The text is like those of the RFC Editor: a table of contents, and a page break
// in a sentence.
const rfc = `
   1. Names . . . . . . . . . . . . . . . . . . . . . . . . . . . . .  1

1.  Names

   A name
   MUST be short, and

Author                      Standards Track                     [Page 1]
` + "\f" + `
RFC 1                           Words                          May 2026

   SHOULD be good.  It MAY be red.

1.1.  More

   It MUST NOT be wrong.
`

func TestMissing(t *testing.T) {
	text := readText(rfc)
	if got := text.sections["1"]; got != "A name MUST be short, and SHOULD be good. It MAY be red." {
		t.Fatalf("%q", got)
	}
	rows := []row{
		{section: "1", quote: "name MUST be short [...] It MAY be"},
		{section: "1", quote: "and SHOULD be good"},
		{section: "1.1", quote: "It MUST NOT"},
	}
	for _, tt := range []struct {
		name  string
		rows  []row
		scope string
		want  []string
	}{
		{"all there", rows, "1", nil},
		{"not in the scope", rows[:2], "1.2", nil},
		{"one without a row", rows[:2], "1", []string{"1.1 has no row for"}},
		{"two without a row", nil, "1.1", []string{"1.1 has no row for"}},
		{"other words", append(rows, row{section: "1.1", quote: "It MUST be"}), "1", []string{"1.1 does not say: It MUST be"}},
		{"other order", append(rows, row{section: "1", quote: "SHOULD [...] MUST"}), "1", []string{"1 does not say"}},
	} {
		b := book{rfc: "1", scope: []string{tt.scope}, rows: tt.rows}
		got := b.missing(text)
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q", tt.name, got)
			continue
		}
		for i, want := range tt.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("%s: %q, want %q", tt.name, got[i], want)
			}
		}
	}
}

// A row holds if its test fails with the edit, and only then.
func TestTry(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":      "module example.com/x\n\ngo 1.26\n",
		"a/a.go":      "package a\n\nfunc one() int { return 1 }\n",
		"a/a_test.go": "package a\n\nimport \"testing\"\n\nfunc TestOne(t *testing.T) {\n\tt.Run(\"a case\", func(t *testing.T) {\n\t\tif one() < 1 {\n\t\t\tt.Fatal()\n\t\t}\n\t})\n}\n\nfunc TestSkipped(t *testing.T) { t.Skip() }\n",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	t.Setenv("GOFLAGS", "")
	for _, tt := range []struct{ test, old, with, want string }{
		{"a TestOne/a_case", "return 1", "return 0", "fails "},
		{"a TestOne", "return 1", "return 0", "fails "},
		{"a TestOne", "return 1", "return 2", "PASSES"},
		{"a TestOne", "return 1", "return x", "does not build"},
		{"a TestOne", "return 3", "return 0", "0 times"},
		{"a TestTwo", "return 1", "return 0", "no test"},
		{"a TestSkipped", "return 1", "return 0", "skipped"},
	} {
		r := row{rfc: "1", section: "1", level: "MUST", quote: "it", kind: done, tests: []string{tt.test}}
		r.edit.File, r.edit.Old, r.edit.New = "a/a.go", tt.old, tt.with
		var out strings.Builder
		bad, err := try(t.Context(), dir, []row{r}, &out)
		if err != nil || !strings.Contains(out.String(), tt.want) || (bad == 0) != (tt.want == "fails ") {
			t.Errorf("%+v: %d, %v\n%s", tt, bad, err, out.String())
		}
	}
}

func TestPick(t *testing.T) {
	var b book
	for _, s := range []string{"1", "2", "3", "4"} {
		r := row{rfc: "7", section: s, kind: done}
		if s != "4" {
			r.edit.File = "x"
		}
		b.rows = append(b.rows, r)
	}
	any := regexp.MustCompile("")
	if got := pick([]book{b}, -1, 1, any); len(got) != 3 {
		t.Errorf("%d rows", len(got))
	}
	if got := pick([]book{b}, 2, 1, any); len(got) != 2 {
		t.Errorf("%d rows", len(got))
	}
	if got := pick([]book{b}, 9, 1, regexp.MustCompile("RFC 7 [24]")); len(got) != 1 || got[0].section != "2" {
		t.Errorf("%v", got)
	}
}

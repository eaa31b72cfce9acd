package postrider_test

import (
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// threats is how many faults and attacks docs/threats.md answers for.
const threats = 90

// A threat is one row of the table: number, what it is, what we do, what holds it.
type threat struct {
	number       int
	what, do, by string
}

var (
	threatRow = regexp.MustCompile(`(?m)^\| *([0-9]+) *\|(.*)\|(.*)\|(.*)\|$`)
	quotedRef = regexp.MustCompile("`([^`]+)`")
	testRef   = regexp.MustCompile("`[^`]+`|(?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+(?:/[A-Za-z0-9_]+)?|checker [a-z0-9_]+")
	notYet    = regexp.MustCompile(`Not yet: [^|]{10,}`)
)

// threatsOf reads the rows of the table.
func threatsOf(text string) []threat {
	var rows []threat
	for _, m := range threatRow.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		rows = append(rows, threat{n, strings.TrimSpace(m[2]), strings.TrimSpace(m[3]), strings.TrimSpace(m[4])})
	}
	return rows
}

// A tree is what the table may name.
type tree struct {
	dirs  map[string]string // all Go source of a folder
	tests map[string]string // "dir TestName": the source of its file
	has   func(file string) bool
}

// has reports what is wrong with a reference, nothing if it is there. A name in
// backquotes is a folder, which the tests after it are in, or a file.
func (tr *tree) faults(row threat) []string {
	fault := func(format string, args ...any) string {
		return fmt.Sprintf("row %d: ", row.number) + fmt.Sprintf(format, args...)
	}
	if row.what == "" || row.do == "" {
		return []string{fault("an empty cell")}
	}
	var faults []string
	dir, held := "", 0
	for _, ref := range testRef.FindAllString(row.by, -1) {
		if m := quotedRef.FindStringSubmatch(ref); m != nil {
			switch {
			case tr.dirs[m[1]] != "":
				dir = m[1]
			case strings.Contains(m[1], "/") && tr.has(m[1]):
				held++
			case strings.Contains(m[1], "/") || dir == "":
				faults = append(faults, fault("%s is not there", m[1]))
			}
			continue
		}
		held++
		name, sub, _ := strings.Cut(ref, "/")
		checker, isChecker := strings.CutPrefix(ref, "checker ")
		src, ok := tr.tests[dir+" "+name]
		switch {
		case isChecker && !strings.Contains(tr.dirs["internal/sim"], `"`+checker+`: `):
			faults = append(faults, fault("no checker %s", checker))
		case isChecker:
		case !ok:
			faults = append(faults, fault("no %s in %s", name, dir))
		case sub != "" && !strings.Contains(src, `"`+strings.ReplaceAll(sub, "_", " ")+`"`) && !strings.Contains(src, `"`+sub+`"`) &&
			!tr.has(path.Join(dir, "testdata", sub+".txt")):
			faults = append(faults, fault("%s has no %s", name, sub))
		}
	}
	if held == 0 && !notYet.MatchString(row.by) {
		faults = append(faults, fault("neither a test nor a reason"))
	}
	return faults
}

// threatFaults wants each row once, in order, and each with what holds it.
func threatFaults(text string, want int, tr *tree) []string {
	text, bugs, _ := strings.Cut(text, "\n## Bugs")
	rows := threatsOf(text)
	var faults []string
	for _, bug := range threatsOf(bugs) { // by their seeds
		faults = append(faults, tr.faults(bug)...)
	}
	for i, row := range rows {
		if row.number != i+1 {
			return append(faults, fmt.Sprintf("row %d stands where %d belongs", row.number, i+1))
		}
		faults = append(faults, tr.faults(row)...)
	}
	if len(rows) != want {
		faults = append(faults, fmt.Sprintf("%d rows, want %d", len(rows), want))
	}
	return faults
}

// treeOf reads what there is.
func treeOf(files []*goFile) *tree {
	tr := &tree{dirs: map[string]string{}, tests: map[string]string{}, has: exists}
	for _, f := range files {
		tr.dirs[f.dir()] += string(f.src)
		if !f.test() {
			continue
		}
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`).FindAllSubmatch(f.src, -1) {
			tr.tests[f.dir()+" "+string(m[1])] = string(f.src)
		}
	}
	return tr
}

func TestThreats(t *testing.T) {
	text, err := os.ReadFile("docs/threats.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range threatFaults(string(text), threats, treeOf(goFiles(t))) {
		t.Error("docs/threats.md: " + fault)
	}
}

// never is what the server does not import: what would run a program, expand
// octets or evaluate a text, each with the row of the table that counts on it.
var never = map[string]int{
	"os/exec": 24, "plugin": 24, "text/template": 25, "html/template": 25,
	"compress/gzip": 37, "compress/zlib": 37, "compress/flate": 37, "compress/bzip2": 37, "archive/zip": 37, "archive/tar": 37,
}

// neverFaults says what a file of the server imports that it must not.
func neverFaults(f *goFile) []string {
	var faults []string
	for _, p := range f.imports() {
		if row := never[p]; row > 0 && !f.test() && !strings.HasPrefix(f.name, "internal/") && !strings.HasPrefix(f.name, "bench/") {
			faults = append(faults, fmt.Sprintf("%s imports %s: row %d of docs/threats.md", f.name, p, row))
		}
	}
	return faults
}

func TestNeverImported(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, fault := range neverFaults(f) {
			t.Error(fault)
		}
	}
	for name, want := range map[string]string{"node/x.go": "row 24", "node/x_test.go": "", "internal/x/x.go": "", "bench/x/x.go": ""} {
		f, err := parseFile(name, []byte("package x\nimport _ \"os\"\nimport \"os/exec\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		expectFault(t, neverFaults(f), want)
	}
}

func TestThreatChecksCanFail(t *testing.T) {
	tr := &tree{
		dirs:  map[string]string{"a": "x", "a/b": "x", "internal/sim": `x("kept: %s")`},
		tests: map[string]string{"a TestOne": `t.Run("a case")`, "a/b TestTwo": "", "a/b FuzzTwo": ""},
		has:   func(name string) bool { return slices.Contains([]string{"a/testdata/x.txt", "a/y.go"}, name) },
	}
	for _, tt := range []struct{ by, want string }{
		{"`a` TestOne", ""},
		{"`a` TestOne/a_case, TestOne/x; `a/b` TestTwo, FuzzTwo", ""},
		{"`a/testdata/x.txt`", ""},
		{"`a/y.go`, `mention` too", "mention is not there"},
		{"`internal/sim` checker kept", ""},
		{"`internal/sim` checker lost", "no checker lost"},
		{"`a` TestTwo", "no TestTwo in a"},
		{"TestOne", "no TestOne in "},
		{"`a` TestOne/other", "has no other"},
		{"`a/testdata/y.txt`", "not there"},
		{"`c` TestOne", "c is not there|no TestOne"},
		{"Not yet: lists are not built.", ""},
		{"Not yet", "neither"},
		{"`a`", "neither"},
		{"", "neither"},
	} {
		got := threatFaults("| 1 | it | we | "+tt.by+" |\n", 1, tr)
		for i, want := range strings.Split(tt.want, "|") {
			if want == "" && len(got) > 0 || want != "" && (i >= len(got) || !strings.Contains(got[i], want)) {
				t.Errorf("%s: %q, want %q", tt.by, got, tt.want)
			}
		}
	}
	for text, want := range map[string]string{
		"| 2 | a | b | `a` TestOne |\n":                                  "stands where",
		"| 1 | a | b | `a` TestOne |\n| 1 | a | b | `a` TestOne |\n":     "stands where",
		"| 1 | a | b | `a` TestOne |\n":                                  "1 rows, want 2",
		"| 1 | a | b | `a` TestOne |\n\n| 2 |  | b | `a` TestOne |\n":    "empty cell",
		"| 1 | a | b | `a` TestOne |\n| 2 | c | d | Not yet: because. |": "neither",
	} {
		expectFault(t, threatFaults(text, 2, tr), want)
	}
	for by, want := range map[string]string{"`a` TestOne": "", "`a` TestTwo": "row 77: no TestTwo in a"} {
		text := "| 1 | a | b | `a` TestOne |\n\n## Bugs of our own\n\n| 77 | it lost | mended | " + by + " |\n"
		expectFault(t, threatFaults(text, 1, tr), want)
	}
}

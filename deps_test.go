package postrider_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/postrider/postrider"

// A rule says what the files of one package, its tests apart, may import beside
// the standard library.
type rule struct {
	local []string // packages of this module; "." is the root
	other []string // modules or packages of others, with all below them
	// edge: the package may touch the machine: files, sockets, processes.
	edge bool
	// all: the package may import every package of this module.
	all bool
	// also: what is banned away from the edge, and needed here.
	also []string
}

// policy is who may import whom. A package that is not here fails the test, so
// that a new folder begins with the question of what it may know.
var policy = map[string]rule{
	".": {local: []string{"smtp"}},

	// Protocol libraries: for anyone, nothing of the product.
	"smtp":        {},
	"message":     {},
	"vfs":         {other: []string{"golang.org/x/sys"}, edge: true},
	"vfs/vfstest": {local: []string{"vfs"}},
	"dns":         {other: []string{"github.com/miekg/dns", "golang.org/x/net/idna"}},
	"dns/dnstest": {local: []string{"dns"}, other: []string{"github.com/miekg/dns"}, edge: true},
	"smtpd":       {local: []string{"smtp"}},
	"smtpc":       {local: []string{"smtp"}},
	"dsn":         {local: []string{"smtp", "message"}},
	"jwt":         {},
	"conformance": {local: []string{"smtp"}},

	// Stages of a message: none imports another.
	"receive": {local: []string{".", "smtp", "smtpd", "message"}},
	"policy":  {local: []string{".", "smtp", "dns", "message"}},
	"spool":   {local: []string{".", "smtp", "vfs"}},
	"queue":   {local: []string{".", "smtp", "dsn", "message", "internal/pace"}},
	"route":   {local: []string{".", "smtp", "dns"}},
	"relay":   {local: []string{".", "smtp", "smtpc", "dns", "message", "internal/pace"}},
	"maildir": {local: []string{".", "smtp", "vfs", "message"}},
	"journal": {local: []string{".", "smtp", "vfs"}},
	"account": {local: []string{".", "smtp", "dns", "vfs"}, other: []string{"golang.org/x/crypto/argon2", "golang.org/x/text/secure/precis", "golang.org/x/text/unicode/norm"}},

	// What joins and keeps them.
	"admin":              {local: []string{".", "smtp"}, other: []string{"github.com/prometheus"}},
	"config":             {local: []string{".", "smtp", "route", "jwt"}, other: []string{"github.com/hashicorp/hcl/v2", "github.com/zclconf/go-cty"}, also: []string{"os.LookupEnv"}},
	"node":               {all: true, edge: true},
	"cmd/postrider":      {all: true, other: []string{"github.com/alecthomas/kong", "golang.org/x/sys"}, edge: true},
	"examples/sink":      {local: []string{"smtp", "smtpd"}, edge: true},
	"examples/forwarder": {local: []string{"smtp", "smtpd", "smtpc"}, edge: true},
	"examples/filter":    {local: []string{"smtp", "smtpd", "smtpc"}, edge: true},
	"examples":           {edge: true},
	"bench/library":      {local: []string{"smtp", "smtpd", "smtpc"}, other: []string{"github.com/emersion/go-smtp"}, edge: true},
	"bench/load":         {edge: true},
	"bench/run":          {all: true, other: []string{"github.com/miekg/dns"}, edge: true},
	"internal/edit":      {edge: true},
	"internal/pace":      {},
	"internal/ledger":    {local: []string{"internal/edit"}, edge: true},
	"internal/mutants":   {local: []string{"internal/edit"}, edge: true},
	"internal/sim": {local: []string{".", "admin", "smtp", "smtpc", "smtpd", "message", "dsn", "dns", "dns/dnstest", "vfs", "spool", "config", "node"},
		other: []string{"github.com/miekg/dns"}},
}

// banned is what only a package at the edge may use: for each import path what
// tells the names that all may use. Where it is nil, the import itself is banned.
var banned = map[string]func(name string) bool{
	"os": func(n string) bool {
		return strings.HasPrefix(n, "O_") || strings.HasPrefix(n, "Err") || strings.HasPrefix(n, "Mode") ||
			slices.Contains([]string{"FileMode", "FileInfo", "PathError", "SyscallError"}, n)
	},
	"net": func(n string) bool {
		if n == "Listener" { // the interface
			return true
		}
		for _, p := range []string{"Dial", "Listen", "Lookup", "File", "Resolver", "DefaultResolver", "Interface"} {
			if strings.HasPrefix(n, p) {
				return false
			}
		}
		return true
	},
	"crypto/tls": func(n string) bool { return !strings.HasPrefix(n, "Dial") && n != "Listen" && n != "LoadX509KeyPair" },
	"net/http": func(n string) bool {
		return !slices.Contains([]string{"Get", "Head", "Post", "PostForm", "Client", "DefaultClient", "DefaultTransport",
			"ListenAndServe", "ListenAndServeTLS", "Dir", "ServeFile"}, n)
	},
	"path/filepath": func(n string) bool {
		return !slices.Contains([]string{"Walk", "WalkDir", "Glob", "EvalSymlinks", "Abs"}, n)
	},
	"math/rand/v2": func(n string) bool {
		return slices.Contains([]string{"Rand", "Source", "PCG", "ChaCha8", "Zipf", "New", "NewPCG", "NewChaCha8", "NewZipf"}, n)
	},
	"math/rand": nil, "os/exec": nil, "os/signal": nil, "io/ioutil": nil, "plugin": nil, "unsafe": nil,
}

// A goFile is one parsed file of the tree.
type goFile struct {
	name string // slash separated, from the root of the module
	src  []byte
	fset *token.FileSet
	ast  *ast.File
}

func (f *goFile) dir() string { return path.Dir(f.name) }
func (f *goFile) test() bool  { return strings.HasSuffix(f.name, "_test.go") }
func (f *goFile) imports() map[string]string {
	byName := map[string]string{}
	for _, s := range f.ast.Imports {
		p, _ := strconv.Unquote(s.Path.Value)
		name := path.Base(p)
		if major := name; len(major) > 1 && major[0] == 'v' && strings.Trim(major[1:], "0123456789") == "" {
			name = path.Base(path.Dir(p))
		}
		if s.Name != nil {
			name = s.Name.Name
		}
		byName[name] = p
	}
	return byName
}

// parseFile makes a goFile of a source text.
func parseFile(name string, src []byte) (*goFile, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	return &goFile{name: name, src: src, fset: fset, ast: tree}, nil
}

// walk calls fn for every file of the tree that a person wrote, .git and the
// like left out. Names are slash separated.
func walk(t *testing.T, fn func(name string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(p)
		if d.IsDir() {
			if base := path.Base(name); name != "." && base != ".ci" && (base[0] == '.' || base[0] == '_' || base == "vendor" || base == "postrider-data") {
				return filepath.SkipDir
			}
			return nil
		}
		fn(name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goFiles parses the tree, testdata left out.
func goFiles(t *testing.T) []*goFile {
	t.Helper()
	var files []*goFile
	walk(t, func(name string) {
		if path.Ext(name) != ".go" || strings.Contains(name, "testdata/") {
			return
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		f, err := parseFile(name, src)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	})
	if len(files) < 10 {
		t.Fatalf("found only %d Go files: the walk is broken", len(files))
	}
	return files
}

// importFaults says which imports of a file its package may not have.
func importFaults(f *goFile, rules map[string]rule) []string {
	r, known := rules[f.dir()]
	if !known {
		return []string{fmt.Sprintf("%s: package %s is not in the policy of deps_test.go: say there what it may import", f.name, f.dir())}
	}
	var faults []string
	for _, s := range f.ast.Imports {
		p, _ := strconv.Unquote(s.Path.Value)
		if !allowed(r, p) {
			faults = append(faults, fmt.Sprintf("%s imports %s: the policy of deps_test.go does not let %s", f.fset.Position(s.Pos()), p, f.dir()))
		}
	}
	return faults
}

// allowed reports whether a rule lets a package import p.
func allowed(r rule, p string) bool {
	if p == module || strings.HasPrefix(p, module+"/") {
		local := strings.TrimPrefix(strings.TrimPrefix(p, module), "/")
		if local == "" {
			local = "."
		}
		return r.all || slices.Contains(r.local, local)
	}
	if first, _, _ := strings.Cut(p, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	return slices.ContainsFunc(r.other, func(o string) bool { return p == o || strings.HasPrefix(p, o+"/") })
}

// machineFaults says where a file touches the machine, or the global random
// source, past the interfaces that tests replace.
func machineFaults(f *goFile, also ...string) []string {
	var faults []string
	at := func(n ast.Node, what string) {
		faults = append(faults, fmt.Sprintf("%s: %s: only vfs, node and cmd touch the machine", f.fset.Position(n.Pos()), what))
	}
	imports := f.imports()
	for _, s := range f.ast.Imports {
		p, _ := strconv.Unquote(s.Path.Value)
		if ok, found := banned[p]; found && (ok == nil || s.Name != nil && s.Name.Name == ".") {
			at(s, "import of "+p)
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok || x.Obj != nil { // Obj: a variable of this file hides the import
			return true
		}
		used := imports[x.Name] + "." + sel.Sel.Name
		if ok := banned[imports[x.Name]]; ok != nil && !ok(sel.Sel.Name) && !slices.Contains(also, used) {
			at(sel, used)
		}
		return true
	})
	return faults
}

// sleepFaults says where a test waits by the real clock. In a synctest bubble
// time costs nothing; elsewhere a sleep is slow on one machine and too short on
// the next.
func sleepFaults(f *goFile) []string {
	imports := f.imports()
	for _, p := range imports {
		if p == "testing/synctest" {
			return nil
		}
	}
	var faults []string
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Sleep" {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && imports[x.Name] == "time" {
			faults = append(faults, fmt.Sprintf("%s: time.Sleep in a test without synctest: wait for the thing itself", f.fset.Position(n.Pos())))
		}
		return true
	})
	return faults
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range goFiles(t) {
		if f.test() {
			continue
		}
		seen[f.dir()] = true
		for _, fault := range importFaults(f, policy) {
			t.Error(fault)
		}
	}
	for dir := range policy {
		if !seen[dir] {
			t.Errorf("the policy of deps_test.go speaks of %s, which is not there", dir)
		}
	}
}

func TestTheMachineIsTouchedAtTheEdgeOnly(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test() || policy[f.dir()].edge {
			continue
		}
		for _, fault := range machineFaults(f, policy[f.dir()].also...) {
			t.Error(fault)
		}
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, f := range goFiles(t) {
		if !f.test() {
			continue
		}
		for _, fault := range sleepFaults(f) {
			t.Error(fault)
		}
	}
}

// The checks above pass on a tree that is right. These are the wrong ones.
func TestDepsChecksCanFail(t *testing.T) {
	rules := map[string]rule{
		"a": {local: []string{"smtp"}, other: []string{"example.org/mod"}},
		"n": {all: true},
	}
	imports := func(f *goFile) []string { return importFaults(f, rules) }
	machineFaults := func(f *goFile) []string { return machineFaults(f, "os.LookupEnv") }
	for _, tt := range []struct {
		name, file, src string
		check           func(*goFile) []string
		want            string // part of the one fault; empty: none
	}{
		{"allowed", "a/a.go", `import ("fmt"; "example.org/mod/x"; "` + module + `/smtp")`, imports, ""},
		{"a stage", "a/a.go", `import "` + module + `/queue"`, imports, "imports " + module + "/queue"},
		{"the root", "a/a.go", `import "` + module + `"`, imports, "imports " + module},
		{"a stranger", "a/a.go", `import "example.org/mode"`, imports, "imports example.org/mode"},
		{"node takes all", "n/a.go", `import "` + module + `/queue"`, imports, ""},
		{"unlisted", "b/b.go", `import "fmt"`, imports, "package b is not in the policy"},

		{"flag of os", "a/a.go", `import "os"; var x = os.O_RDWR`, machineFaults, ""},
		{"let by name", "a/a.go", `import "os"; var x, _ = os.LookupEnv("x")`, machineFaults, ""},
		{"not let", "a/a.go", `import "os"; var x = os.Getenv("x")`, machineFaults, "os.Getenv"},
		{"file call", "a/a.go", `import "os"; var x, _ = os.Open("x")`, machineFaults, "os.Open"},
		{"renamed import", "a/a.go", `import o "os"; func f() { o.Remove("x") }`, machineFaults, "os.Remove"},
		{"dot import", "a/a.go", `import . "os"`, machineFaults, "import of os"},
		{"dial", "a/a.go", `import "net"; func f() { net.DialTimeout("", "", 0) }`, machineFaults, "net.DialTimeout"},
		{"dialer", "a/a.go", `import "net"; var d net.Dialer`, machineFaults, "net.Dialer"},
		{"listen", "a/a.go", `import "net"; func f() { net.Listen("", "") }`, machineFaults, "net.Listen"},
		{"conn", "a/a.go", `import "net"; var c net.Conn; var l net.Listener`, machineFaults, ""},
		{"hidden", "a/a.go", `import "net"; func f(net T) { net.Listen() }`, machineFaults, ""},
		{"exec", "a/a.go", `import "os/exec"`, machineFaults, "import of os/exec"},
		{"global random", "a/a.go", `import "math/rand/v2"; var x = rand.IntN(3)`, machineFaults, "rand/v2.IntN"},
		{"own random", "a/a.go", `import "math/rand/v2"; var x = rand.New(rand.NewPCG(1, 2))`, machineFaults, ""},
		{"old random", "a/a.go", `import "math/rand"`, machineFaults, "import of math/rand"},

		{"sleep", "a/a_test.go", `import "time"; func f() { time.Sleep(1) }`, sleepFaults, "time.Sleep"},
		{"sleep in a bubble", "a/a_test.go", `import ("time"; "testing/synctest"); func f() { synctest.Wait(); time.Sleep(1) }`, sleepFaults, ""},
		{"after", "a/a_test.go", `import "time"; func f() { <-time.After(1) }`, sleepFaults, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := parseFile(tt.file, []byte("package p; "+tt.src))
			if err != nil {
				t.Fatal(err)
			}
			expectFault(t, tt.check(f), tt.want)
		})
	}
}

// expectFault wants one fault that contains want, or none where want is empty.
func expectFault(t *testing.T, faults []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(faults) > 0:
		t.Errorf("faults in what is right: %q", faults)
	case want != "" && (len(faults) != 1 || !strings.Contains(faults[0], want)):
		t.Errorf("faults are %q, want one with %q", faults, want)
	}
}

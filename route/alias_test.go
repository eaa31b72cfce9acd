package route

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

var update = flag.Bool("update", false, "write what is printed to testdata")

// memFiles are files in memory, with names from the root.
type memFiles struct {
	mu    sync.Mutex
	files fstest.MapFS
	reads int
	fails map[string]error // of ReadFile, by name
}

func newFiles(texts map[string]string) *memFiles {
	m := &memFiles{files: fstest.MapFS{}}
	for name, text := range texts {
		m.write(name, text, time.Unix(1, 0))
	}
	return m
}

func (m *memFiles) write(name, text string, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(text), ModTime: at, Mode: 0o644}
}

func (m *memFiles) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files.Stat(strings.TrimPrefix(name, "/"))
}

func (m *memFiles) ReadFile(name string, max int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if err := m.fails[name]; err != nil {
		return nil, err
	}
	text, err := m.files.ReadFile(strings.TrimPrefix(name, "/"))
	return text[:min(int64(len(text)), max)], err
}

// aliasTable has two domains with an alias file each, and one that shares the
// second.
func aliasTable(files Files) Table {
	return Table{
		Hostname: "a.example",
		Domains: []Domain{
			{Name: "a.example", Mailboxes: []string{"alice", "bob", "bob+lists", "carol"}, Aliases: "/a", Deliver: maildir},
			{Name: "b.example", Mailboxes: []string{"dora"}, Aliases: "/b", Deliver: maildir},
			{Name: "bücher.example", Mailboxes: []string{"dora"}, Aliases: "/b", Deliver: maildir},
		},
		Files: files,
	}
}

func TestAliases(t *testing.T) {
	files := newFiles(map[string]string{
		"/a": `# A comment: it is none
Sales:	alice, Bob@A.example,
	# between
	carol@elsewhere.example , carol@ELSEWHERE.example,
staff: sales, dora@b.example,, "o'neil x"@elsewhere.example
alice+work: \alice, x@elsewhere.example
bob: \bob, alice+work
"two words" : Alice Liddell <alice@a.example>
root: postmaster
list: :include:/lists/all
half: carol, nobody, nobody@b.example
ghost: \nobody
comma: "alice, bob"@elsewhere.example
escaped: "alice\", bob"@elsewhere.example
quoted: carol@elsewhere.example, "carol"@elsewhere.example, "c\arol"@elsewhere.example
none: nobody, nobody@bücher.example
`,
		"/b":              "info: dora\n*: info\nboth: info, dora@b.example, dora@xn--bcher-kva.example, sales@a.example\n",
		"/lists/all":      "\ufeff# all\r\nalice, bob\r\n\r\n  dora@b.example\r\n\":include:/lists/one more\"\r\n",
		"/lists/one more": "staff",
	})
	table := aliasTable(files)
	table.Postmaster = at(t, "sales@a.example")
	r := router(t, table)
	const mailbox, alias, unknown = postrider.KindMailbox, postrider.KindAlias, postrider.KindUnknown
	sales := "alice@a.example bob@a.example x@elsewhere.example carol@elsewhere.example"
	for _, tt := range []struct {
		to   string
		kind postrider.Kind
		want string
	}{
		{"SALES@a.EXAMPLE", alias, sales},
		{"sales@[127.0.0.1]", postrider.KindRemote, "sales@[127.0.0.1]"},
		{"staff@a.example", alias, sales + ` dora@b.example "o'neil x"@elsewhere.example`},
		{"alice@a.example", mailbox, "alice@a.example"},
		{"alice+work@a.example", alias, "alice@a.example x@elsewhere.example"},
		{"alice+home@a.example", mailbox, "alice+home@a.example"},
		{"bob@a.example", alias, "bob@a.example alice@a.example x@elsewhere.example"},
		{"bob+home@a.example", alias, "bob@a.example alice@a.example x@elsewhere.example"},
		{"bob+lists@a.example", mailbox, "bob+lists@a.example"},
		{`"two words"@a.example`, alias, "alice@a.example"},
		{"root@a.example", alias, sales},
		{"postmaster@a.example", alias, sales},
		{"Postmaster", alias, sales},
		{"list@a.example", alias, `alice@a.example bob@a.example x@elsewhere.example dora@b.example carol@elsewhere.example "o'neil x"@elsewhere.example`},
		{"half@a.example", alias, "carol@a.example nobody@a.example dora@b.example"},
		{"none@a.example", alias, "nobody@a.example dora@xn--bcher-kva.example"},
		{"nobody@a.example", unknown, "nobody@a.example"},
		{"ghost@a.example", unknown, "ghost@a.example"},
		{"comma@a.example", alias, `"alice, bob"@elsewhere.example`},
		{"escaped@a.example", alias, `"alice\", bob"@elsewhere.example`},
		{"quoted@a.example", alias, "carol@elsewhere.example"}, // one mailbox, whatever its quotes
		{"info@b.example", alias, "dora@b.example"},
		{"whoever@b.example", alias, "dora@b.example"},
		{`"*"@b.example`, alias, "dora@b.example"},
		{"info+x@bücher.example", alias, "dora@xn--bcher-kva.example"},
		{"both@b.example", alias, "dora@b.example dora@xn--bcher-kva.example " + sales},
		{"both@bücher.example", alias, "dora@xn--bcher-kva.example dora@b.example " + sales},
	} {
		got, err := r.Resolve(t.Context(), at(t, tt.to), postrider.Source{})
		if err != nil || got.Kind != tt.kind || paths(got.To) != tt.want {
			t.Errorf("%s: kind %d %s, %v\nwant kind %d %s", tt.to, got.Kind, paths(got.To), err, tt.kind, tt.want)
		}
	}
}

func paths(all []smtp.Path) string {
	var s []string
	for _, p := range all {
		s = append(s, p.String())
	}
	return strings.Join(s, " ")
}

// The postmaster of all domains may be an alias, the postmaster of one of them, or
// nobody, and there is one all the same.
func TestPostmasterAliases(t *testing.T) {
	for _, tt := range []struct{ postmaster, a, to, want string }{
		{"postmaster@a.example", "root: postmaster", "postmaster@a.example", "postmaster@a.example"},
		{"postmaster@a.example", "root: postmaster", "postmaster@b.example", "postmaster@a.example"},
		{"postmaster@a.example", "root: postmaster", "root@a.example", "postmaster@a.example"},
		{"postmaster@a.example", "postmaster: bob", "postmaster@b.example", "bob@a.example"},
		{"nobody@a.example", "", "Postmaster@b.example", "Postmaster@b.example"},
		{"root@a.example", "root: alice, bob", "postmaster@b.example", "alice@a.example bob@a.example"},
	} {
		table := aliasTable(newFiles(map[string]string{"/a": tt.a, "/b": ""}))
		table.Postmaster = at(t, tt.postmaster)
		got, err := router(t, table).Resolve(t.Context(), at(t, tt.to), postrider.Source{})
		if err != nil || paths(got.To) != tt.want || got.Kind == postrider.KindUnknown {
			t.Errorf("%+v: %+v, %v", tt, got, err)
		}
	}
	table := aliasTable(newFiles(map[string]string{"/a": "root: postmaster", "/b": ""}))
	table.Postmaster = at(t, "root@a.example")
	if _, err := New(table); err == nil || !strings.Contains(err.Error(), "/a:1,") || !strings.Contains(err.Error(), "a loop of aliases: root@a.example -> postmaster@a.example -> root@a.example") {
		t.Errorf("%v", err)
	}
}

// A loop that an account could end is no error while nobody knows the accounts;
// who meets it then is asked to come again.
func TestLoopThroughTag(t *testing.T) {
	table := aliasTable(newFiles(map[string]string{"/a": "alice: alice+work", "/b": ""}))
	if got, err := router(t, table).Resolve(t.Context(), at(t, "alice@a.example"), postrider.Source{}); err == nil || !strings.Contains(err.Error(), "a loop of aliases") {
		t.Errorf("%+v, %v", got, err)
	}
	table.Account = func(p smtp.Path) bool { return p.Local == "alice+work" }
	if got, err := router(t, table).Resolve(t.Context(), at(t, "alice@a.example"), postrider.Source{}); err != nil || paths(got.To) != "alice+work@a.example" {
		t.Errorf("%+v, %v", got, err)
	}
	table.Account = func(p smtp.Path) bool { return false }
	if _, err := New(table); err == nil {
		t.Error("the loop is taken")
	}
}

// Accounts are mailboxes: they come after aliases, and take their tags.
func TestAccounts(t *testing.T) {
	files := newFiles(map[string]string{"/a": "eve: \\eve, alice\n*: carol\nall: frank, alice, nobody@b.example\n", "/b": ""})
	table := aliasTable(files)
	accounts := map[string]bool{"eve@a.example": true, "frank@a.example": true, `"g h"@xn--bcher-kva.example`: true}
	table.Account = func(p smtp.Path) bool { return accounts[p.String()] }
	r := router(t, table)
	for to, want := range map[string]string{
		"eve@a.example":        "eve@a.example alice@a.example",
		"FRANK+x@a.example":    "FRANK+x@a.example",
		`"g h"@Bücher.example`: `"g h"@Bücher.example`,
		"gone@a.example":       "carol@a.example",
		"all@a.example":        "frank@a.example alice@a.example nobody@b.example",
	} {
		if got, err := r.Resolve(t.Context(), at(t, to), postrider.Source{}); err != nil || paths(got.To) != want || got.Kind == postrider.KindUnknown {
			t.Errorf("%s: %+v, %v, want %s", to, got, err, want)
		}
	}
	if w := r.Warnings(); len(w) != 1 || !strings.Contains(w[0].Error(), "/a:3,20: nobody is called nobody@b.example") {
		t.Errorf("warnings %v", w)
	}
	delete(accounts, "frank@a.example") // its mail goes to the catch-all now
	if got, _ := r.Resolve(t.Context(), at(t, "frank@a.example"), postrider.Source{}); paths(got.To) != "carol@a.example" {
		t.Errorf("%+v", got)
	}
	if way := r.Route(at(t, "frank@a.example")); way.Via != postrider.ViaError || way.Reply.Code != 550 {
		t.Errorf("what waits for a mailbox that is gone goes %+v", way)
	}
	if way := r.Route(at(t, "eve+tag@a.example")); way.Dir != "/mail/a.example/eve" {
		t.Errorf("%+v", way)
	}
}

// A catch-all that leads to nobody leads to nobody, and goes round in no circle.
func TestCatchAllToNobody(t *testing.T) {
	r := router(t, aliasTable(newFiles(map[string]string{"/a": "*: gone, typo\n", "/b": "*: sales@a.example"})))
	for _, to := range []string{"x@a.example", "x@b.example"} {
		if got, err := r.Resolve(t.Context(), at(t, to), postrider.Source{}); err != nil || got.Kind != postrider.KindUnknown {
			t.Errorf("%s: %+v, %v", to, got, err)
		}
	}
}

// A domain whose alias file was not read refuses nobody.
func TestAliasesNotRead(t *testing.T) {
	table := aliasTable(nil)
	table.Domains = append(table.Domains, Domain{Name: "c.example", Deliver: maildir})
	r := router(t, table)
	if got, err := r.Resolve(t.Context(), at(t, "sales@a.example"), postrider.Source{}); err == nil {
		t.Errorf("%+v", got)
	}
	if got, err := r.Resolve(t.Context(), at(t, "sales@c.example"), postrider.Source{}); err != nil || got.Kind != postrider.KindUnknown {
		t.Errorf("%+v, %v", got, err)
	}
	if way := r.Route(at(t, "alice@a.example")); way.Via != postrider.ViaMaildir {
		t.Errorf("%+v", way)
	}
}

// Every wrong alias file is told with its place. The text of a case is in
// testdata/aliases: files that begin with "== NAME", then what is to be said.
func TestWrongAliases(t *testing.T) {
	names, _ := filepath.Glob("testdata/aliases/*.txt")
	if len(names) < 19 {
		t.Fatalf("%d wrong alias files: some are lost", len(names))
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts, want := map[string]string{"/a": "", "/b": ""}, ""
		for _, part := range strings.Split("\n"+string(src), "\n== ")[1:] {
			file, text, _ := strings.Cut(part, "\n")
			if file == "says" {
				want = strings.TrimSpace(text)
				continue
			}
			texts[file] = text + "\n"
		}
		_, err = New(aliasTable(newFiles(texts)))
		var faults AliasFaults
		if !errors.As(err, &faults) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if head, _, _ := strings.Cut(string(src), "== says\n"); *update {
			if err := os.WriteFile(name, []byte(head+"== says\n"+err.Error()+"\n"), 0o666); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got := err.Error(); got != want {
			t.Errorf("%s says\n%s\nwant\n%s", name, got, want)
		}
		for _, f := range faults {
			if f.Line > 0 && (f.Mark[0] >= f.Mark[1] || f.Mark[1] > len(f.Source)) || f.Help == "" {
				t.Errorf("%s: %+v", name, f)
			}
		}
	}
}

// An alias file that is not there, or is no file, is a fault of the file as a
// whole; one that everybody may write to is a warning.
func TestAliasFileItself(t *testing.T) {
	files := newFiles(map[string]string{"/b/x": ""})
	_, err := New(aliasTable(files))
	var faults AliasFaults
	if !errors.As(err, &faults) || len(faults) != 2 || faults[0].Line != 0 || faults[0].File != "/a" ||
		!strings.Contains(faults[0].Message, "does not exist") || !strings.Contains(faults[1].Message, "no regular file") {
		t.Errorf("%v", err)
	}
	files = newFiles(map[string]string{"/a": "", "/b": ""})
	files.files["a"].Mode, files.files["b"].Mode = 0o646, 0o664 // a group that may write has been named
	if w := router(t, aliasTable(files)).Warnings(); len(w) != 1 || !w[0].Warning || w[0].Help != "Take that right away: chmod o-w /a" {
		t.Errorf("%v", w)
	}
}

// Limits hold what no file in testdata can show.
func TestAliasLimits(t *testing.T) {
	many := func(n int, f string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, f, i, i+1)
		}
		return b.String()
	}
	wide := "all: " + strings.TrimSuffix(many(200, "l%[1]d,"), ",") + "\n" + many(200, "l%[1]d: :include:/fifty\n")
	numbered := map[string]string{}
	for i := range 1001 {
		numbered[fmt.Sprint("/n", i)] = ""
	}
	fifty := many(50, "u%[1]d@elsewhere.example\n")
	for _, tt := range []struct {
		name, a, want string
		more          map[string]string
	}{
		{"as many as may be", "all: " + many(9_999, "u%[1]d@x.example,") + "alice", "", nil},
		{"too many", "all: " + many(10_001, "u%[1]d@x.example,") + "alice", "more than 10000 addresses for one name", nil},
		{"too many in files", "all: :include:/x, :include:/y", "more than 10000 addresses for one name",
			map[string]string{"/x": many(6_000, "a%[1]d@x.example\n"), "/y": many(6_000, "b%[1]d@x.example\n")}},
		{"together", strings.Replace(wide, ":include:/fifty", ":include:/fifty, \\bob", 1), "all@a.example stands for more than 10000 addresses", map[string]string{"/fifty": fifty}},
		{"many ways to few", many(60, "l%[1]d: l%[2]d, l%[2]d\n") + "l60: alice", "", nil},
		{"a long way", many(99, "l%[1]d: l%[2]d\n") + "l99: alice", "", nil},
		{"too long a way", many(100, "l%[1]d: l%[2]d\n") + "l100: alice", "/a:1,1: l0@a.example leads through more than 100 aliases", nil},
		{"much too long a way", many(3000, "l%[1]d: l%[2]d\n") + "l3000: alice", "leads through more than 100 aliases", nil},
		{"too large", strings.Repeat("#\n", aliasFileMax/2+1), "it is larger than", nil},
		{"many faults", many(1000, "l%[1]d\n"), "/a:21,1: and more after this", nil},
		{"as many files as may be", "l0: alice, " + many(1000, ":include:/n%[1]d,"), "", numbered},
		{"too many files", "l: " + many(1001, ":include:/n%[1]d,"), "more than 1000 files are included", numbered},
		{"as deep as may be", "l0: alice, :include:/0", "", map[string]string{"/0": ":include:/1", "/1": ":include:/2", "/2": ":include:/3", "/3": ":include:/4",
			"/4": ":include:/5", "/5": ":include:/6", "/6": ":include:/7", "/7": "alice"}},
		{"deep", "l: :include:/0", "more than 8 files that include each other",
			map[string]string{"/0": ":include:/1", "/1": ":include:/2", "/2": ":include:/3", "/3": ":include:/4", "/4": ":include:/5",
				"/5": ":include:/6", "/6": ":include:/7", "/7": ":include:/8", "/8": "alice"}},
	} {
		texts := map[string]string{"/a": tt.a, "/b": ""}
		for name, text := range tt.more {
			texts[name] = text
		}
		r, err := New(aliasTable(newFiles(texts)))
		if faults, ok := err.(AliasFaults); ok && len(faults) > faultsMax+1 {
			t.Errorf("%s: %d faults", tt.name, len(faults))
		}
		if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) || tt.want == "" && err != nil {
			t.Errorf("%s: %.300v, want %s", tt.name, err, tt.want)
		}
		if err == nil {
			for _, to := range []string{"all@a.example", "l0@a.example"} {
				if _, err := r.Resolve(t.Context(), at(t, to), postrider.Source{}); err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
			}
		}
	}
}

// A file that has changed is taken within a second, a wrong one is told once and
// changes nothing.
func TestAliasesLive(t *testing.T) {
	files := newFiles(map[string]string{"/a": "sales: alice\n", "/b": "info: :include:/l\n", "/l": "dora"})
	now := time.Unix(1000, 0)
	var told []string
	table := aliasTable(files)
	table.Now = func() time.Time { return now }
	table.Alarm = func(err error) { told = append(told, err.Error()) }
	r := router(t, table)
	for i, step := range []struct {
		name, text string
		wait       time.Duration
		sales      string // what it stands for then
		info       string
		told       string
	}{
		{"", "", 0, "alice@a.example", "dora@b.example", ""},
		{"/a", "sales: bob\n", 999 * time.Millisecond, "alice@a.example", "dora@b.example", ""},
		{"", "", time.Millisecond, "bob@a.example", "dora@b.example", ""},
		{"/l", "x@elsewhere.example", time.Second, "bob@a.example", "x@elsewhere.example", ""},
		{"/a", "sales: dan, |program\n", time.Second, "bob@a.example", "x@elsewhere.example", "/a:1,13: mail to a program"},
		{"/l", "dora", time.Minute, "bob@a.example", "dora@b.example", ""},
		{"/a", "sales: carol\n", time.Second, "carol@a.example", "dora@b.example", ""},
		{"/l", "sales@a.example", time.Second, "carol@a.example", "carol@a.example", ""},
		{"/a", "sales: bob, info@b.example\n", time.Second, "carol@a.example", "carol@a.example", "a loop of aliases: sales@a.example -> info@b.example -> sales@a.example"},
		{"", "", time.Minute, "carol@a.example", "carol@a.example", ""},
		{"/l", "dora", time.Second, "bob@a.example dora@b.example", "dora@b.example", ""},
	} {
		told = nil
		if step.name != "" {
			files.write(step.name, step.text, now)
		}
		now = now.Add(step.wait)
		for to, want := range map[string]string{"sales@a.example": step.sales, "info@b.example": step.info} {
			if got, err := r.Resolve(t.Context(), at(t, to), postrider.Source{}); err != nil || paths(got.To) != want {
				t.Errorf("step %d: %s is %s, %v; want %s", i, to, paths(got.To), err, want)
			}
		}
		if strings.Join(told, "; ") != step.told && (step.told == "" || len(told) != 1 || !strings.Contains(told[0], step.told)) {
			t.Errorf("step %d: told %q, want %q", i, told, step.told)
		}
	}
}

// A change that shows in neither size nor time is seen all the same when it comes
// soon after the file was read, and a file that rests is not read again.
func TestAliasesChangeUnseen(t *testing.T) {
	files := newFiles(map[string]string{"/a": "sales: carol\n", "/b": ""})
	now := time.Unix(1000, 0)
	files.write("/a", "sales: alice\n", now)
	table := aliasTable(files)
	table.Now = func() time.Time { return now }
	r := router(t, table)
	files.write("/a", "sales: carol\n", now)
	now = now.Add(time.Second)
	if got, err := r.Resolve(t.Context(), at(t, "sales@a.example"), postrider.Source{}); err != nil || paths(got.To) != "carol@a.example" {
		t.Errorf("%v, %v", got, err)
	}
	for range 5 {
		now = now.Add(time.Second)
		r.Refresh()
	}
	rest := files.reads
	for range 5 {
		now = now.Add(time.Second)
		r.Refresh()
	}
	if files.reads != rest {
		t.Errorf("%d more reads", files.reads-rest)
	}
	files.write("/a", "sales: alice\n", now) // as large as before
	now = now.Add(time.Second)
	if got, err := r.Resolve(t.Context(), at(t, "sales@a.example"), postrider.Source{}); err != nil || paths(got.To) != "alice@a.example" {
		t.Errorf("after a rest: %v, %v", got, err)
	}
}

// A file that has changed and cannot be read, or that is not there for a moment, changes
// nothing: its names are those that it held before, and it is told once. It is taken as
// soon as it can be read, though it looks as it did: who may read it shows in neither its
// size nor its time.
func TestAliasesUnreadable(t *testing.T) {
	denied := &fs.PathError{Op: "open", Err: fs.ErrPermission}
	for _, tt := range []struct {
		name, file string
		text       string // of the file, when it can be read again
		old        time.Duration
		gone       bool
		info       string // what it stands for then
	}{
		{name: "no right to read it", file: "/b", text: "info: dora, x@elsewhere.example\n", info: "dora@b.example x@elsewhere.example"},
		{name: "no right, and it changed long ago", file: "/b", text: "info: x@elsewhere.example\n", old: time.Hour, info: "x@elsewhere.example"},
		{name: "it is not there", file: "/b", text: "info: x@elsewhere.example\n", gone: true, info: "x@elsewhere.example"},
		{name: "no right to read what it includes", file: "/l", text: "x@elsewhere.example\n", old: time.Hour, info: "x@elsewhere.example"},
		{name: "what it includes is not there", file: "/l", text: "x@elsewhere.example\n", gone: true, info: "x@elsewhere.example"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := newFiles(map[string]string{"/a": "sales: alice\n", "/b": "info: :include:/l\n", "/l": "dora\n"})
			now := time.Unix(100_000, 0)
			var told []string
			table := aliasTable(files)
			table.Now = func() time.Time { return now }
			table.Alarm = func(err error) { told = append(told, err.Error()) }
			r := router(t, table)
			want := func(when, info string) {
				t.Helper()
				for to, want := range map[string]string{"sales@a.example": "alice@a.example", "info@b.example": info} {
					got, err := r.Resolve(t.Context(), at(t, to), postrider.Source{})
					if err != nil || got.Kind != postrider.KindAlias || paths(got.To) != want {
						t.Errorf("%s: %s is %s (kind %d), %v; want %s", when, to, paths(got.To), got.Kind, err, want)
					}
				}
			}
			now = now.Add(time.Minute)
			files.write(tt.file, tt.text, now.Add(-tt.old))
			kept := files.files[tt.file[1:]]
			if files.fails = map[string]error{tt.file: denied}; tt.gone {
				delete(files.files, tt.file[1:])
			}
			for range 5 {
				now = now.Add(time.Minute)
				want("while it cannot be read", "dora@b.example")
			}
			if len(told) != 1 || !strings.Contains(told[0], tt.file) {
				t.Errorf("told %q", told)
			}
			files.files[tt.file[1:]], files.fails = kept, nil
			now = now.Add(lookEvery)
			want("when it can be read", tt.info)
			if len(told) != 1 {
				t.Errorf("told %q", told)
			}
		})
	}
}

// Many resolve while the file changes: each sees the old or the new.
func TestAliasesConcurrently(t *testing.T) {
	files := newFiles(map[string]string{"/a": "sales: alice\n", "/b": ""})
	r := router(t, aliasTable(files))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				got, err := r.Resolve(t.Context(), smtp.Path{Local: "sales", Domain: "a.example"}, postrider.Source{})
				if s := paths(got.To); err != nil || s != "alice@a.example" && s != "bob@a.example" {
					t.Errorf("%s, %v", s, err)
					return
				}
			}
		})
	}
	for i := range 50 {
		files.write("/a", []string{"sales: bob\n", "sales: alice\n"}[i%2], time.Unix(int64(i), 0))
		r.Refresh()
	}
	wg.Wait()
}

// Whatever stands in an alias file: what is said of it has a place in it; where
// nothing is wrong every name resolves, to addresses that can be said, each once.
func FuzzAliases(f *testing.F) {
	for _, s := range []string{"a: b, c\n d", "x: :include:/l\n", `"q, \"": "y z"@e.example`, "*: alice", "a:a", "a+b: \\a", "a: N <b@c>, \"|x\"", "\ufeff#\r\na\t:\tb"} {
		f.Add(s, "alice\n# c\nbob, x@y.example")
	}
	f.Fuzz(func(t *testing.T, a, l string) {
		table := aliasTable(newFiles(map[string]string{"/a": a, "/b": "", "/l": l}))
		// Who knows no accounts cannot tell of a circle through "name+", which may be one.
		table.Account = func(p smtp.Path) bool { return p.Local == "alice" }
		r, err := New(table)
		var faults AliasFaults
		if err != nil && !errors.As(err, &faults) {
			t.Fatal(err)
		}
		for _, fault := range faults {
			text := map[string]string{"/a": a, "/l": l}[fault.File]
			lines := strings.Split(text, "\n")
			if fault.Line < 1 || fault.Line > len(lines) || strings.TrimSuffix(lines[fault.Line-1], "\r") != fault.Source ||
				fault.Mark[0] < 0 || fault.Mark[0] > fault.Mark[1] || fault.Mark[1] > len(fault.Source) {
				t.Fatalf("%+v", fault)
			}
		}
		if err != nil {
			return
		}
		for name := range r.aliases.Load().files["/a"].entries {
			to := smtp.Path{Local: smtp.QuoteLocal(name), Domain: "a.example"}
			got, err := r.Resolve(t.Context(), to, postrider.Source{})
			if err != nil {
				t.Fatalf("%s: %v", to, err)
			}
			for i, p := range got.To {
				if again, err := smtp.ParsePath(p.String()); err != nil && len(p.String()) <= smtp.PathMax-2 || err == nil && again != p {
					t.Fatalf("%s leads to %q", to, p)
				}
				if slices.Contains(got.To[:i], p) {
					t.Fatalf("%s leads to %q twice", to, p)
				}
			}
		}
	})
}

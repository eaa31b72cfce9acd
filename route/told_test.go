package route

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// toldFiles have one of each kind of what a name can be.
func toldFiles() *memFiles {
	return newFiles(map[string]string{
		"/a": `sales:   Alice Liddell <alice>, "Bob \"B\" O'Neil" <bob@a.example>, carol@elsewhere.example
Crispin: Mark Crispin <Alice@a.example>
carol:   :moved: carol@elsewhere.example
dave:    :Forward: dave@elsewhere.example
erin:    :forward: alice
gone:    :moved: "frank o'neil"@elsewhere.example
jörg:    :moved: jörg@elsewhere.example
jürgen:  :forward: jürgen@elsewhere.example
nested:  sales, \bob, carol, nobody, team+x
secret:  :closed:, Alice Liddell <alice>, bob
team:    :include:/lists/team
quiet:   alice@elsewhere.example
named:   Alice <alice@elsewhere.example>
ghost:   nobody
lost:    carol
fwghost: :forward: nobody
twice:   alice, ALICE@a.example, Al <alice>, \alice, sales, Sales
long:    Bell` + "\x07" + ` <alice>, <b@x> <bob>
`,
		"/b":          "sales: dora\ncarol: dora\n",
		"/lists/team": "alice\nJörg <bob>, sales\nx@elsewhere.example\n",
	})
}

// RFC 5321 3.4: an alias may forward silently, forward and say so with 251, or
// refuse and name the new address with 551.
func TestNewAddresses(t *testing.T) {
	files := toldFiles()
	r := router(t, aliasTable(files))
	const mailbox, alias, unknown = postrider.KindMailbox, postrider.KindAlias, postrider.KindUnknown
	for _, tt := range []struct {
		to    string
		kind  postrider.Kind
		want  string
		reply string
	}{
		{"carol@a.example", unknown, "carol@a.example", "551 5.1.6 User not local; please try <carol@elsewhere.example>"},
		{"CAROL+x@A.example", unknown, "CAROL+x@A.example", "551 5.1.6 User not local; please try <carol@elsewhere.example>"},
		{"gone@a.example", unknown, "gone@a.example", `551 5.1.6 User not local; please try <"frank o'neil"@elsewhere.example>`},
		{"dave@a.example", alias, "dave@elsewhere.example", "251 2.1.5 User not local; will forward to <dave@elsewhere.example>"},
		{"erin@a.example", alias, "alice@a.example", "251 2.1.5 User not local; will forward to <alice@a.example>"},
		{"quiet@a.example", alias, "alice@elsewhere.example", ""},
		// On a list, one who has moved is like one whom nobody knows, but for a mailbox of that name.
		{"nested@a.example", alias, "alice@a.example bob@a.example carol@elsewhere.example carol@a.example nobody@a.example x@elsewhere.example", ""},
		{"lost@a.example", alias, "carol@a.example", ""},
		{"fwghost@a.example", unknown, "fwghost@a.example", ""},
		{"alice@a.example", mailbox, "alice@a.example", ""},
		{"carol@b.example", alias, "dora@b.example", ""},
	} {
		got, err := r.Resolve(t.Context(), at(t, tt.to), postrider.Source{})
		reply := ""
		if !got.Reply.IsZero() {
			reply = got.Reply.String()
		}
		if err != nil || got.Kind != tt.kind || paths(got.To) != tt.want || reply != tt.reply {
			t.Errorf("%s: kind %d %s %q, %v\nwant kind %d %s %q", tt.to, got.Kind, paths(got.To), reply, err, tt.kind, tt.want, tt.reply)
		}
	}
}

// RFC 5321 3.5: who a name is, and who is on a list.
func TestLookup(t *testing.T) {
	files := toldFiles()
	table := aliasTable(files)
	table.Domains = append(table.Domains, Domain{Name: "any.example", Mailboxes: []string{"*", "zoe"}, Deliver: maildir},
		Domain{Name: "catch.example", Aliases: "/c", Deliver: maildir})
	files.write("/c", "*: alice@a.example\nx: bob@a.example\n", files.files["a"].ModTime)
	r := router(t, table)
	sales := "sales@a.example[Alice Liddell <alice@a.example>, Bob \"B\" O'Neil <bob@a.example>,  <carol@elsewhere.example>]"
	for _, tt := range []struct{ name, want string }{
		{"alice", "alice@a.example"},
		{"ALICE@A.EXAMPLE", "alice@a.example"},
		{"bob+x@a.example", "bob+x@a.example"},
		{"sales@a.example", sales},
		// A name without a domain is looked for in all of them, home first.
		{"sales", sales + " sales@b.example[ <dora@b.example>] sales@xn--bcher-kva.example[ <dora@xn--bcher-kva.example>]"},
		{"dora", "dora@b.example dora@xn--bcher-kva.example"},
		{"carol", "carol@a.example:551 carol@b.example[ <dora@b.example>] carol@xn--bcher-kva.example[ <dora@xn--bcher-kva.example>]"},
		{"dave", "dave@a.example:251"},
		{"zoe", "zoe@any.example"},
		{"x", "x@catch.example[ <bob@a.example>]"},
		// What only a catch-all takes is found where the name alone says so.
		{"nobody", ""},
		{"nobody@any.example", "nobody@any.example?"},
		{"nobody@catch.example", "nobody@catch.example?"},
		{"nobody@a.example", ""},
		{"ghost", ""},
		{"fwghost", ""},
		{"alice@elsewhere.example", ""},
		{"postmaster", "postmaster@a.example"},
		{"Postmaster@b.example", "postmaster@b.example"},
		// A person with the full name, where that is one of ours.
		{"crispin", "Mark Crispin alice@a.example[Mark Crispin <alice@a.example>]"},
		{"named", "named@a.example[Alice <alice@elsewhere.example>]"},
		{"quiet", "quiet@a.example[ <alice@elsewhere.example>]"},
		// Lists on a list are named, and who is not there is left out.
		{"nested", "nested@a.example[ <sales@a.example>,  <bob@a.example>,  <team+x@a.example>]"},
		{"team", "team@a.example[ <alice@a.example>, Jörg <bob@a.example>,  <sales@a.example>,  <x@elsewhere.example>]"},
		{"twice", "twice@a.example[ <alice@a.example>,  <sales@a.example>]"},
		{"secret", "secret@a.example(closed)[]"},
		{"long", "long@a.example[ <alice@a.example>,  <bob@a.example>]"},
	} {
		name := smtp.Path{Local: tt.name}
		if strings.Contains(tt.name, "@") {
			name = at(t, tt.name)
		}
		entries, err := r.Lookup(t.Context(), name)
		if got := entryWords(entries); got != tt.want || err != nil {
			t.Errorf("%s: %s, %v\nwant %s", tt.name, got, err, tt.want)
		}
	}
}

func entryWords(entries []Entry) string {
	var all []string
	for _, e := range entries {
		s := strings.TrimSpace(e.Name + " " + e.Address.String())
		if e.Vague {
			s += "?"
		}
		if e.Closed {
			s += "(closed)"
		}
		if e.List {
			var who []string
			for _, m := range e.Members {
				who = append(who, fmt.Sprintf("%s <%s>", m.Name, m.Address))
			}
			s += "[" + strings.Join(who, ", ") + "]"
		}
		if !e.Reply.IsZero() {
			s += fmt.Sprintf(":%d", e.Reply.Code)
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

// Every name that Lookup gives is one that RCPT takes, and there are never more
// than can be told.
func TestLookupBounds(t *testing.T) {
	table := Table{Hostname: "d007.example", Files: newFiles(nil)}
	for i := range 50 {
		table.Domains = append(table.Domains, Domain{Name: fmt.Sprintf("d%03d.example", i), Mailboxes: []string{"info"}, Deliver: maildir})
	}
	r := router(t, table)
	entries, err := r.Lookup(t.Context(), smtp.Path{Local: "info"})
	if err != nil || len(entries) != entriesMax+1 || entries[0].Address.Domain != "d007.example" || entries[1].Address.Domain != "d000.example" {
		t.Errorf("%s, %v", entryWords(entries), err)
	}
	for _, e := range entries {
		if res, err := r.Resolve(t.Context(), e.Address, postrider.Source{}); err != nil || res.Kind != postrider.KindMailbox {
			t.Errorf("%s: %+v, %v", e.Address, res, err)
		}
	}
}

// Where an alias file could not be read nobody is denied.
func TestLookupUnread(t *testing.T) {
	table := aliasTable(nil)
	r := router(t, table)
	if e, err := r.Lookup(t.Context(), at(t, "sales@a.example")); err == nil {
		t.Errorf("%s", entryWords(e))
	}
}

// A list is read for warnings too: who has moved is named.
func TestMovedIsWarnedOf(t *testing.T) {
	table := aliasTable(newFiles(map[string]string{"/a": "erin: :moved: erin@b.example\nlist: alice, erin\nfay: :moved: bob\n", "/b": ""}))
	table.Account = func(smtp.Path) bool { return false }
	r := router(t, table)
	want := "/a:1,7: nobody is called erin@b.example. Mail to it comes back to its sender.\n/a:2,14: nobody is called erin@a.example. Mail to it comes back to its sender."
	if got := r.Warnings().Error(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

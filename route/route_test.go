package route

import (
	"net/netip"
	"path"
	"reflect"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

func at(t *testing.T, s string) smtp.Path {
	t.Helper()
	p, err := smtp.ParsePath(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return p
}

var maildir = postrider.Route{Via: postrider.ViaMaildir, Dir: "/mail/{domain}/{user}"}

func testTable() Table {
	mx := postrider.Route{Via: postrider.ViaMX}
	return Table{
		Hostname: "mx1.example.org",
		Addrs:    []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("2001:db8::1")},
		Domains: []Domain{
			{Name: "Example.org", Mailboxes: []string{"Alice", "bob", "bob+lists", "o'neil x", "jörg"}, Deliver: maildir},
			{Name: "any.example", Mailboxes: []string{"*"}, Deliver: maildir},
			{Name: "bücher.example", Mailboxes: []string{"info"}, Deliver: maildir},
			{Name: "backup.example", Mailboxes: []string{"*"}, Deliver: mx},
			{Name: "empty.example", Deliver: maildir},
			{Name: "store.example", Deliver: postrider.Route{Via: postrider.ViaLMTP, Socket: "/run/lmtp"}},
		},
		Rules: []Rule{
			{"partner.example", postrider.Route{Via: postrider.ViaSMTP, Host: "gw.internal", Port: 2525, Private: true}},
			{".partner.example", postrider.Route{Via: postrider.ViaSMTP, Host: "2001:db8::2"}},
			{"a.held.example", mx},
			{".held.example", postrider.Route{Via: postrider.ViaHold}},
			{"ärger.example", postrider.Route{Via: postrider.ViaError, Reply: smtp.Reply{Code: 550, Text: "no"}}},
			{"void.example", postrider.Route{Via: postrider.ViaDiscard}},
			{"[192.0.2.7]", postrider.Route{Via: postrider.ViaHold}},
			{"secret.example", postrider.Route{Via: postrider.ViaSMTP, Host: "gw.internal", Implicit: true, TLS: postrider.TLSVerify}},
			{"hidden.example", postrider.Route{Via: postrider.ViaSMTP, Host: "gw.internal", Port: 8465, Implicit: true, TLS: postrider.TLSVerify}},
			{"lmtp.example", postrider.Route{Via: postrider.ViaLMTP, Host: "::1", Port: 24}},
			{"socket.example", postrider.Route{Via: postrider.ViaLMTP, Socket: "/run/lmtp"}},
		},
	}
}

func router(t *testing.T, table Table) *Router {
	t.Helper()
	r, err := New(table)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestResolve(t *testing.T) {
	r := router(t, testTable())
	withPostmaster := testTable()
	withPostmaster.Postmaster = at(t, "ops@elsewhere.example")
	rp := router(t, withPostmaster)
	bare := router(t, Table{Hostname: "mx.example"})
	const mailbox, unknown, remote = postrider.KindMailbox, postrider.KindUnknown, postrider.KindRemote
	tests := []struct {
		r    *Router
		to   string
		kind postrider.Kind
		want string // empty: to itself
	}{
		{r, "alice@example.org", mailbox, ""},
		{r, "ALICE@EXAMPLE.ORG", mailbox, ""},
		{r, `"a\lice"@example.org`, mailbox, ""},
		{r, "carol@example.org", unknown, ""},
		{r, "alice@sub.example.org", remote, ""},
		{r, "alice@notexample.org", remote, ""},
		{r, "bob+tag@example.org", mailbox, ""},
		{r, "bob+@example.org", mailbox, ""},
		{r, "+bob@example.org", unknown, ""},
		{r, "carol+bob@example.org", unknown, ""},
		{r, `"o'neil x"@example.org`, mailbox, ""},
		{r, "JÖRG@example.org", mailbox, ""},
		{r, "info@xn--bcher-kva.example", mailbox, ""},
		{r, "info@BÜCHER.example", mailbox, ""},
		{r, "whoever@any.example", mailbox, ""},
		{r, "whoever@backup.example", mailbox, ""},
		{r, "whoever@empty.example", unknown, ""},
		{r, "alice@[127.0.0.1]", mailbox, ""},
		{r, "carol@[IPv6:2001:DB8:0::1]", unknown, ""},
		{r, "alice@[192.0.2.1]", remote, ""},
		{r, "x@partner.example", remote, ""}, // a route grants no acceptance
		{r, "Postmaster", mailbox, "Postmaster@example.org"},
		{r, "PostMaster@empty.example", mailbox, ""},
		{r, "postmaster@other.example", remote, ""},
		{rp, "postmaster", mailbox, "ops@elsewhere.example"},
		{rp, "postmaster@example.org", mailbox, "ops@elsewhere.example"},
		{rp, "postmaster@any.example", mailbox, ""},
		{bare, "postmaster", unknown, ""},
		{bare, "alice@example.org", remote, ""},
	}
	for _, tt := range tests {
		got, err := tt.r.Resolve(t.Context(), at(t, tt.to), postrider.Source{})
		want := tt.want
		if want == "" {
			want = tt.to
		}
		if err != nil || got.Kind != tt.kind || !strings.EqualFold(got.To[0].String(), want) {
			t.Errorf("%s: kind %d %s, %v; want %d %s", tt.to, got.Kind, got.To, err, tt.kind, want)
		}
	}
}

func TestRoute(t *testing.T) {
	table := testTable()
	r := router(t, table)
	table.Rules = append(table.Rules, Rule{"*", postrider.Route{Via: postrider.ViaMX, Port: 2526, Private: true}})
	star := router(t, table)
	local := func(domain, dir string) postrider.Route {
		return postrider.Route{Dest: postrider.Dest("local:" + domain), Via: postrider.ViaMaildir, Dir: dir}
	}
	tests := []struct {
		r    *Router
		to   string
		want postrider.Route
	}{
		{r, "ALICE@Example.ORG", local("example.org", "/mail/example.org/alice")},
		{r, "bob+tag@example.org", local("example.org", "/mail/example.org/bob")},
		{r, "bob+lists@example.org", local("example.org", "/mail/example.org/bob+lists")},
		{r, "jörg@example.org", local("example.org", "/mail/example.org/j%c3%b6rg")},
		{r, "alice@[127.0.0.1]", local("example.org", "/mail/example.org/alice")},
		{r, "Postmaster", local("example.org", "/mail/example.org/postmaster")},
		{r, "info@bücher.example", local("xn--bcher-kva.example", "/mail/xn--bcher-kva.example/info")},
		{r, `"../../etc"@any.example`, local("any.example", "/mail/any.example/%2e.%2f..%2fetc")},
		{r, `"{domain}"@any.example`, local("any.example", "/mail/any.example/%7bdomain%7d")},
		{r, `""@any.example`, local("any.example", "/mail/any.example/%")},
		{r, "x@backup.example", postrider.Route{Dest: "mx:backup.example", Via: postrider.ViaMX, Port: 25}},
		{r, "x@Partner.example", postrider.Route{Dest: "smtp:gw.internal:2525", Via: postrider.ViaSMTP, Host: "gw.internal", Port: 2525, Private: true}},
		{r, "x@a.b.partner.example", postrider.Route{Dest: "smtp:[2001:db8::2]:25", Via: postrider.ViaSMTP, Host: "2001:db8::2", Port: 25}},
		{r, "x@notpartner.example", postrider.Route{Dest: "mx:notpartner.example", Via: postrider.ViaMX, Port: 25}},
		{r, "x@a.held.example", postrider.Route{Dest: "mx:a.held.example", Via: postrider.ViaMX, Port: 25}},
		{r, "x@b.held.example", postrider.Route{Dest: postrider.DestHold, Via: postrider.ViaHold}},
		{r, "x@held.example", postrider.Route{Dest: "mx:held.example", Via: postrider.ViaMX, Port: 25}},
		{r, "x@xn--rger-koa.example", postrider.Route{Dest: "error", Via: postrider.ViaError, Reply: smtp.Reply{Code: 550, Text: "no"}}},
		{r, "x@void.example", postrider.Route{Dest: "discard", Via: postrider.ViaDiscard}},
		{r, "x@[192.0.2.7]", postrider.Route{Dest: postrider.DestHold, Via: postrider.ViaHold}},
		{r, "x@secret.example", postrider.Route{Dest: "smtps:gw.internal:465", Via: postrider.ViaSMTP, Host: "gw.internal", Port: 465, Implicit: true, TLS: postrider.TLSVerify}},
		{r, "x@hidden.example", postrider.Route{Dest: "smtps:gw.internal:8465", Via: postrider.ViaSMTP, Host: "gw.internal", Port: 8465, Implicit: true, TLS: postrider.TLSVerify}},
		{r, "x@lmtp.example", postrider.Route{Dest: "lmtp:[::1]:24", Via: postrider.ViaLMTP, Host: "::1", Port: 24}},
		{r, "x@socket.example", postrider.Route{Dest: "lmtp:/run/lmtp", Via: postrider.ViaLMTP, Socket: "/run/lmtp"}},
		{r, "who+tag@any.example", local("any.example", "/mail/any.example/who")},
		{r, "+tag@any.example", local("any.example", "/mail/any.example/+tag")},
		{r, "nobody@store.example", postrider.Route{Dest: "lmtp:/run/lmtp", Via: postrider.ViaLMTP, Socket: "/run/lmtp"}},
		{r, "nobody@example.org", postrider.Route{Dest: "error", Via: postrider.ViaError, Reply: noMailbox}},
		{r, "x@[192.0.2.8]", postrider.Route{Dest: "mx:[192.0.2.8]", Via: postrider.ViaMX, Port: 25}},
		{r, "x@KÖLN.example", postrider.Route{Dest: "mx:xn--kln-sna.example", Via: postrider.ViaMX, Port: 25}},
		{star, "x@other.example", postrider.Route{Dest: "mx:other.example", Via: postrider.ViaMX, Port: 2526, Private: true}},
		{star, "x@void.example", postrider.Route{Dest: "discard", Via: postrider.ViaDiscard}},
	}
	for _, tt := range tests {
		if got := tt.r.Route(at(t, tt.to)); got != tt.want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", tt.to, got, tt.want)
		}
	}
}

// A route in front wins over one behind it, whether it names one domain or many.
// The mailbox that an address is: that of the tagged name only where there is none.
func TestBox(t *testing.T) {
	r := router(t, testTable())
	for in, want := range map[string]string{
		"bob@example.org": "bob@example.org", "Bob+x@example.org": "bob@example.org", "bob+lists@example.org": "bob+lists@example.org",
		"Nobody+X@example.org": "Nobody+X@example.org", "any+x@any.example": "any@any.example", "u+x@far.example": "u+x@far.example",
	} {
		if got := r.Box(at(t, in)); got.String() != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestFirstMatchWins(t *testing.T) {
	hold, mx := postrider.Route{Via: postrider.ViaHold}, postrider.Route{Via: postrider.ViaMX}
	r := router(t, Table{Rules: []Rule{{".x.example", hold}, {"b.example", hold}, {"*", mx}}})
	for to, want := range map[string]postrider.Via{"u@a.x.example": "hold", "u@x.example": "mx", "u@b.example": "hold", "u@c.b.example": "mx"} {
		if got := r.Route(at(t, to)).Via; got != want {
			t.Errorf("%s goes by %s, want %s", to, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	to := postrider.Route{Via: postrider.ViaMX}
	table := Table{
		Domains: []Domain{{Name: "other.example", Deliver: to}, {Name: "bücher.example", Deliver: to}},
		Rules: []Rule{{"a.example", to}, {".b.example", to}, {"A.Example", to}, {"x.b.example", to}, {"b.example", to},
			{".y.b.example", to}, {"xn--bcher-kva.example", to}, {".bücher.example", to}, {"*", to}, {"z.example", to}, {".example", to}, {"*", to}},
	}
	want := [][3]int{{2, 0, 0}, {3, 1, 0}, {5, 1, 0}, {6, 1, 1}, {9, 8, 0}, {10, 8, 0}, {11, 8, 0}}
	var got [][3]int
	for _, f := range table.Check() {
		d := 0
		if f.Domain {
			d = 1
		}
		got = append(got, [3]int{f.Rule, f.By, d})
		if !strings.Contains(f.Reason, table.Rules[f.Rule].Pattern) {
			t.Errorf("the reason does not name the rule: %s", f.Reason)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestNewRefuses(t *testing.T) {
	mx := postrider.Route{Via: postrider.ViaMX}
	domain := func(name string, to postrider.Route) Table {
		return Table{Domains: []Domain{{Name: name, Deliver: to}}}
	}
	rule := func(p string, to postrider.Route) Table { return Table{Rules: []Rule{{p, to}}} }
	tests := []struct {
		table Table
		want  string
	}{
		{domain("", mx), "domain"},
		{domain("a b", mx), "a b"},
		{domain("a.example", postrider.Route{}), "no via"},
		{domain("a.example", postrider.Route{Via: "maildir"}), "no folder"},
		{Table{Domains: []Domain{{Name: "a.example", Deliver: mx}, {Name: "A.Example", Deliver: mx}}}, "twice"},
		{rule("", mx), "pattern"},
		{rule("*.example", mx), "pattern"},
		{rule(".", mx), "pattern"},
		{rule("a.example", postrider.Route{Via: "lmtp", Host: "x"}), "lmtp"},
		{rule("a.example", postrider.Route{Via: "uucp"}), "no via"},
		{rule("a.example", postrider.Route{Via: "smtp"}), "no host"},
		{rule("a.example", postrider.Route{Via: "error", Reply: smtp.OK}), "no reply"},
		{Table{Rules: []Rule{{"*", mx}, {"a.example", mx}}}, "never match"},
	}
	for i, tt := range tests {
		if _, err := New(tt.table); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d: error %v, want one with %q", i, err, tt.want)
		}
	}
}

func TestFileNameLength(t *testing.T) {
	a, b := fileName(strings.Repeat("ü", 100)), fileName(strings.Repeat("ü", 101))
	if len(a) != fileNameMax || len(b) != fileNameMax || a == b {
		t.Fatalf("%d %q\n%d %q", len(a), a, len(b), b)
	}
	if s := strings.Repeat("a", fileNameMax); fileName(s) != s {
		t.Fatal("a name that fits was changed")
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{"alice", "..", "", "%", "a/b", "A", "%41", strings.Repeat("x", 300)} {
		f.Add(s, s+"x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := fileName(a), fileName(b)
		if (x == y) != (a == b) {
			t.Fatalf("%q and %q are %q and %q", a, b, x, y)
		}
		if x == "" || x[0] == '.' || len(x) > fileNameMax || strings.ContainsAny(x, "/\\\x00{}") || path.Clean("/m/"+x) != "/m/"+x ||
			strings.ToLower(x) != x {
			t.Fatalf("%q is the bad file name %q", a, x)
		}
	})
}

// FuzzRouter holds for every address that can be said: its mail has a queue and
// a way; a mailbox stays below the folder of its domain; the quotes and the case
// of an address change nothing.
func FuzzRouter(f *testing.F) {
	for _, s := range []string{"alice@example.org", "postmaster", `"a b"@any.example`, "x@[IPv6:::1]", "ü@ß.example", `"../x"@any.example`} {
		f.Add(s)
	}
	r, err := New(testTable())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		to, err := smtp.ParsePath(s)
		if err != nil || to.IsNull() {
			return
		}
		way := r.Route(to)
		if way.Dest == "" || way.Via == "" {
			t.Fatalf("%q goes nowhere: %+v", s, way)
		}
		if way.Via == postrider.ViaMaildir && (strings.Count(way.Dir, "/") != 3 || path.Clean(way.Dir) != way.Dir) {
			t.Fatalf("%q lies in %q", s, way.Dir)
		}
		res, err := r.Resolve(t.Context(), to, postrider.Source{})
		if err != nil {
			t.Fatal(err)
		}
		other := smtp.Path{Local: to.MinimalLocal(), Domain: to.Domain}
		if r.Route(other) != way {
			t.Fatalf("%q goes another way with minimal quotes: %+v and %+v", s, way, r.Route(other))
		}
		if again, _ := r.Resolve(t.Context(), other, postrider.Source{}); again.Kind != res.Kind {
			t.Fatalf("%q is kind %d, and %d with minimal quotes", s, res.Kind, again.Kind)
		}
	})
}

// An address literal that the table names is a domain of its own, though it is one of our
// addresses; all other addresses of ours lead home.
func TestNamedLiteral(t *testing.T) {
	table := testTable()
	table.Hostname = "example.org"
	table.Domains = append(table.Domains, Domain{Name: "[127.0.0.1]", Mailboxes: []string{"root"}, Deliver: maildir})
	r := router(t, table)
	for to, want := range map[string]postrider.Dest{"root@[127.0.0.1]": "local:[127.0.0.1]", "alice@[IPv6:2001:db8::1]": "local:example.org"} {
		if got := r.Route(at(t, to)).Dest; got != want {
			t.Errorf("%s goes to %s, want %s", to, got, want)
		}
	}
}

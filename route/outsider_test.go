package route

import (
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// One of two signs is enough to see that an alias file has changed: its size, where its time
// was set back to what it was (cp -p, a restored backup), or its time, where it has as many
// octets as before. Soon after a change neither may show: file systems tell the time in steps
// of up to two seconds, and by a clock that may go before ours.
func TestAliasesChangeShows(t *testing.T) {
	began := time.Unix(1000, 0)
	for _, tt := range []struct {
		name string
		mod  time.Duration // of the file as it was read, against the clock
		text string
		then time.Duration // of the changed file, against the clock when the first was read
		want string
	}{
		{"by its size alone", -time.Hour, "sales: bob\n", -time.Hour, "bob@a.example"},
		{"by its time alone", -time.Hour, "sales: aleck\n", -time.Minute, "aleck@a.example"},
		{"by a time before", -time.Hour, "sales: aleck\n", -2 * time.Hour, "aleck@a.example"},
		{"in the same step of two seconds", -1900 * time.Millisecond, "sales: aleck\n", -1900 * time.Millisecond, "aleck@a.example"},
		{"by a clock before ours", time.Second, "sales: aleck\n", time.Second, "aleck@a.example"},
		{"not at all", -time.Hour, "sales: aleck\n", -time.Hour, "alice@a.example"},
	} {
		now := began
		files := newFiles(map[string]string{"/a": "", "/b": ""})
		files.write("/a", "sales: alice\n", began.Add(tt.mod))
		table := aliasTable(files)
		table.Domains[0].Mailboxes = []string{"alice", "aleck", "bob"}
		table.Now = func() time.Time { return now }
		r := router(t, table)
		files.write("/a", tt.text, began.Add(tt.then))
		now = now.Add(lookEvery)
		if got, err := r.Resolve(t.Context(), at(t, "sales@a.example"), postrider.Source{}); err != nil || paths(got.To) != tt.want {
			t.Errorf("%s: sales is %s, %v; want %s", tt.name, paths(got.To), err, tt.want)
		}
	}
}

// sizeless are files whose sizes are not told, as those of /proc.
type sizeless struct{ *memFiles }

func (s sizeless) Stat(name string) (fs.FileInfo, error) {
	info, err := s.memFiles.Stat(name)
	return noSize{info}, err
}

type noSize struct{ fs.FileInfo }

func (noSize) Size() int64 { return 0 }

// How much is read into memory is bounded, of one file and of all that it includes, also where
// a file is larger than was said of it.
func TestAliasFilesAreBounded(t *testing.T) {
	text := []byte(strings.Repeat("#", aliasFileMax+1))
	for _, tt := range []struct {
		includes string
		size     int  // of each
		told     bool // by Stat
		want     string
	}{
		{":include:/1", aliasFileMax, true, ""},
		{":include:/1", aliasFileMax, false, ""},
		{":include:/1", aliasFileMax + 1, true, "it is larger than 16777216 octets"},
		{":include:/1", aliasFileMax + 1, false, "it is larger than 16777216 octets"},
		{":include:/1, :include:/2, :include:/3", aliasFileMax, true, ""},
		{":include:/1, :include:/2, :include:/3, :include:/4", aliasFileMax, true, `cannot include "/4": it is larger than`},
	} {
		files := newFiles(map[string]string{"/a": "l: alice, " + tt.includes + "\n", "/b": ""})
		for _, name := range []string{"1", "2", "3", "4"} {
			files.files[name] = &fstest.MapFile{Data: text[:tt.size], Mode: 0o644}
		}
		table := aliasTable(files)
		if !tt.told {
			table.Files = sizeless{files}
		}
		_, err := New(table)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s of %d octets, told: %v: %.200v", tt.includes, tt.size, tt.told, err)
		}
	}
}

// A name that stands before an address and goes into replies is one that may: RFC 5321 3.5.1
// has the full name of the user there, and an address, or words without end, are none.
func TestFullName(t *testing.T) {
	for in, want := range map[string]string{
		"Bob Baker <bob>": "Bob Baker", `"Baker, \"Bob\"" <bob>`: `Baker, "Bob"`, "<bob>": "", "bob": "", "Jörg <j>": "Jörg",
		"bob@old.example <bob>": "", `"a<b" <bob>`: "", "B\x07b <bob>": "", "B\xffb <bob>": "",
		strings.Repeat("b", 128) + " <bob>": strings.Repeat("b", 128), strings.Repeat("b", 129) + " <bob>": "",
	} {
		if got := fullName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// What stands before ":forward:" and ":moved:" in an entry is not passed over in silence.
func TestForwardStandsAlone(t *testing.T) {
	for text, want := range map[string]string{
		"l: :closed:, :forward: alice\n": ":forward: stands alone",
		"l: bob, :moved: alice\n":        ":moved: stands alone",
		"l: :forward: alice, :closed:\n": "something stands beside",
	} {
		if _, err := New(aliasTable(newFiles(map[string]string{"/a": text, "/b": ""}))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// RFC 5321 4.5.1: "postmaster" is "a case-insensitive local name". One that leads to the
// postmaster of a domain of ours, in whatever case, is a mailbox there and no loop; who reads
// the mail is nobody's business but ours.
func TestPostmasterInAnyCase(t *testing.T) {
	for to, want := range map[string]string{
		"PostMaster@A.example": "postmaster@a.example", `"postmaster"@a.example`: "postmaster@a.example", "bob@a.example": "bob@a.example",
	} {
		table := aliasTable(newFiles(map[string]string{"/a": "", "/b": ""}))
		table.Postmaster = at(t, to)
		r := router(t, table)
		got, err := r.Resolve(t.Context(), at(t, "postmaster@a.example"), postrider.Source{})
		if err != nil || got.Kind != postrider.KindMailbox || paths(got.To) != want {
			t.Errorf("%s: %d %s, %v; want %s", to, got.Kind, paths(got.To), err, want)
		}
		all, err := r.Lookup(t.Context(), at(t, "postmaster@a.example"))
		if err != nil || len(all) != 1 || all[0].List || len(all[0].Members) > 0 {
			t.Errorf("%s: %+v, %v", to, all, err)
		}
	}
}

// An address literal that is a domain by itself is that one, also where the address is ours
// (RFC 5321 4.1.3); and an address of IPv4 is the same in each of its spellings.
func TestLiteralOfOurs(t *testing.T) {
	hold := postrider.Route{Via: postrider.ViaHold}
	r := router(t, Table{
		Addrs:   []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.2"), netip.MustParseAddr("fe80::1%eth0")},
		Domains: []Domain{{Name: "a.example", Mailboxes: []string{"alice"}, Deliver: maildir}, {Name: "[192.0.2.1]", Mailboxes: []string{"dora"}, Deliver: hold}},
	})
	for to, want := range map[string]postrider.Kind{
		"dora@[192.0.2.1]": postrider.KindMailbox, "alice@[192.0.2.1]": postrider.KindUnknown, "dora@[IPv6:::ffff:192.0.2.1]": postrider.KindMailbox,
		"alice@[192.0.2.2]": postrider.KindMailbox, "alice@[IPv6:::FFFF:192.0.2.2]": postrider.KindMailbox, "alice@[IPv6:fe80::1]": postrider.KindMailbox,
		"alice@[IPv6:fe80:0:0:0::1]": postrider.KindMailbox, "alice@[192.0.2.3]": postrider.KindRemote,
	} {
		if got, err := r.Resolve(t.Context(), at(t, to), postrider.Source{}); err != nil || got.Kind != want {
			t.Errorf("%s: kind %d, %v; want %d", to, got.Kind, err, want)
		}
	}
}

// Local parts are compared without case, also one that is no UTF-8 and that somebody has let in.
func TestFold(t *testing.T) {
	for in, want := range map[string]string{"AZaz09@[`{": "azaz09@[`{", "ÄÖ": "äö", "AZ\xff@[`{": "az\xff@[`{"} {
		if got := fold(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	r := router(t, testTable())
	if got, err := r.Resolve(t.Context(), smtp.Path{Local: "JÖRG", Domain: "EXAMPLE.org"}, postrider.Source{}); err != nil || got.Kind != postrider.KindMailbox {
		t.Errorf("%+v, %v", got, err)
	}
}

// A closed list tells nobody who is on it, also where that is one person, whose name and address
// would be told else (RFC 5321 7.3).
func TestClosedListOfOne(t *testing.T) {
	r := router(t, aliasTable(newFiles(map[string]string{"/a": "one: :closed:, Alice Liddell <alice>\nopen: Alice Liddell <alice>\n", "/b": ""})))
	for name, want := range map[string]string{"one@a.example": "one@a.example", "open@a.example": "alice@a.example"} {
		all, err := r.Lookup(t.Context(), at(t, name))
		if err != nil || len(all) != 1 || all[0].Address.String() != want || all[0].Closed != (name == want) || (len(all[0].Members) == 0) != (name == want) {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
	}
}

// Of many who have one name, whoever is at home is told of first.
func TestHomeIsToldFirst(t *testing.T) {
	table := Table{Hostname: "z.example"}
	for name := range strings.SplitSeq("abcdefghizjklmnopqrst", "") {
		table.Domains = append(table.Domains, Domain{Name: name + ".example", Mailboxes: []string{"dora"}, Deliver: maildir})
	}
	r := router(t, table)
	for range 20 { // the order of a map is another each time
		all, err := r.Lookup(t.Context(), smtp.Path{Local: "dora"})
		if err != nil || len(all) != 21 || all[0].Address.Domain != "z.example" || all[1].Address.Domain != "a.example" || all[20].Address.Domain != "t.example" {
			t.Fatalf("%+v, %v", all, err)
		}
	}
}

// Who may write to an alias file may read all mail of a domain: that everybody may is told, and
// that a group may, which somebody has made for it, is not.
func TestOpenAliasFile(t *testing.T) {
	for mode, want := range map[fs.FileMode]int{0o644: 0, 0o664: 0, 0o602: 1, 0o666: 1} {
		files := newFiles(map[string]string{"/a": "", "/b": ""})
		files.files["a"].Mode = mode
		if w := router(t, aliasTable(files)).Warnings(); len(w) != want {
			t.Errorf("%o: %v", mode, w)
		}
	}
}

package dns

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestSortMX(t *testing.T) {
	in := []MX{{20, "c"}, {10, "a"}, {10, "b"}, {30, ""}, {5, "c"}}
	orders := map[string]int{}
	for seed := range uint64(200) {
		got := SortMX(in, rand.New(rand.NewPCG(seed, 0)))
		if len(got) != 3 || got[0] != (MX{5, "c"}) || got[1].Preference != 10 || got[2].Preference != 10 {
			t.Fatalf("order %v", got)
		}
		orders[got[1].Host+got[2].Host]++
	}
	// RFC 5321 5.1: "the sender-SMTP MUST randomize them to spread the load"
	if orders["ab"] < 50 || orders["ba"] < 50 {
		t.Fatalf("equals are not shuffled: %v", orders)
	}
	if !reflect.DeepEqual(in, []MX{{20, "c"}, {10, "a"}, {10, "b"}, {30, ""}, {5, "c"}}) {
		t.Fatalf("SortMX changed its argument: %v", in)
	}
	if got := SortMX(in, nil); !reflect.DeepEqual(got, []MX{{5, "c"}, {10, "a"}, {10, "b"}}) {
		t.Fatalf("without shuffling: %v", got)
	}
}

// TestSortMXOfTwo: two are shuffled as more are, and a host that is there twice, of whatever
// preference, is tried once.
func TestSortMXOfTwo(t *testing.T) {
	orders := map[string]int{}
	for seed := range uint64(200) {
		got := SortMX([]MX{{0, "a"}, {0, "b"}, {7, "a"}, {0, "b"}}, rand.New(rand.NewPCG(seed, 0)))
		if len(got) != 2 {
			t.Fatalf("%v", got)
		}
		got = SortMX([]MX{{5, "a"}, {5, "b"}}, rand.New(rand.NewPCG(seed, 0)))
		orders[got[0].Host]++
	}
	if orders["a"] < 50 || orders["b"] < 50 {
		t.Errorf("%v", orders)
	}
}

func TestSortMXNull(t *testing.T) {
	null := []MX{{0, ""}}
	if got := SortMX(null, nil); !NullMX(got) {
		t.Fatalf("the null MX became %v", got)
	}
	if !NullMX([]MX{{10, ""}}) { // no host that anyone could try, whatever its preference
		t.Fatal("a single empty host is no null MX")
	}
	if NullMX(nil) || NullMX([]MX{{0, "a"}}) || NullMX([]MX{{0, ""}, {0, "a"}}) {
		t.Fatal("null MX where there is none")
	}
	if got := SortMX(nil, nil); len(got) != 0 {
		t.Fatalf("from nothing: %v", got)
	}
}

func TestSortMXBound(t *testing.T) {
	var in []MX
	for i := range 1000 {
		in = append(in, MX{uint16(1000 - i), strings.Repeat("x", i+1)})
	}
	got := SortMX(in, rand.New(rand.NewPCG(1, 1)))
	if len(got) != MXMax || got[0].Preference != 1 || got[MXMax-1].Preference != MXMax {
		t.Fatalf("%d, from %d to %d", len(got), got[0].Preference, got[len(got)-1].Preference)
	}
}

func TestLookupAddrs(t *testing.T) {
	z := NewZone().A("both", "192.0.2.1", "192.0.2.1").AAAA("both", "2001:db8::1").A("four", "192.0.2.4").
		MX("none", 1, "x").Fail("bad", ErrServFail)
	for name, want := range map[string]string{"both": "2001:db8::1 192.0.2.1", "four": "192.0.2.4", "none": "", "gone": ""} {
		got, err := LookupAddrs(t.Context(), z, name)
		var s []string
		for _, a := range got {
			s = append(s, a.String())
		}
		if err != nil || strings.Join(s, " ") != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := LookupAddrs(t.Context(), z, "bad"); !errors.Is(err, ErrServFail) {
		t.Errorf("bad: %v", err)
	}
	for _, failing := range []Type{TypeA, TypeAAAA} { // what the other has is there, with the error
		z.FailType("both", failing, ErrTimeout)
		if got, err := LookupAddrs(t.Context(), z, "both"); len(got) != 1 || got[0].Is4() == (failing == TypeA) || !errors.Is(err, ErrTimeout) {
			t.Errorf("%v fails: %v, %v", failing, got, err)
		}
		z.FailType("both", failing, nil)
	}
}

func TestToASCII(t *testing.T) {
	long := strings.Repeat("a", 63)
	tests := []struct{ in, want string }{
		{"Example.ORG", "example.org"},
		{"example.org.", "example.org"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.Example", "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"faß.de", "xn--fa-hia.de"},
		{"ｅｘａｍｐｌｅ．org", "example.org"},
		{"例え。テスト", "xn--r8jz45g.xn--zckzah"},
		{"_dmarc.example", "_dmarc.example"},
		{"under_score.bücher", "under_score.xn--bcher-kva"},
		{"localhost", "localhost"},
		{long + ".test", long + ".test"},
		{strings.Repeat(long[1:]+".", 4) + "a", strings.Repeat(long[1:]+".", 4) + "a"}, // of 253 octets, and of 254
		{strings.Repeat(long[1:]+".", 4) + "aa", ""},
		{long + "a.test", ""}, {strings.Repeat("a.", 128), ""}, {"", ""}, {".", ""}, {"a..b", ""}, {".a", ""},
		{"a b", ""}, {"[192.0.2.1]", ""}, {"a@b", ""}, {"a/b", ""}, {"a／ü", ""}, {"a\x00", ""}, {"\xff.test", ""},
		{"ü" + strings.Repeat("a", 63), ""}, {"a\u202eü", ""}, {"\u05d0a", ""},
	}
	for _, tt := range tests {
		got, err := ToASCII(tt.in)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("ToASCII(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestToUnicode(t *testing.T) {
	for in, want := range map[string]string{
		"XN--bcher-kva.Example.": "bücher.example", "example.org": "example.org", "xn--\x7f": "xn--\x7f", "": "", "xn--a": "xn--a", "0.XN--": "0.xn--", "xn--xn--0000--71a": "xn--xn--0000--71a",
	} {
		if got := ToUnicode(in); got != want {
			t.Errorf("ToUnicode(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzToASCII(f *testing.F) {
	f.Add("bücher.example")
	f.Add("XN--BCHER-KVA.example.")
	f.Add("a.\u3002.b")
	f.Fuzz(func(t *testing.T, in string) {
		a, err := ToASCII(in)
		if err != nil {
			return
		}
		if again, err := ToASCII(a); err != nil || again != a {
			t.Fatalf("ToASCII(%q) = %q, of which it is %q, %v", in, a, again, err)
		}
		if !plainName(a) || !spellable(a) {
			t.Fatalf("ToASCII(%q) = %q is no name", in, a)
		}
		if u, err := ToASCII(ToUnicode(a)); err == nil && u != a {
			t.Fatalf("%q is %q in U-labels, and that is %q", a, ToUnicode(a), u)
		}
	})
}

func TestParseResolvConf(t *testing.T) {
	in := "# comment\nsearch example.org\nnameserver 192.0.2.1\n\nnameserver   2001:db8::1 # ours\nnameserver fe80::1%eth0\nnameserver bad\n;nameserver 192.0.2.2\nnameserver 192.0.2.4\n"
	got := ParseResolvConf(strings.NewReader(in))
	if !slices.Equal(got, []string{"192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%eth0]:53"}) {
		t.Fatal(got)
	}
	if got := ParseResolvConf(strings.NewReader("nameserver")); got != nil {
		t.Fatal(got)
	}
}

func TestZoneChanges(t *testing.T) {
	z := NewZone().A("a.test", "192.0.2.1").Hang("a.test")
	ctx, cancel := contextTimeout(t)
	defer cancel()
	if _, err := z.Lookup(ctx, "a.test", TypeA); err == nil {
		t.Fatal("an answer from a name that hangs")
	}
	if a, err := z.Fail("a.test", nil).Lookup(t.Context(), "a.test", TypeA); err != nil || len(a.Addrs) != 1 {
		t.Fatalf("%+v, %v", a, err)
	}
	if a, err := z.Remove("a.test").Lookup(t.Context(), "a.test", TypeA); err != nil || !a.NXDomain {
		t.Fatalf("%+v, %v", a, err)
	}
	if z.Asked("A.test.") != 3 {
		t.Fatalf("asked %d times", z.Asked("a.test"))
	}
	if s := TypeMX.String() + TypeAAAA.String() + Type(99).String(); s != "MXAAAATYPE99" {
		t.Fatal(s)
	}
}

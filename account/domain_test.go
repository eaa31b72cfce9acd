package account

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/postrider/postrider/vfs"
)

// spellings are one address.
var spellings = []string{"bob@bücher.example", "bob@xn--bcher-kva.example", "Bob@BÜCHER.example", "BOB@XN--BCHER-KVA.EXAMPLE", "bob@bu\u0308cher.example"}

// An account is one, whichever way its domain is written: in the file, at a login,
// where the Router asks for it, and where it sends.
func TestDomainsByTheirALabels(t *testing.T) {
	for _, made := range spellings {
		fsys := vfs.NewMem()
		s := open(t, fsys, Options{Exempt: func(netip.Addr) bool { return true }})
		put(t, fsys, "accounts", someSecret+"\n"+quickProved(t, made, "one"))
		for _, name := range spellings {
			if verify(t, s, name, "one") != 235 || verify(t, s, name, "two") != 535 {
				t.Errorf("%s does not log in as %s", made, name)
			}
			if _, r := prove(t, s, "192.0.2.1", name, "one"); r.Code != 235 {
				t.Errorf("%s does not log in as %s by SCRAM: %v", made, name, r)
			}
			if a, r := s.Vouched(t.Context(), client, name, true); r.Code != 235 || !a.MaySend(mustPath(made)) {
				t.Errorf("%s is not vouched for as %s: %v", made, name, r)
			}
			if !s.Has(mustPath(name)) || s.Has(mustPath("x"+name)) {
				t.Errorf("%s is no mailbox by the name %s", made, name)
			}
			if _, err := parseTable("accounts", []byte(quick(made, "one")+quick(name, "two"))); err == nil {
				t.Errorf("%s and %s are two", made, name)
			}
			for _, a := range []Account{{Address: mustPath(made)}, {Address: mustPath("x@y"), SendAs: []string{made}},
				{Address: mustPath("x@y"), SendAs: []string{"*@" + mustPath(made).Domain}}} {
				if !a.MaySend(mustPath(name)) || a.MaySend(mustPath(name+".far")) || a.MaySend(mustPath("bob@b.example")) {
					t.Errorf("%v sends as %s", a, name)
				}
			}
		}
	}
}

// The one who makes an account, and the one who takes it away, may write it each
// their own way.
func TestDomainsAreChangedByTheirALabels(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{})
	if err := s.Add(spellings[0], "one"); err != nil {
		t.Fatal(err)
	}
	if s.Since(mustPath(spellings[1])).IsZero() {
		t.Error("it was never made")
	}
	if err := s.Add(spellings[1], "one"); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if err := s.SetPassword(spellings[1], "two"); err != nil {
		t.Error(err)
	}
	if k := s.Keys(spellings[1]); string(k.Salt) != string(s.Keys(spellings[0]).Salt) || string(k.Salt) == string(s.Keys("x"+spellings[0]).Salt) {
		t.Error("it has keys for one spelling")
	}
	if string(s.Keys("no"+spellings[0]).Salt) != string(s.Keys("no"+spellings[1]).Salt) {
		t.Error("one that is not there has other salts")
	}
	if err := s.Remove(spellings[1]); err != nil || len(s.List()) != 0 {
		t.Error(err)
	}
}

// A name that is another to those who sign for it is not that of the account, though
// its domain has the same A-labels. What is no domain is compared as text.
func TestDomainsThatNarrow(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "accounts", quick("bob@our.example", "one")+quick("bob@straße.example", "two")+quick("bob@a\u05d0b.example", "three"))
	s := open(t, fsys, Options{Exempt: func(netip.Addr) bool { return true }})
	for name, code := range map[string]int{"bob@our.example": 235, "bob@straße.example": 235, "bob@xn--strae-oqa.example": 235,
		"bob@\uff4four.example": 535, "bob@\uff4fur.example": 535, "bob@o\u00adur.example": 535, "bob@our\u3002example": 535, "bob@strasse.example": 535} {
		if _, r := s.Vouched(t.Context(), client, name, true); r.Code != code {
			t.Errorf("%q: %v", name, r)
		}
	}
	if !s.Has(mustPath("bob@our.example")) || s.Has(mustPath("bob@strasse.example")) {
		t.Error("another domain")
	}
	if !s.Has(mustPath("BOB@A\u05d0B.example")) || verify(t, s, "bob@a\u05d0b.EXAMPLE", "three") != 235 || s.Has(mustPath("bob@a\u05d0.example")) {
		t.Error("what is no domain")
	}
}

// What a name of ASCII costs is what it cost before there were others.
func TestASCIIDomainsCostNothing(t *testing.T) {
	path, n := mustPath("somebody@mail.our.example"), 0
	cost := testing.AllocsPerRun(100, func() { n += len(nameKey("somebody@mail.our.example")) + len(pathKey(path)) })
	if cost > 1 || n == 0 { // the text of pathKey
		t.Errorf("%v allocations", cost)
	}
}

package account

import (
	"strings"
	"testing"
)

func TestMaySend(t *testing.T) {
	a := Account{Address: mustPath("alice@our.example"), SendAs: []string{"info@our.example", "*@lists.example", "büro@our.example"}}
	for from, want := range map[string]bool{
		"alice@our.example": true, "ALICE@Our.Example": true, `"alice"@our.example`: true, "info@our.example": true,
		"anyone@lists.example": true, "anyone@LISTS.example": true, "BÜRO@our.example": true,
		"": false, "postmaster": false, "bob@our.example": false, "anyone@sub.lists.example": false, "anyone@xlists.example": false,
		"alice@far.example": false, `"*"@lists.example`: true, "*@our.example": false, `"alice "@our.example`: false, "alice+tag@our.example": false,
	} {
		if got := a.MaySend(mustPath(from)); got != want {
			t.Errorf("%q: %v", from, got)
		}
	}
}

func TestNames(t *testing.T) {
	for _, good := range []string{"a@b", "demo@localhost", "o'brien+x@our.example", "büro@exämple.test"} {
		if _, err := parseName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "alice", "postmaster", "@b", "a@", `"a"@b`, `"a:b"@c`, "a b@c", "a@b:c", "a:b@c", "a@b\r\nx@y", "a\x00@b",
		"a@[192.0.2.1]", "a@[IPv6:::1]", "a,b@c", "#a@b", "@r:a@b", "<a@b>", "a@b\u0085", "a@b\xff", strings.Repeat("a", 400) + "@b", "*@*@b"} {
		if _, err := parseName(bad); err == nil {
			t.Errorf("%q was taken", bad)
		} else if len(bad) > 3 && strings.Contains(err.Error(), bad) {
			t.Errorf("%q is in the error", bad)
		}
		if bad != "a@" && checkPattern(bad) == nil {
			t.Errorf("%q was taken for a pattern", bad)
		}
	}
	for _, bad := range []string{"*@", "*", "*@*", "*@a,b", ".our.example", "*@[192.0.2.1]"} {
		if checkPattern(bad) == nil {
			t.Errorf("%q was taken for a pattern", bad)
		}
	}
}

const someHash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$b3VyIGtleSBoYXMgdGhpcnR5LXR3byBvY3RldHMsLi4"

func TestTable(t *testing.T) {
	good := "# the people\n\nalice@our.example:" + someHash + "\nbob@our.example:" + someHash + ":*@lists.example,info@our.example\nc@d:" + someHash + ":\n"
	tab, err := parseTable("accounts", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(tab.bytes()); got != good {
		t.Errorf("printed %q", got)
	}
	bob := tab.byName["bob@our.example"]
	if len(tab.byName) != 3 || bob == nil || strings.Join(bob.SendAs, " ") != "*@lists.example info@our.example" || bob.String() != tab.lines[3].text {
		t.Errorf("%+v", tab)
	}
	for _, tt := range []struct{ file, line string }{
		{"x", "accounts:1:"},
		{"\n#\nx\n", "accounts:3:"},
		{"a@b:" + someHash + "\nA@B:" + someHash + "\n", "accounts:2:"},
		{"a@b:secret", "accounts:1:"},
		{"a@b:" + someHash + "\r\n", "accounts:1:"},
		{"a@b:" + someHash + ":x\r\n", "accounts:1:"},
		{"a@b:" + someHash + ":x", "accounts:1:"},
		{"a@b:" + someHash + ":a@b:c", "accounts:1:"},
		{"a@b:" + someHash + ":a@b,", "accounts:1:"},
		{"a\xff@b:" + someHash, "accounts:1:"},
		{"a@b:" + strings.Replace(someHash, "m=19456", "m=9999999", 1), "accounts:1:"},
		{"a@b:" + strings.Replace(someHash, "m=19456", "m=0", 1), "accounts:1:"},
		{"a@b:" + strings.Replace(someHash, "p=1", "p=9", 1), "accounts:1:"},
		{"a@b:" + strings.Replace(someHash, "t=2", "t=99", 1), "accounts:1:"},
		{"a@b:" + strings.Replace(someHash, "v=19", "v=16", 1), "accounts:1:"},
		{"a@b:" + strings.Replace(someHash, "argon2id", "argon2i", 1), "accounts:1:"},
		{"a@b:" + strings.Replace(someHash, "c29tZXNhbHRzb21lc2FsdA", "c29tZXNhbA", 1), "accounts:1:"}, // a salt of 7 octets
		{"a@b:" + someHash[:len(someHash)-23], "accounts:1:"},                                          // a key of 15
		{"a@b:" + someHash + strings.Repeat("AAAA", 11), "accounts:1:"},                                // one of 65
		{"a@b:" + someHash + "====", "accounts:1:"},
		{"a@b:$argon2id$v=19$m=19456,t=2,p=1$$", "accounts:1:"},
		{"a@b:" + someHash + "::", "accounts:1:"},
		{"a@b:" + someHash + "::" + someKeys + ":", "accounts:1:"},
		{"a@b:" + someHash + ":" + someKeys, "accounts:1:"},
		{"a@b:" + someHash + "::" + strings.Replace(someKeys, "i=4096", "i=4095", 1), "accounts:1:"},
		{"a@b:" + someHash + "::" + strings.Replace(someKeys, "i=4096", "i=04096", 1), "accounts:1:"},
		{"a@b:" + someHash + "::" + strings.Replace(someKeys, "i=4096", "i=9999999", 1), "accounts:1:"},
		{"a@b:" + someHash + "::" + strings.Replace(someKeys, "sha-256", "sha-1", 1), "accounts:1:"},
		{"a@b:" + someHash + "::" + someKeys[:len(someKeys)-2], "accounts:1:"},
		{"a@b:" + someHash + "::" + someKeys + "AAAA", "accounts:1:"},
		{"$scram-salt$c29tZX", "accounts:1:"},
		{someSecret + "\n" + someSecret, "accounts:2:"},
	} {
		_, err := parseTable("accounts", []byte(tt.file))
		if err == nil || !strings.HasPrefix(err.Error(), tt.line) {
			t.Errorf("%q: %v", tt.file, err)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "c29tZX") {
			t.Errorf("the error repeats the line: %v", err)
		}
	}
}

func TestHash(t *testing.T) {
	h := newHash("right")
	back, err := parseHash(h.String())
	if err != nil || back.String() != h.String() || !back.matches("right") || back.matches("wrong") || back.matches("") {
		t.Fatalf("%v %s", err, h)
	}
	if !strings.HasPrefix(h.String(), "$argon2id$v=19$m=19456,t=2,p=1$") || h.String() == newHash("right").String() {
		t.Fatal(h)
	}
	// Made by another program: argon2(1) of the reference implementation, with
	// echo -n password | argon2 somesaltsomesalt -id -t 2 -k 1024 -p 1 -l 32 -e
	if h, err := parseHash("$argon2id$v=19$m=1024,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$CKGe5/bX9YnCq2rxjW5yQXKxn31v1GKzhDCrMc6r6vA"); err != nil || !h.matches("password") {
		t.Error(err, "a hash of another program does not match")
	}
}

func TestPasswords(t *testing.T) {
	a, _ := prepare("caf\u00e9")
	if b, err := prepare("cafe\u0301"); err != nil || a != b {
		t.Error("one password typed on two keyboards is two")
	}
	for _, bad := range []string{"", "a\x00b", "a\nb", "\x7f", "\xff\xfe", strings.Repeat("x", passwordMax+1)} {
		if _, err := prepare(bad); err != errPassword {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, good := range []string{" ", "a b:c,$", "ünïcödé \u2603", strings.Repeat("x", 255)} {
		if _, err := prepare(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// What is read and written again is the same, and whatever it is, the names in
// it end no line.
func FuzzTable(f *testing.F) {
	f.Add("# x\n\na@b:" + someHash + ":*@c\n")
	f.Add("a@b:" + someHash)
	f.Add(someSecret + "\na@b:" + someHash + "::" + someKeys + "\na@c:" + someHash + ":*@c:" + someKeys)
	f.Fuzz(func(t *testing.T, s string) {
		tab, err := parseTable("n", []byte(s))
		if err != nil {
			return
		}
		again, err := parseTable("n", tab.bytes())
		if err != nil || len(again.byName) != len(tab.byName) {
			t.Fatalf("%q: %v", s, err)
		}
		for key, e := range tab.byName {
			one, err := parseTable("n", []byte(e.String()))
			if err != nil || len(one.byName) != 1 || one.byName[key] == nil || one.byName[key].String() != e.String() {
				t.Fatalf("%q is printed as %q", s, e.String())
			}
		}
	})
}

package account

import (
	"bytes"
	"crypto/rand"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// Fields of a file for SCRAM.
const (
	someKeys   = "$scram-sha-256$i=4096$c29tZSBzYWx0IG9mIG91cnM$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	someSecret = "$scram-salt$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
)

// quickProved is a line of quick with keys that cost little.
func quickProved(t testing.TB, address, password string) string {
	t.Helper()
	k, err := smtp.NewSCRAMKeys(saslPrepared(password), []byte("sixteen octets.."), 4096)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(quick(address, password), "\n") + "::" + formatKeys(&k) + "\n"
}

// prove runs SCRAM from a client to the store.
func prove(t *testing.T, s *Store, peer, user, password string) (postrider.Submitter, smtp.Reply) {
	t.Helper()
	var who postrider.Submitter
	var keys smtp.SCRAMKeys
	client := smtp.SCRAMClient(smtp.SCRAMClientOptions{User: user, Password: password, Rand: rand.Reader})
	server := smtp.SCRAMServer(smtp.SCRAMServerOptions{Rand: rand.Reader,
		Keys: func(user string) smtp.SCRAMKeys { keys = s.Keys(user); return keys },
		Finish: func(_, user string, proved bool) (r smtp.Reply) {
			who, r = s.Proved(t.Context(), netip.MustParseAddr(peer), user, keys, proved)
			return r
		}})
	response, err := client.Start()
	for range 4 {
		if err != nil {
			t.Fatal(err)
		}
		challenge, done, r := server.Next(response)
		if done {
			if r.Positive() != (who != nil) || r.Positive() != client.(smtp.SASLProver).Proved() {
				t.Fatalf("%s: %v, %v", user, who, r)
			}
			return who, r
		}
		response, err = client.Next(challenge)
	}
	t.Fatal("the exchange has no end")
	return nil, smtp.Reply{}
}

func TestSCRAM(t *testing.T) {
	fsys := vfs.NewMem()
	s := open(t, fsys, Options{Exempt: func(netip.Addr) bool { return true }})
	if s.Proves() {
		t.Error("SCRAM is offered without accounts")
	}
	for user, password := range map[string]string{"alice@our.example": "s3cret", "büro@our.example": "½ caf\u00e9\u00a0", "o=k@our.example": "x,y=z"} {
		if err := s.Add(user, password); err != nil {
			t.Fatal(err)
		}
		// RFC 4013 2.2: the client maps what it has to the form of NFKC.
		for name, code := range map[string]int{user: 235, strings.ToUpper(user): 235, "x" + user: 535} {
			if a, r := prove(t, s, "192.0.2.1", name, saslPrepared(password)); r.Code != code || a != nil && a.Name() != user {
				t.Errorf("%s: %v %v", name, a, r)
			}
		}
		if _, r := prove(t, s, "192.0.2.1", user, "wrong"); r != invalid {
			t.Errorf("%s: %v", user, r)
		}
		if verify(t, s, user, password) != 235 {
			t.Errorf("%s cannot log in with its password", user)
		}
	}
	if !s.Proves() {
		t.Error("SCRAM is not offered")
	}
	if err := s.SetPassword("alice@our.example", "other"); err != nil {
		t.Fatal(err)
	}
	if _, r := prove(t, s, "192.0.2.1", "alice@our.example", "s3cret"); r.Code != 535 {
		t.Errorf("the old password: %v", r)
	}
	// Keys that are no longer those of the account prove nothing.
	keys := s.Keys("alice@our.example")
	if err := s.SetPassword("alice@our.example", "third"); err != nil {
		t.Fatal(err)
	}
	if _, r := s.Proved(t.Context(), client, "alice@our.example", keys, true); r.Code != 535 {
		t.Errorf("a password that was changed meanwhile: %v", r)
	}
	if k := s.Keys("alice@our.example"); k.Iterations < 4096 || len(k.Salt) != saltSize || bytes.Equal(k.Salt, keys.Salt) {
		t.Errorf("%+v", k)
	}
}

// The examples of RFC 4013 3 that SASLprep takes, and some more. What has no other
// form for compatibility stays.
func TestSASLPrepared(t *testing.T) {
	for in, want := range map[string]string{
		"I\u00adX": "IX", "user": "user", "USER": "USER", "\u00aa": "a", "\u2168": "IX",
		"a\u00a0b\u3000c": "a b c", "\u200b\ufeffx": "x", "cafe\u0301": "caf\u00e9", "\u00bd": "1\u20442", "\u00ad": "\u00ad", "\U0001F600 ~!": "\U0001F600 ~!",
	} {
		if got := saslPrepared(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// An account of before has no keys: its password goes on as it was, and SCRAM is
// not offered, for its mail program would choose that.
func TestSCRAMOfOldAccounts(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "accounts", quick("old@our.example", "one"))
	s := open(t, fsys, Options{Exempt: func(netip.Addr) bool { return true }})
	if err := s.Add("new@our.example", "two"); err != nil {
		t.Fatal(err)
	}
	if old := s.Unproved(); s.Proves() || len(old) != 1 || old[0].Name() != "old@our.example" {
		t.Errorf("%v, without keys %v", s.Proves(), old)
	}
	if verify(t, s, "old@our.example", "one") != 235 {
		t.Error("the old password is not taken")
	}
	if _, r := prove(t, s, "192.0.2.1", "old@our.example", "one"); r != invalid {
		t.Error(r)
	}
	if err := s.SetPassword("old@our.example", "three"); err != nil {
		t.Fatal(err)
	}
	if _, r := prove(t, s, "192.0.2.1", "old@our.example", "three"); !s.Proves() || len(s.Unproved()) > 0 || r.Code != 235 {
		t.Errorf("with a new password: %v, %v", s.Proves(), r)
	}
	data, _ := vfs.ReadFile(fsys, "accounts")
	if strings.Count(string(data), secretPrefix) != 1 {
		t.Errorf("%q", data)
	}
}

// RFC 5802 7: "In order to prevent information disclosure": what a name that
// nobody has is answered has the form of all others, and stays the same, also
// after a start and in another spelling; other names have other salts.
func TestInventedKeys(t *testing.T) {
	fsys := vfs.NewMem()
	s := open(t, fsys, Options{})
	if err := s.Add("alice@our.example", "one"); err != nil {
		t.Fatal(err)
	}
	have, first := s.Keys("alice@our.example"), s.Keys("nobody@our.example")
	if len(first.Salt) != len(have.Salt) || first.Iterations != have.Iterations || bytes.Equal(first.Salt, have.Salt) {
		t.Errorf("%v and %v", have, first)
	}
	again := open(t, fsys, Options{})
	for _, name := range []string{"nobody@our.example", "NOBODY@our.example"} {
		if k := again.Keys(name); !bytes.Equal(k.Salt, first.Salt) || k.StoredKey != first.StoredKey {
			t.Errorf("%s: another salt", name)
		}
	}
	seen := map[string]bool{}
	for _, name := range []string{"", "a", "b", "nobody@our.example", "nobody2@our.example", "a\x00b", "\xff", strings.Repeat("x", 10_000)} {
		if k := s.Keys(name); seen[string(k.Salt)] || k.StoredKey == k.ServerKey || len(k.Salt) != saltSize {
			t.Errorf("%.20q: %v", name, k)
		}
		seen[string(s.Keys(name).Salt)] = true
	}
	other := open(t, vfs.NewMem(), Options{})
	if err := other.Add("bob@our.example", "one"); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(other.Keys("nobody@our.example").Salt, first.Salt) {
		t.Error("two servers have one secret")
	}
}

// Whoever guesses by SCRAM, by certificates or by tokens is treated as one who
// guesses passwords, and all are counted together.
func TestGuardOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		put(t, fsys, "accounts", someSecret+"\n"+quickProved(t, "alice@our.example", "one"))
		s := open(t, fsys, Options{})
		peer := netip.MustParseAddr("203.0.113.9")
		for i := range refuseAfter {
			start := time.Now()
			var r smtp.Reply
			switch i % 3 {
			case 0:
				_, r = prove(t, s, peer.String(), "alice@our.example", "guess")
			case 1:
				_, r = s.Vouched(t.Context(), peer, "alice@our.example", false)
			case 2:
				_, r = s.Verify(t.Context(), peer, "alice@our.example", "guess")
			}
			if r != invalid || (time.Since(start) > 0) != (i >= freeFailures) {
				t.Errorf("guess %d: %v after %v", i, r, time.Since(start))
			}
		}
		if _, r := prove(t, s, peer.String(), "alice@our.example", "one"); r != tooMany {
			t.Errorf("by SCRAM: %v", r)
		}
		if _, r := s.Vouched(t.Context(), peer, "alice@our.example", true); r != tooMany {
			t.Errorf("vouched for: %v", r)
		}
		if _, r := prove(t, s, "192.0.2.1", "alice@our.example", "one"); r.Code != 235 {
			t.Errorf("somebody else: %v", r)
		}
		for name, code := range map[string]int{"ALICE@our.example": 235, "bob@our.example": 535, "": 535, "a:b": 535,
			"al\u0130ce@our.example": 535, "a\u0308lice@our.example": 535} {
			if a, r := s.Vouched(t.Context(), client, name, true); r.Code != code || (a != nil) != (code == 235) {
				t.Errorf("%q: %v %v", name, a, r)
			}
		}
	})
}

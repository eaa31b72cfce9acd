package smtp

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// talk runs an exchange as AUTH does, and returns the last reply.
func talk(t *testing.T, c SASLClient, s SASLServer) Reply {
	t.Helper()
	response, err := c.Start()
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		challenge, done, r := s.Next(response)
		if done {
			return r
		}
		if response, err = c.Next(challenge); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the exchange has no end")
	return Reply{}
}

func TestSASL(t *testing.T) {
	for _, c := range []struct{ user, password string }{
		{"tim", "tanstaaftanstaaf"}, {"a@b", " "}, {"büro@exämple", "пароль"}, {strings.Repeat("u", 255), strings.Repeat("p", 1024)},
	} {
		var user, password string
		reply := Reply{Code: 535, Text: "as it is"}
		take := func(u, p string) Reply { user, password = u, p; return reply }
		for name, run := range map[string]func() Reply{
			"PLAIN": func() Reply {
				return talk(t, PlainClient(c.user, c.password), PlainServer(func(id, u, p string) Reply {
					if id != "" {
						t.Errorf("identity %q", id)
					}
					return take(u, p)
				}))
			},
			"LOGIN": func() Reply { return talk(t, LoginClient(c.user, c.password), LoginServer(take)) },
		} {
			user, password = "", ""
			if r := run(); r != reply || user != c.user || password != c.password {
				t.Errorf("%s %q: %v, %q %q", name, c.user, r, user, password)
			}
		}
	}
}

func TestSASLClientRefuses(t *testing.T) {
	for _, c := range []struct{ user, password string }{{"", "x"}, {"x", ""}, {"a\x00b", "x"}, {"x", "a\x00b"}, {"\xff", "x"}, {"x", "\xc0\x80"}} {
		for _, client := range []SASLClient{PlainClient(c.user, c.password), LoginClient(c.user, c.password)} {
			b, err := client.Start()
			if err == nil || b != nil {
				t.Errorf("%s %q %q: %q", client.Mechanism(), c.user, c.password, b)
			} else if c.user == "x" && len(c.password) > 1 && strings.Contains(err.Error(), c.password) {
				t.Errorf("%q tells the password", err)
			}
		}
	}
	if b, err := PlainClient("a", "b").Next(nil); err == nil {
		t.Errorf("PLAIN answered a challenge with %q", b)
	}
	login := LoginClient("a", "b")
	for i, want := range []string{"a", "b", ""} {
		if b, err := login.Next([]byte("whatever")); string(b) != want || (err != nil) != (i == 2) {
			t.Errorf("LOGIN answered challenge %d with %q, %v", i, b, err)
		}
	}
	if LoginClient("a", "b").Mechanism() != "LOGIN" || PlainClient("a", "b").Mechanism() != "PLAIN" {
		t.Error("a mechanism has another name")
	}
}

func TestPlainServer(t *testing.T) {
	good := Reply{Code: 235}
	for message, want := range map[string]string{
		"\x00tim\x00pw": "235", "Ursel\x00Kurt\x00xipj3plmq": "235", "\x00a\x00" + strings.Repeat("é", 600): "235",
		"": "501 5.5.2", "tim": "501 5.5.2", "tim\x00pw": "501 5.5.2", "\x00tim\x00pw\x00": "501 5.5.2", "\x00\x00\x00": "501 5.5.2",
		"\x00\xff\x00pw": "501 5.5.2", "\xc0\x80tim\x00a\x00pw": "501 5.5.2", "\x00tim\x00\xed\xa0\x80": "501 5.5.2",
		"\x00\x00": "535 5.7.8", "\x00\x00pw": "535 5.7.8", "\x00tim\x00": "535 5.7.8", "id\x00tim\x00": "535 5.7.8",
	} {
		asked := false
		challenge, done, r := PlainServer(func(id, user, password string) Reply {
			asked = true
			if got := id + "\x00" + user + "\x00" + password; got != message {
				t.Errorf("%q became %q", message, got)
			}
			return good
		}).Next([]byte(message))
		if !done || challenge != nil || !strings.HasPrefix(r.String(), want) || asked != (want == "235") {
			t.Errorf("%q: %v %v", message, done, r)
		}
	}
	if challenge, done, _ := PlainServer(nil).Next(nil); done || len(challenge) != 0 {
		t.Errorf("without a response: %q %v", challenge, done)
	}
}

func TestLoginServer(t *testing.T) {
	for _, c := range []struct {
		user, password []byte
		want           string
	}{
		{[]byte("tim"), []byte("pw"), "235"}, {[]byte(""), []byte("pw"), "535 5.7.8"}, {[]byte("tim"), []byte(""), "535 5.7.8"},
		{[]byte("t\x00m"), []byte("pw"), "501 5.5.2"}, {[]byte("tim"), []byte("p\x00"), "501 5.5.2"},
		{[]byte("\xff"), []byte("pw"), "501 5.5.2"}, {[]byte("tim"), []byte("\xff"), "501 5.5.2"},
	} {
		asked := false
		s := LoginServer(func(user, password string) Reply {
			asked = user == string(c.user) && password == string(c.password)
			return Reply{Code: 235}
		})
		if challenge, done, _ := s.Next(nil); done || string(challenge) != "Username:" {
			t.Errorf("first %q %v", challenge, done)
		}
		challenge, done, r := s.Next(c.user)
		if !done && string(challenge) == "Password:" {
			challenge, done, r = s.Next(c.password)
		}
		if !done || challenge != nil || !strings.HasPrefix(r.String(), c.want) || asked != (c.want == "235") {
			t.Errorf("%q %q: %q %v %v", c.user, c.password, challenge, done, r)
		}
	}
}

func TestDecodeSASL(t *testing.T) {
	for text, want := range map[string]string{"": "", "AHRlc3QAdGVzdA==": "\x00test\x00test", "QQ==": "A"} {
		if b, ok := DecodeSASL(text); !ok || b == nil || string(b) != want {
			t.Errorf("%q: %q %v", text, b, ok)
		}
	}
	// RFC 4954 4: "(e.g., "=AAA" and "AAA=BBB" are not allowed)".
	for _, text := range []string{"=", "*", "=AAA", "AAA=BBB", "A", "AA", "AAA", "QQ=", "QR==", "Q Q=", "QQ==\n", "QQ\r\n==", "QQ==QQ==", "Q-_=", "QQ== "} {
		if b, ok := DecodeSASL(text); ok || b != nil {
			t.Errorf("%q: %q", text, b)
		}
	}
}

// FuzzSASL: whatever a client sends, verify is asked for a name and a password as
// RFC 4616 2 wants them, and they are what was sent.
func FuzzSASL(f *testing.F) {
	for _, s := range []string{"", "\x00tim\x00pw", "id\x00tim\x00pw", "\x00\x00", "\x00\x00\x00", "\xff\x00a\x00b", "AHRlc3QAdGVzdA==", "=", "AA=A"} {
		f.Add([]byte(s), []byte("second"))
		f.Add([]byte("first"), []byte(s))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		safe := func(s string) bool { return s != "" && utf8.ValidString(s) && !strings.Contains(s, "\x00") }
		asked := 0
		verify := func(id, user, password string) Reply {
			asked++
			if !safe(user) || !safe(password) || id != "" && !safe(id) {
				t.Fatalf("%q: %q %q %q", a, id, user, password)
			}
			return OK
		}
		_, done, r := PlainServer(func(id, user, password string) Reply {
			if id+"\x00"+user+"\x00"+password != string(a) {
				t.Fatalf("%q became %q %q %q", a, id, user, password)
			}
			return verify(id, user, password)
		}).Next(append([]byte{}, a...))
		if !done || (asked == 1) != r.Positive() || asked == 0 && !r.Permanent() {
			t.Fatalf("PLAIN %q: %v %v, asked %d times", a, done, r, asked)
		}
		asked = 0
		login := LoginServer(func(user, password string) Reply {
			if user != string(a) || password != string(b) {
				t.Fatalf("%q %q became %q %q", a, b, user, password)
			}
			return verify("", user, password)
		})
		if _, done, r = login.Next(append([]byte{}, a...)); !done {
			_, done, r = login.Next(append([]byte{}, b...))
		}
		if !done || (asked == 1) != r.Positive() || asked == 0 && !r.Permanent() {
			t.Fatalf("LOGIN %q %q: %v %v, asked %d times", a, b, done, r, asked)
		}
		if got, ok := DecodeSASL(EncodeSASL(a)); !ok || !bytes.Equal(got, a) {
			t.Fatalf("%q came back as %q, %v", a, got, ok)
		}
		if got, ok := DecodeSASL(string(a)); ok && EncodeSASL(got) != string(a) {
			t.Fatalf("%q is read as %q, which is written otherwise", a, got)
		}
	})
}

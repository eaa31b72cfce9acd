package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUser(t *testing.T) {
	conf := site(t, "hold")
	file := filepath.Join(filepath.Dir(conf), "data/accounts")
	user := func(want int, stdin, says string, args ...string) string {
		t.Helper()
		code, out, errs := command(t, stdin, append([]string{"user"}, append(args, "--config", conf)...)...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("user %q: %d, want %d with %q: %s%s", args, code, want, says, out, errs)
		}
		if strings.Contains(out+errs, "secret") {
			t.Errorf("user %q tells the password: %s%s", args, out, errs)
		}
		return out
	}
	user(0, "", "No accounts", "ls")
	user(0, "secret one\n", "may send", "add", "alice@example.org", "--send-as", "*@example.org")
	user(0, "secret two", "may send", "add", "bob@example.org")
	user(1, "secret x\n", "passwd Alice@example.org", "add", "Alice@example.org")
	user(2, "\n", "no password", "add", "carl@example.org")
	user(2, strings.Repeat("x", passwordMax+1), "octets", "add", "carl@example.org")
	user(1, "secret x\n", "no account carl", "passwd", "carl@example.org")
	user(1, "", "no account carl", "rm", "carl@example.org")
	user(1, "", "no account carl", "ls", "carl@example.org")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || strings.Contains(string(before), "secret") {
		t.Errorf("%v, %v: %s", info.Mode(), err, before)
	}
	user(0, "secret three\n", "another password", "passwd", "alice@example.org")
	if after, _ := os.ReadFile(file); string(after) == string(before) {
		t.Error("the password is the old one")
	}
	var one struct {
		Address string
		SendAs  []string `json:"send_as"`
		SCRAM   bool
	}
	if err := json.Unmarshal([]byte(user(0, "", "", "ls", "alice@example.org", "--json")), &one); err != nil || one.Address != "alice@example.org" ||
		len(one.SendAs) != 1 || !one.SCRAM {
		t.Errorf("%+v, %v", one, err)
	}
	// An account of before has no keys, and its owner is told what to do.
	lines := strings.Split(string(before), "\n")
	for i, line := range lines {
		if f := strings.SplitN(line, ":", 3); len(f) == 3 && f[0] == "bob@example.org" {
			lines[i] = f[0] + ":" + f[1]
		}
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	user(0, "", "bob@example.org  has no keys for SCRAM until \"postrider user passwd bob@example.org\"", "ls", "bob@example.org")
	if err := json.Unmarshal([]byte(user(0, "", "", "ls", "bob@example.org", "--json")), &one); err != nil || one.SCRAM {
		t.Errorf("%+v, %v", one, err)
	}
	user(0, "", "no account any more", "rm", "alice@example.org")
	user(0, "", "bob@example.org", "ls")
}

func TestRandomPassword(t *testing.T) {
	a, b := randomPassword(), randomPassword()
	if a == b || len(a) != 19 || strings.Trim(a, "abcdefghijkmnpqrstuvwxyz23456789-") != "" {
		t.Errorf("%q, %q", a, b)
	}
}

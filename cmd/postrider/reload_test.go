package main

import (
	"os"
	"strings"
	"testing"
)

// reload applies a file, and refuses one that is wrong, with its line; what ran
// before goes on.
func TestReload(t *testing.T) {
	conf := site(t, "hold")
	p, addr := serve(t, conf)
	good, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(want int, says string) {
		t.Helper()
		code, out, errs := command(t, "", "reload", "--config", conf)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("reload: %d, want %d with %q: %s%s", code, want, says, out, errs)
		}
	}
	mail := func(want int, to string) {
		t.Helper()
		if code, out, errs := command(t, "x\r\n", "send", "--server", addr, "--from", "me@example.net", "--to", to); code != want {
			t.Errorf("send to %s: %d, %s%s", to, code, out, errs)
		}
	}
	write(t, conf, strings.Replace(string(good), `["alice"]`, `["alice", "bert"]`, 1))
	mail(1, "bert@example.org")
	reload(0, "is applied")
	mail(0, "bert@example.org")
	write(t, conf, string(good)+"colour = 1\n")
	reload(2, `error: unknown key "colour"`)
	mail(0, "bert@example.org")
	write(t, conf, strings.Replace(string(good), "mx.example.org", "mx2.example.org", 1))
	reload(0, "Not before the next start: hostname")
	mail(1, "bert@example.org")
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	reload(2, "p.hcl")
	write(t, conf, string(good))
	p.stop()
	reload(1, "no server runs")
}

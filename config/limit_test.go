package config

import (
	"testing"
	"time"

	"github.com/postrider/postrider"
)

// What a rate is, and that it is printed as it is read.
func TestRate(t *testing.T) {
	for s, want := range map[string]postrider.Rate{
		"100/1m":     {Messages: 100, Per: time.Minute},
		"1/5m":       {Messages: 1, Per: 5 * time.Minute},
		"1000000/1s": {Messages: 1_000_000, Per: time.Second},
		"1/1d":       {Messages: 1, Per: 24 * time.Hour},
		"7/90s":      {Messages: 7, Per: 90 * time.Second},
	} {
		got, wrong := parseRate(s)
		if wrong != "" || got != want || FormatRate(got) != s {
			t.Errorf("%q: %+v %q, printed %q", s, got, wrong, FormatRate(got))
		}
		if got.Every() <= 0 {
			t.Errorf("%q: no time from one message to the next", s)
		}
	}
	for _, s := range []string{"", "/", "5", "/1m", "5/", "x/1m", "5/x", "5 /0s", "5/1m/1m", "1000001/1s", "+5/1m", "5.5/1m", "5/-1m"} {
		if r, wrong := parseRate(s); wrong == "" {
			t.Errorf("%q is %+v", s, r)
		}
	}
}

// A route without limits has the zero ones, and each key stands for itself.
func TestRouteLimits(t *testing.T) {
	src := "listener \"mx\" { address = \"127.0.0.1:25\" }\nroute \"a.example\" {\n via = \"mx\"\n connections = 5\n messages_per_connection = 50\n rate = \"100/1m\"\n}\n" +
		"route \"b.example\" {\n via = \"lmtp:///run/lmtp\"\n connections = 7\n}\nroute \"*\" { via = \"mx\" }\n"
	cfg, found := Load("x.hcl", []byte(src), nil, testFiles())
	if found.HasErrors() {
		t.Fatal(found)
	}
	for i, want := range []postrider.Limits{{Connections: 5, Messages: 50, Rate: postrider.Rate{Messages: 100, Per: time.Minute}}, {Connections: 7}, {}} {
		if got := cfg.Routes[i].To.Limits; got != want {
			t.Errorf("route %d: %+v, want %+v", i, got, want)
		}
	}
}

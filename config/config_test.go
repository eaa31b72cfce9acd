package config

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

var update = flag.Bool("update", false, "write what is printed to testdata")

func testEnv(name string) (string, bool) {
	v, ok := map[string]string{"DATA": "/srv/data"}[name]
	return v, ok
}

// Every wrong file prints what stands beside it. "An unknown key, a wrong type,
// a route that can never match is an error with file, line, column, the source
// line and the nearest known name."
func TestWrong(t *testing.T) {
	names, err := filepath.Glob("testdata/bad/*")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, name := range names {
		if strings.HasSuffix(name, ".txt") {
			continue
		}
		files++
		t.Run(filepath.Base(name), func(t *testing.T) {
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			cfg, found := Load(filepath.Base(name), src, testEnv)
			if (cfg == nil) != found.HasErrors() {
				t.Errorf("a Config comes just when there are no errors: %v, %v", cfg, found)
			}
			if len(found) == 0 {
				t.Fatal("nothing was found")
			}
			for _, d := range found {
				if d.Help == "" {
					t.Errorf("nothing to do: %v", d)
				}
			}
			golden := strings.TrimSuffix(name, filepath.Ext(name)) + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(found.String()), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), found.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if files < 15 {
		t.Errorf("%d wrong files: some are lost", files)
	}
}

func full() *Config {
	return &Config{
		Hostname:   "mx1.example.org",
		DataDir:    "/srv/data",
		Postmaster: smtp.Path{Local: "alice", Domain: "example.org"},
		Listeners: []Listener{
			{Name: "mx", Address: ":25", RelayFrom: []netip.Prefix{
				netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::1/128")}},
			{Name: "second", Address: "127.0.0.1:2525"},
		},
		Admin: Admin{Address: "127.0.0.1:8025"},
		DNS:   DNS{Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5353"), netip.MustParseAddrPort("[::1]:53")}},
		Domains: []Domain{
			{Name: "example.org", Mailboxes: []string{"alice", "bob smith"},
				Deliver: postrider.Route{Via: postrider.ViaMaildir, Dir: "/var/mail/{domain}/{user}"}},
			{Name: "backup.example", Mailboxes: []string{"*"},
				Deliver: postrider.Route{Via: postrider.ViaMX, Port: 25}},
		},
		Routes: []Route{
			{Pattern: "partner.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "gw.internal", Port: 2525, Private: true}},
			{Pattern: "six.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "2001:db8::2", Port: 25, Private: true}},
			{Pattern: ".odd.example", To: postrider.Route{Via: postrider.ViaMX, Port: 2526, Private: true}},
			{Pattern: "closed.example", To: postrider.Route{Via: postrider.ViaError,
				Reply: smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 2}, Text: "We do not write there"}}},
			{Pattern: "later.example", To: postrider.Route{Via: postrider.ViaHold}},
			{Pattern: "*", To: postrider.Route{Via: postrider.ViaMX, Port: 25}},
		},
		Queue: Queue{
			Retry:         []time.Duration{30 * time.Second, 90 * time.Minute},
			Expire:        48 * time.Hour,
			ExpireBounce:  12 * time.Hour,
			MaxRecipients: 500,
		},
		Limits: Limits{MessageSize: 1 << 30, Recipients: 200},
	}
}

func TestRight(t *testing.T) {
	for _, name := range []string{"full.hcl", "full.json"} {
		src, err := os.ReadFile("testdata/good/" + name)
		if err != nil {
			t.Fatal(err)
		}
		got, found := Load(name, src, testEnv)
		if len(found) != 0 {
			t.Fatalf("%s: %v", name, found)
		}
		opts := cmp.Options{cmpopts.IgnoreTypes(Pos{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
			cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}
		if diff := cmp.Diff(full(), got, opts); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A file that says nothing but where to listen has the defaults.
func TestDefaults(t *testing.T) {
	cfg, found := Load("x.hcl", []byte(`listener "mx" { address = ":25" }`), nil)
	if len(found) != 0 {
		t.Fatal(found)
	}
	q := cfg.Queue
	if len(q.Retry) != 7 || q.Retry[0] != time.Minute || q.Expire != 120*time.Hour || q.ExpireBounce != 24*time.Hour ||
		q.DelayNotice != 4*time.Hour || q.MaxRecipients != 2_000_000 {
		t.Errorf("queue %+v", q)
	}
	if l := cfg.Limits; l.MessageSize != 50<<20 || l.Recipients != 1000 || len(l.Exempt) != 2 {
		t.Errorf("limits %+v", l)
	}
	if len(cfg.Listeners[0].RelayFrom) != 0 || cfg.Admin.Address != "" {
		t.Errorf("nobody relays, and no HTTP is served, unless the file says so: %+v", cfg)
	}
}

// "It never listens beyond loopback unless a configuration says so", and other
// domains are held.
func TestBuiltin(t *testing.T) {
	cfg := Builtin("d")
	addrs := []string{cfg.Admin.Address}
	for _, l := range cfg.Listeners {
		addrs = append(addrs, l.Address)
	}
	for _, a := range addrs {
		if ap, err := netip.ParseAddrPort(a); err != nil || !ap.Addr().IsLoopback() {
			t.Errorf("%s is not loopback", a)
		}
	}
	if len(cfg.Routes) != 1 || cfg.Routes[0].To.Via != postrider.ViaHold || cfg.Routes[0].Pattern != "*" {
		t.Errorf("routes %+v", cfg.Routes)
	}
	if table := cfg.Table(); table.Domains[0].Deliver.Dir != filepath.Join("d", "mail", "{domain}", "{user}") {
		t.Errorf("mail lands in %s", table.Domains[0].Deliver.Dir)
	}
	if cfg.DataDir != "d" || Builtin("").DataDir != DefaultDataDir {
		t.Error("the data directory is not the one that was given")
	}
}

func TestLatePosition(t *testing.T) {
	cfg, _ := Load("x.hcl", []byte("listener \"mx\" {\n  address = \":25\"\n}\n"), nil)
	got := cfg.Listeners[0].Pos.Error("it is taken", "Stop the other one.").String()
	want := "x.hcl:2,13: error: it is taken\n  2 |   address = \":25\"\n    |             ^^^^^\n  Stop the other one."
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := (Pos{}).Error("m", "h").String(); got != "built-in configuration: error: m\n  h" {
		t.Errorf("%q", got)
	}
}

func TestUnits(t *testing.T) {
	for s, want := range map[string]time.Duration{"30s": 30 * time.Second, "5m": 5 * time.Minute, "1d12h": 36 * time.Hour, "0s": 0} {
		if d, err := ParseDuration(s); err != nil || d != want {
			t.Errorf("%q: %v, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "5", "m", "5ms", "5M", "1.5h", "-5m", " 5m", "99999999999999999999d", "999999999d", "9223372036s1d9223372036s"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%q: %v", s, d)
		}
	}
	for s, want := range map[string]int64{"0": 0, "7B": 7, "64KiB": 65536, "50MiB": 50 << 20, "1GiB": 1 << 30, "1 TiB": 1 << 40} {
		if n, err := ParseSize(s); err != nil || n != want {
			t.Errorf("%q: %v, %v", s, n, err)
		}
	}
	for _, s := range []string{"", "MiB", "50MB", "50M", "-1", "1.5GiB", "9999999999TiB", "99999999999999999999"} {
		if n, err := ParseSize(s); err == nil {
			t.Errorf("%q: %v", s, n)
		}
	}
}

func FuzzUnits(f *testing.F) {
	f.Add(int64(90_061), "1d1h1m1s")
	f.Add(int64(50<<20), "50MiB")
	f.Fuzz(func(t *testing.T, n int64, s string) {
		n &= 1<<33 - 1
		if got, err := ParseSize(FormatSize(n)); err != nil || got != n {
			t.Errorf("size %d: %q: %d, %v", n, FormatSize(n), got, err)
		}
		d := time.Duration(n) * time.Second
		if got, err := ParseDuration(FormatDuration(d)); err != nil || got != d {
			t.Errorf("duration %v: %q: %v, %v", d, FormatDuration(d), got, err)
		}
		if d, err := ParseDuration(s); err == nil && d < 0 {
			t.Errorf("%q is %v", s, d)
		}
		if n, err := ParseSize(s); err == nil && n < 0 {
			t.Errorf("%q is %d", s, n)
		}
	})
}

// No file stops the program, and what is printed of it is fit for a terminal.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.hcl", "testdata/good/*", "testdata/bad/*.json"} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			src, _ := os.ReadFile(name)
			f.Add(filepath.Ext(name) == ".json", src)
		}
	}
	f.Fuzz(func(t *testing.T, json bool, src []byte) {
		name := "f.hcl"
		if json {
			name = "f.json"
		}
		cfg, found := Load(name, src, testEnv)
		if (cfg == nil) != found.HasErrors() {
			t.Errorf("%v with %v", cfg, found)
		}
		for _, d := range found {
			line, _ := d.marked()
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' }) {
				t.Errorf("control character in %q", line)
			}
		}
	})
}

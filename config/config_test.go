package config

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
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
			cfg, found := Load(filepath.Base(name), src, testEnv, testFiles())
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
	if files < 40 {
		t.Errorf("%d wrong files: some are lost", files)
	}
}

func full() *Config {
	return &Config{
		Hostname:     "mx1.example.org",
		DataDir:      "/srv/data",
		SubmitSocket: "/run/postrider/submit.sock",

		Postmaster: smtp.Path{Local: "alice", Domain: "example.org"},
		TLS:        TLS{Cert: "/mx1.pem", Key: "/mx1.key"},
		Listeners: []Listener{
			{Name: "mx", Address: ":25", Role: RoleMX, TLS: TLSNone, RelayFrom: []netip.Prefix{
				netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::1/128")},
				Refuse: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}, Verify: VerifyRelay, Announce: true,
				NoSoliciting: []string{"org.example:ADV", "net.example:ADV:ADLT"}, ProxyFrom: []netip.Prefix{netip.MustParsePrefix("198.51.100.7/32")},
				XClientFrom: []netip.Prefix{netip.MustParsePrefix("198.51.100.8/31"), netip.MustParsePrefix("2001:db8::/64")}},
			{Name: "second", Address: "127.0.0.1:2525", Role: RoleMX, TLS: TLSStart, Verify: VerifyAuthenticated},
			{Name: "submission", Address: ":587", Role: RoleSubmission, TLS: TLSStart, Verify: VerifyAuthenticated},
			{Name: "submissions", Address: ":465", Role: RoleSubmission, TLS: TLSImplicit, ClientCA: "/mx1.pem", Verify: VerifyAuthenticated},
			{Name: "lmtp", Address: "127.0.0.1:24", Role: RoleLMTP, TLS: TLSNone, Verify: VerifyAuthenticated},
		},
		OAuth: OAuth{Issuer: "https://id.example.org", Audience: "mx1.example.org", Keys: "/jwks.json", Claim: "mail", Scope: "smtp",
			Configuration: "https://id.example.org/.well-known/openid-configuration"},
		Admin: Admin{Address: "127.0.0.1:8025"},
		DNS:   DNS{Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5353"), netip.MustParseAddrPort("[::1]:53")}},
		Domains: []Domain{
			{Name: "example.org", Mailboxes: []string{"alice", "bob smith"}, Aliases: "/aliases",
				Deliver: postrider.Route{Via: postrider.ViaMaildir, Dir: "/var/mail/{domain}/{user}"}},
			{Name: "example.net", Mailboxes: []string{"alice", "bob"}, Aliases: "/aliases",
				Deliver: postrider.Route{Via: postrider.ViaLMTP, Socket: "/run/dovecot/lmtp"}},
			{Name: "backup.example", Mailboxes: []string{"*"},
				Deliver: postrider.Route{Via: postrider.ViaMX, Port: 25}},
		},
		Routes: []Route{
			{Pattern: "partner.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "gw.internal", Port: 2525, Private: true}},
			{Pattern: "six.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "2001:db8::2", Port: 25, Private: true}},
			{Pattern: ".odd.example", To: postrider.Route{Via: postrider.ViaMX, Port: 2526, Private: true, TLS: postrider.TLSNone, AsIs: true}},
			{Pattern: "hub.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "hub.example.org", Port: 465, Private: true,
				TLS: postrider.TLSVerify, Implicit: true, Username: "postrider@hub.example", Password: "s3cret words"}},
			{Pattern: "smart.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "smart.example.org", Port: 587, Private: true,
				TLS: postrider.TLSVerify, Username: "us", Password: "s3cret words"}},
			{Pattern: "token.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "token.example.org", Port: 465, Private: true,
				TLS: postrider.TLSVerify, Implicit: true, Username: "us", Auth: "oauthbearer", Password: "s3cret words"}},
			{Pattern: "proof.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "proof.example.org", Port: 465, Private: true,
				TLS: postrider.TLSRequire, Implicit: true, Username: "us", Auth: "scram", Password: "s3cret words"}},
			{Pattern: "cert.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "cert.example.org", Port: 465, Private: true,
				TLS: postrider.TLSVerify, Implicit: true, Auth: "external",
				Certificate: postrider.Secret(string(testFiles()["mx1.pem"].Data) + "\n" + string(testFiles()["mx1.key"].Data))}},
			{Pattern: "near.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "127.0.0.1", Port: 2587, Private: true,
				TLS: postrider.TLSRequire, Username: "us", Password: "s3cret words"}},
			{Pattern: "tunnel.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "localhost", Port: 2587, Private: true,
				TLS: postrider.TLSRequire, Username: "us", Password: "s3cret words"}},
			{Pattern: "sure.example", To: postrider.Route{Via: postrider.ViaSMTP, Host: "192.0.2.1", Port: 4465, Private: true,
				TLS: postrider.TLSRequire, Implicit: true}},
			{Pattern: "mailstore.example", To: postrider.Route{Via: postrider.ViaLMTP, Host: "::1", Port: 24, Private: true, TLS: postrider.TLSNone}},
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
		Limits:  Limits{MessageSize: 1 << 30, Recipients: 200, Connections: 5000, MinFree: 2 << 30, FutureRelease: 7 * 24 * time.Hour, FutureMessages: 50},
		Journal: Journal{Keep: 30 * 24 * time.Hour, MaxSize: 1 << 30},
	}
}

func TestRight(t *testing.T) {
	for _, name := range []string{"full.hcl", "full.json"} {
		src, err := os.ReadFile("testdata/good/" + name)
		if err != nil {
			t.Fatal(err)
		}
		got, found := Load(name, src, testEnv, testFiles())
		if len(found) != 0 {
			t.Fatalf("%s: %v", name, found)
		}
		if diff := difference(full(), got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// difference is what differs in two configurations, wherever it stands in a file.
func difference(a, b *Config) string {
	return cmp.Diff(a, b, cmpopts.IgnoreTypes(Pos{}), cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }))
}

// A certificate is compared with the name that the file gives us, and with none
// where it leaves that to the machine.
func TestCertificateWithoutHostname(t *testing.T) {
	src := `tls {
  cert = "/mx1.pem"
  key  = "/mx1.key"
}
listener "mx" { address = ":25" }`
	for name, warnings := range map[string]int{"": 0, "mx1.example.org": 0, "mail.example.org": 1} {
		text := src
		if name != "" {
			text = "hostname = \"" + name + "\"\n" + src
		}
		if _, found := Load("x.hcl", []byte(text), nil, testFiles()); len(found) != warnings {
			t.Errorf("%q: %v", name, found)
		}
	}
}

// To load a file again, as a reload does, gives the same and changes nothing.
// What a command loads that looks at no files is the same but for the passwords.
func TestLoadAgain(t *testing.T) {
	src, err := os.ReadFile("testdata/good/full.hcl")
	if err != nil {
		t.Fatal(err)
	}
	first, _ := Load("full.hcl", src, testEnv, testFiles())
	again, _ := Load("full.hcl", src, testEnv, testFiles())
	blind, found := Load("full.hcl", src, testEnv, nil)
	if !reflect.DeepEqual(first, again) || len(found) != 0 {
		t.Errorf("%v\n%v\n%v", first, again, found)
	}
	for i, r := range blind.Routes {
		if r.To.Password != "" || r.To.Certificate != "" {
			t.Errorf("route %q has a password from nowhere", r.Pattern)
		}
		blind.Routes[i].To.Password, blind.Routes[i].To.Certificate = first.Routes[i].To.Password, first.Routes[i].To.Certificate
	}
	if !reflect.DeepEqual(first, blind) {
		t.Errorf("%v\n%v", first, blind)
	}
}

// What is wrong is told without the secrets that were read.
func TestSecretsAreNotTold(t *testing.T) {
	names, _ := filepath.Glob("testdata/bad/*.txt")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || strings.Contains(string(text), "s3cret") || strings.Contains(string(text), "PRIVATE") {
			t.Errorf("%s: %v: it tells a secret", name, err)
		}
	}
}

func TestKeyPair(t *testing.T) {
	files := testFiles()
	if pair, err := (TLS{Cert: "/mx1.pem", Key: "/mx1.key"}).KeyPair(files); err != nil || pair.Leaf.DNSNames[0] != "mx1.example.org" {
		t.Errorf("%v, %v", pair.Leaf, err)
	}
	for _, tt := range []struct{ cert, key, says string }{
		{"/gone", "/mx1.key", "certificate /gone: file does not exist"},
		{"/mx1.pem", "/gone", "key /gone: file does not exist"},
		{"/mx1.pem", "/other.key", "certificate /mx1.pem with key /other.key: private key does not match"},
		{"/pw", "/mx1.key", "certificate /pw with key /mx1.key: failed to find any PEM data"},
	} {
		_, err := TLS{Cert: tt.cert, Key: tt.key}.KeyPair(files)
		if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v does not say %q", err, tt.says)
		}
	}
}

// A file that says nothing but where to listen has the defaults.
func TestDefaults(t *testing.T) {
	cfg, found := Load("x.hcl", []byte(`listener "mx" { address = ":25" }`), nil, nil)
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
	if l := cfg.Listeners[0]; l.Role != RoleMX || l.TLS != TLSStart || !cfg.TLS.SelfSigned {
		t.Errorf("%+v with %+v", l, cfg.TLS)
	}
	if j := cfg.Journal; j.Keep != 90*24*time.Hour || j.MaxSize != 20<<30 {
		t.Errorf("journal %+v", j)
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
		if ap, err := netip.ParseAddrPort(a); !loopbackOnly(a) || err != nil || !ap.Addr().IsLoopback() {
			t.Errorf("%s is not loopback", a)
		}
	}
	if l := cfg.Listeners; len(l) != 2 || l[0].Role != RoleMX || l[1].Role != RoleSubmission || l[1].TLS != TLSStart ||
		len(l[0].RelayFrom)+len(l[1].RelayFrom) != 0 || !cfg.TLS.SelfSigned {
		t.Errorf("users alone send to other domains, over TLS: %+v", cfg)
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
	cfg, _ := Load("x.hcl", []byte("listener \"mx\" {\n  address = \":25\"\n}\n"), nil, nil)
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
		cfg, found := Load(name, src, testEnv, testFiles())
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

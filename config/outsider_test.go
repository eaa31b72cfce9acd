package config

import (
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/route"
)

const mxListener = "listener \"mx\" { address = \"127.0.0.1:25\" }\n"

// found is what Load says of a file: "error: ..." and "warning: ..." in one line each, without
// places.
func found(src string, files route.Files) (*Config, string) {
	cfg, all := Load("x.hcl", []byte(src), nil, files)
	var said []string
	for _, d := range all {
		kind := "error: "
		if d.Warning {
			kind = "warning: "
		}
		said = append(said, kind+d.Message)
	}
	return cfg, strings.Join(said, "\n")
}

// Each bound holds where it stands: the last value that will do, and the first that will not.
func TestBoundsOfValues(t *testing.T) {
	listener := func(keys string) string { return "listener \"l\" {\n" + keys + "\n}\n" }
	in := func(block, keys string) string { return mxListener + block + " {\n" + keys + "\n}\n" }
	via := func(s string) string { return mxListener + "route \"*\" { via = \"" + s + "\" }\n" }
	socket := "/" + strings.Repeat("s", socketMax-1)
	for src, want := range map[string]string{
		"listener \"" + strings.Repeat("l", 64) + "\" { address = \"127.0.0.1:25\" }":                   "",
		"listener \"" + strings.Repeat("l", 65) + "\" { address = \"127.0.0.1:25\" }":                   "is no name for a listener",
		listener(`address = "localhost:25"`):                                                            "",
		listener(`address = "mx.example.org:25"`):                                                       "error: \"mx.example.org\" is no IP address",
		listener("address = \":587\"\ntls = \"implicit\""):                                              "warning: on port 587 mail programs speak no TLS",
		listener("address = \":25\"\ntls = \"implicit\""):                                               "warning: on port 25 mail programs speak no TLS",
		listener("address = \":465\"\ntls = \"implicit\""):                                              "",
		listener("address = \":24\"\nrole = \"lmtp\"\nverify = \"anyone\""):                             "", // who hands in mail there is one of us
		listener("address = \":26\"\nverify = \"anyone\""):                                              "warning: verify = \"anyone\" tells strangers",
		listener("address = \":26\"\nno_soliciting = [\"" + strings.Repeat("a", solicitRoom-1) + "\"]"): "",
		listener("address = \":26\"\nno_soliciting = [\"" + strings.Repeat("a", solicitRoom) + "\"]"):   "error: no_soliciting has more than 480 characters",
		listener("address = \":26\"\nno_soliciting = [\"a.b:C,d.e:F\"]"):                                "is no keyword (RFC 3865 2.2)",
		in("limits", `message_size = "64KiB"`):                                                          "",
		in("limits", "message_size = 65535"):                                                            "warning: message_size is below what RFC 5321 4.5.3.1.7",
		in("limits", "recipients = 100"):                                                                "",
		in("limits", "recipients = 99"):                                                                 "warning: recipients is below what RFC 5321 4.5.3.1.8",
		in("dns", `servers = ["192.0.2.1:1", "[2001:db8::1]:65535", "2001:db8::2"]`):                    "",
		in("limits", "connections = 10"):                                                                "",
		in("limits", "connections = 9"):                                                                 "error: connections cannot be 9",
		in("limits", `memory = "32MiB"`):                                                                "",
		in("limits", `memory = "33554431B"`):                                                            "error: memory is too small",
		in("queue", `expire = "0s"`):                                                                    "error: expire is no time at all",
		in("dns", `servers = ["192.0.2.1:0"]`):                                                          "error: servers: \"192.0.2.1:0\" is no address",
		in("queue", "expire = \"1d\"\ndelay_notice = \"24h\""):                                          "warning: delay_notice is not before expire",
		in("queue", "expire = \"1d\"\ndelay_notice = \"86399s\""):                                       "",
		in("domain \"a.example\"", `mailboxes = ["@a.example"]`):                                        "error: mailboxes: \"@a.example\" is a whole address",
		"postmaster = \"postmaster\"\n" + mxListener:                                                    "error: postmaster: \"postmaster\" has no domain",
		"data_dir = \"/srv\\u007f\"\n" + mxListener:                                                     "error: data_dir holds a control character",
		via("smtp://gw.example:1"):                                                                      "",
		via("smtp://gw.example:0"):                                                                      "error: via: \"0\" is no port number",
		via("smtp://gw.example:65536"):                                                                  "error: via: \"65536\" is no port number",
		via("lmtp://" + socket):                                                                         "",
		via("lmtp://" + socket + "s"):                                                                   "error: via: the name of the socket has 104 octets, and the system takes 103",
		via("maildir:/mail/{user"):                                                                      "error: via: unknown {user in a path",
		via("error:459 no"):                                                                             "",
		via("error:460 no"):                                                                             "error: via: \"460\" is no reply code",
		via("error:559 no"):                                                                             "",
		via("error:560 no"):                                                                             "error: via: \"560\" is no reply code",
		via("error:550 5.999.999 no"):                                                                   "",
		via("error:550 5.1000.1 no"):                                                                    "error: via: 5.1000.1 is no status, and would be sent as 5.0.0",
		via("error:450 4.1.1000 no"):                                                                    "error: via: 4.1.1000 is no status, and would be sent as 4.0.0",
		via("error:354 go on"):                                                                          "error: via: \"354\" is no reply code",
	} {
		if cfg, got := found(src, nil); (got == "") != (want == "") || !strings.Contains(got, want) || (cfg == nil) != strings.Contains(got, "error: ") {
			t.Errorf("%s%s\nwant %q", src, got, want)
		}
	}
}

// Two listeners do not go together where one address is a part of the other: the name
// localhost too, which is one of the addresses of 0.0.0.0. Port 0 is any that is free.
func TestClash(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:25", "127.0.0.1:25", true}, {"127.0.0.1:25", "127.0.0.1:26", false}, {"127.0.0.1:25", "127.0.0.2:25", false},
		{":25", "127.0.0.1:25", true}, {":25", "[::1]:25", true}, {"[::]:25", "127.0.0.1:25", true}, {"[::]:25", "0.0.0.0:25", true},
		{"0.0.0.0:25", "127.0.0.1:25", true}, {"0.0.0.0:25", "[::1]:25", false}, {"0.0.0.0:25", "[::ffff:127.0.0.1]:25", true},
		{"0.0.0.0:25", "localhost:25", true}, {"127.0.0.1:0", "127.0.0.1:0", false}, {":0", ":0", false}, {"", "", false},
	} {
		if clash(tt.a, tt.b) != tt.want || clash(tt.b, tt.a) != tt.want {
			t.Errorf("%q and %q: %v", tt.a, tt.b, !tt.want)
		}
	}
}

// What the file says of folders, names and addresses comes to who needs it: an absolute name as
// it is, any other below data_dir.
func TestPlacesOfFiles(t *testing.T) {
	src := "data_dir = \"/srv/mail\"\npostmaster = \"dora@example.org\"\n" + mxListener + `
domain "Example.ORG." { deliver = "maildir:/var/mail/{user}" }
domain "b.example" { deliver = "maildir:boxes/{user}" }
route ".C.example." { via = "hold" }`
	cfg, said := found(src, nil)
	if said != "" {
		t.Fatal(said)
	}
	table := cfg.Table()
	if table.Postmaster.String() != "dora@example.org" {
		t.Errorf("the postmaster is %s", table.Postmaster)
	}
	for i, want := range []string{"example.org /var/mail/{user}", "b.example /srv/mail/boxes/{user}"} {
		if got := table.Domains[i].Name + " " + table.Domains[i].Deliver.Dir; got != want {
			t.Errorf("domain %d: %s, want %s", i, got, want)
		}
	}
	if got := table.Rules[0].Pattern; got != ".c.example" {
		t.Errorf("the route is for %s", got)
	}
	for in, want := range map[string]string{"": "/srv/mail/submit.sock", "/run/s.sock": "/run/s.sock", "s.sock": "/srv/mail/s.sock"} {
		cfg.SubmitSocket = in
		if got := cfg.SubmitPath(); got != want {
			t.Errorf("submit_socket = %q is %s, want %s", in, got, want)
		}
	}
}

// A password is what the file holds up to the end of its one line, blanks and all; a file that
// is none, such as a pipe that nobody writes to, is refused and not read. A token may be
// longer than a password (RFC 7628 has no bound).
func TestSecretFiles(t *testing.T) {
	files := maps.Clone(testFiles())
	put := func(name, text string, mode fs.FileMode) {
		files[name] = &fstest.MapFile{Data: []byte(text), Mode: mode}
	}
	put("blanks", "\t s3cret \r\n", 0o600)
	put("nul", "s3cret\x00\n", 0o600)
	put("pipe", "s3cret\n", 0o600|fs.ModeNamedPipe)
	put("longest", strings.Repeat("x", passwordMax), 0o600)
	put("token", strings.Repeat("x", tokenMax), 0o600)
	put("token.long", strings.Repeat("x", tokenMax+1), 0o600)
	for _, tt := range []struct{ name, auth, want, says string }{
		{"blanks", "plain", "\t s3cret ", ""},
		{"longest", "plain", strings.Repeat("x", passwordMax), ""},
		{"token", "oauthbearer", strings.Repeat("x", tokenMax), ""},
		{"nul", "plain", "", "error: password_file: /nul holds more than one line"},
		{"pipe", "plain", "", "error: password_file: cannot read /pipe: it is no regular file"},
		{"token", "plain", "", "error: password_file: cannot read /token: it is larger than 1KiB"},
		{"token.long", "oauthbearer", "", "error: password_file: cannot read /token.long: it is larger than 8KiB"},
	} {
		src := fmt.Sprintf("%sroute \"*\" {\n via = \"smtps://gw.example\"\n auth = %q\n username = \"us\"\n password_file = \"/%s\"\n}\n", mxListener, tt.auth, tt.name)
		cfg, said := found(src, files)
		if said != tt.says {
			t.Errorf("%s, %s: %s", tt.name, tt.auth, said)
		} else if cfg != nil && cfg.Routes[0].To.Password != postrider.Secret(tt.want) {
			t.Errorf("%s, %s: the password is another", tt.name, tt.auth)
		}
	}
}

// A key that everybody may write is no better than one that everybody may read.
func TestOpenKey(t *testing.T) {
	files := maps.Clone(testFiles())
	for mode, want := range map[fs.FileMode]string{
		0o600: "", 0o640: "", 0o602: "warning: everybody on this machine may read or write the key /k", 0o604: "warning: everybody on this machine may read or write the key /k",
	} {
		files["k"] = &fstest.MapFile{Data: files["mx1.key"].Data, Mode: mode}
		for _, src := range []string{
			"tls {\n cert = \"/mx1.pem\"\n key = \"/k\"\n}\n" + mxListener,
			mxListener + "route \"*\" {\n via = \"smtps://gw.example\"\n auth = \"external\"\n cert = \"/mx1.pem\"\n key = \"/k\"\n}\n",
		} {
			if _, said := found(src, files); said != want {
				t.Errorf("%o: %s\n%q, want %q", mode, src, said, want)
			}
		}
	}
}

// Whose tokens are taken is what the file says, all of it: without the scope a token that was
// made out for something else would let its user in.
func TestVerifier(t *testing.T) {
	src := mxListener + "oauth {\n issuer = \"https://id.example\"\n audience = \"mx\"\n keys = \"/jwks.json\"\n scope = \"mail\"\n}\n"
	cfg, said := found(src, testFiles())
	if said != "" {
		t.Fatal(said)
	}
	v, err := cfg.OAuth.Verifier(testFiles())
	if err != nil || v.Issuer != "https://id.example" || v.Audience != "mx" || v.Scope != "mail" || len(v.Keys) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Ten mistakes in a configuration. Each is told with file, line, column, the
// line itself and what to do; nothing starts, and the exit status is 2.
var mistakes = []struct {
	name   string
	text   string
	line   int
	column int
	says   string // part of what is said about it
}{
	{"unknown key", `listener "mx" {
  adress = "127.0.0.1:0"
}`, 2, 3, `"address"`},
	{"unknown block", `listener "mx" { address = "127.0.0.1:0" }
quque { expire = "5d" }`, 2, 1, `"queue"`},
	{"wrong type", `listener "mx" { address = "127.0.0.1:0" }
limits { recipients = "many" }`, 2, 23, "recipients"},
	{"no duration", `listener "mx" { address = "127.0.0.1:0" }
queue { expire = "5 days" }`, 2, 18, "expire"},
	{"no size", `listener "mx" { address = "127.0.0.1:0" }
limits { message_size = "50 apples" }`, 2, 25, "message_size"},
	{"route that can never match", `listener "mx" { address = "127.0.0.1:0" }
route "*" { via = "mx" }
route "a.example" { via = "hold" }`, 3, 7, "never match"},
	{"unknown via", `listener "mx" { address = "127.0.0.1:0" }
route "*" { via = "pigeon" }`, 2, 19, "pigeon"},
	{"syntax", `listener "mx" { address = "127.0.0.1:0" }
hostname = mx.example"
`, 2, 0, ""},
	{"no network", `listener "mx" {
  address    = "127.0.0.1:0"
  relay_from = ["192.0.2.0/33"]
}`, 3, 17, "192.0.2.0/33"},
	{"same domain twice", `listener "mx" { address = "127.0.0.1:0" }
domain "a.example" { mailboxes = ["*"] }
domain "A.example" { mailboxes = ["*"] }`, 3, 8, "a.example"},
	{"no address", `listener "mx" {
}`, 1, 1, "address"},
	{"unset environment", `listener "mx" { address = "127.0.0.1:0" }
hostname = env("POSTRIDER_E2E_IS_NOT_SET")`, 2, 17, "POSTRIDER_E2E_IS_NOT_SET"},
}

func TestWrongConfiguration(t *testing.T) {
	for _, tt := range mistakes {
		for _, command := range []string{"check", "serve"} {
			t.Run(tt.name+"/"+command, func(t *testing.T) {
				dir := t.TempDir()
				file := filepath.Join(dir, "wrong.hcl")
				if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
					t.Fatal(err)
				}
				out, status := output(t, dir, binary, command, "--config", file)
				if status != 2 {
					t.Errorf("status %d, want 2", status)
				}
				at := fmt.Sprintf("wrong.hcl:%d,", tt.line)
				if tt.column > 0 {
					at += fmt.Sprintf("%d:", tt.column)
				}
				source := strings.Split(tt.text, "\n")[tt.line-1]
				for _, want := range []string{at, source, tt.says} {
					if !strings.Contains(out, want) {
						t.Errorf("does not say %q", want)
					}
				}
				if t.Failed() {
					t.Log(out)
				}
				if _, err := os.Stat(filepath.Join(dir, "postrider-data")); err == nil {
					t.Error("something was started: there is a data folder")
				}
			})
		}
	}
}

// What is wrong with the words of the command line is exit status 2 as well.
func TestWrongUsage(t *testing.T) {
	for _, args := range [][]string{
		{"serve", "--config", "is-not-there.hcl"},
		{"check", "--config", "is-not-there.hcl"},
		{"serve", "--colour"},
		{"fly"},
		{"send", "--from", "a@b.example"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			out, status := output(t, t.TempDir(), binary, args...)
			if status != 2 || strings.TrimSpace(out) == "" {
				t.Errorf("status %d, want 2 and a word of why:\n%s", status, out)
			}
		})
	}
}

// A right configuration is said to be right, and nothing is started.
func TestRightConfiguration(t *testing.T) {
	s := newServer(t, "mx.example", localDomain)
	s.cli("check")
	if _, err := os.Stat(filepath.Join(s.dir, "data")); err == nil {
		t.Error("check made a data folder")
	}
}

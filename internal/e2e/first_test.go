package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// localDomain is the domain of the built-in configuration, on free addresses.
const localDomain = `
domain "localhost" {
  mailboxes = ["*"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
`

// submitters send the file msg from s@client.example to USER@localhost.
var submitters = []struct {
	program string
	args    func(s *server, user, msg string) []string
}{
	{"python3", func(s *server, user, msg string) []string {
		return []string{"-c", `
import smtplib, sys
host, port, user, msg = sys.argv[1:]
with smtplib.SMTP(host, int(port), timeout=60) as c:
    c.sendmail("s@client.example", [user + "@localhost"], open(msg, "rb").read(), mail_options=["BODY=8BITMIME"])
`, s.ip, strconv.Itoa(s.port), user, msg}
	}},
	{"curl", func(s *server, user, msg string) []string {
		return []string{"-sS", "--max-time", "60", "smtp://" + s.addr(), "--mail-from", "s@client.example",
			"--mail-rcpt", user + "@localhost", "--upload-file", msg}
	}},
	{"swaks", func(s *server, user, msg string) []string {
		return []string{"--server", s.ip, "--port", strconv.Itoa(s.port), "--from", "s@client.example",
			"--to", user + "@localhost", "--data", "@" + msg, "--silent", "2"}
	}},
	{"postrider", func(s *server, user, msg string) []string {
		return []string{"send", "--server", s.addr(), "--from", "s@client.example", "--to", user + "@localhost", msg}
	}},
}

// A message of a real program lies in the Maildir with our trace fields on top
// and every octet as it was.
func TestFirstMessage(t *testing.T) {
	s := newServer(t, "mx.example", localDomain)
	s.start()
	for _, tt := range submitters {
		t.Run(tt.program, func(t *testing.T) {
			program := tt.program
			if program == "postrider" {
				program = binary
			}
			need(t, program)
			sent := message("by-"+tt.program, 20_000)
			msg := filepath.Join(t.TempDir(), "message.eml")
			if err := os.WriteFile(msg, sent, 0o600); err != nil {
				t.Fatal(err)
			}
			if program == "swaks" { // sends one line end of its own behind the file
				sent = append(sent, "\r\n"...)
			}
			user := "user-of-" + tt.program
			if out, status := output(t, s.dir, program, tt.args(s, user, msg)...); status != 0 {
				t.Fatalf("status %d\n%s", status, out)
			}
			var box [][]byte
			eventually(t, says("nothing in the mailbox of %s", user), func() bool {
				box = s.maildir("localhost", user)
				return len(box) > 0
			})
			if len(box) != 1 {
				t.Fatalf("%d messages, want 1", len(box))
			}
			checkTrace(t, box[0], sent)
		})
	}
	s.stop()
}

// checkTrace wants a delivered file to be trace fields, as RFC 5321 4.4 has
// them, and then what was sent.
func checkTrace(t *testing.T, got, sent []byte) {
	t.Helper()
	trace, ok := bytes.CutSuffix(got, sent)
	if !ok {
		at := len(got) - len(sent)
		t.Fatalf("the file does not end with the octets that were sent (%d and %d octets); it begins\n%.600q\nand from there on is\n%.200q",
			len(got), len(sent), got, got[max(at, 0):])
	}
	if !bytes.HasPrefix(trace, []byte("Return-Path: <s@client.example>\r\n")) {
		t.Errorf("trace does not begin with the return path: %q", trace)
	}
	received := bytes.Index(trace, []byte("\r\nReceived: from "))
	if received < 0 || !bytes.Contains(trace[received:], []byte("by mx.example")) {
		t.Errorf("no Received field of ours: %q", trace)
	}
	for _, line := range strings.Split(strings.TrimSuffix(string(trace), "\r\n"), "\r\n") {
		if line == "" || len(line) > 998 || strings.ContainsAny(line, "\r\n") {
			t.Errorf("a bad line in the trace fields: %q", line)
		}
	}
}

// Without any configuration, in a network of its own: no port of this machine
// is asked for, and none can be in the way.
func TestNoConfiguration(t *testing.T) {
	need(t, "unshare", "ip", "sh")
	if out, status := output(t, t.TempDir(), "unshare", "-n", "ip", "link", "set", "lo", "up"); status != 0 {
		miss(t, "no network namespace can be made here: %s", out)
	}
	dir := t.TempDir()
	sent := message("first", 3_000)
	if err := os.WriteFile(filepath.Join(dir, "message.eml"), sent, 0o600); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`
set -eu
ip link set lo up
%[1]q serve >out 2>&1 &
pid=$!
trap 'kill -9 $pid 2>/dev/null || :' EXIT
tries=0
until %[1]q send --server 127.0.0.1:2525 --from s@client.example --to anyone@localhost message.eml >sent 2>&1; do
	kill -0 $pid
	tries=$((tries + 1))
	[ $tries -lt 200 ]
	sleep 0.1
done
if %[1]q send --server 127.0.0.1:2525 --from s@client.example --to someone@far.example message.eml; then exit 9; fi
until grep -q 'told this once' out; do kill -0 $pid; sleep 0.1; done
POSTRIDER_PASSWORD=$(sed -n 's/.*account .*password \([^ ]*\) .*/\1/p' out)
export POSTRIDER_PASSWORD
%[1]q send --server 127.0.0.1:2587 --tls --insecure --user demo@localhost --from demo@localhost --to someone@far.example message.eml
while [ -z "$(ls postrider-data/mail/localhost/anyone/new 2>/dev/null)" ]; do kill -0 $pid; sleep 0.1; done
%[1]q queue ls --json
kill -TERM $pid
wait $pid
trap - EXIT
`, binary)
	out, status := output(t, dir, "unshare", "-n", "sh", "-c", script)
	said, _ := os.ReadFile(filepath.Join(dir, "out"))
	if status != 0 {
		t.Fatalf("status %d\n%s\nserve said:\n%s", status, out, said)
	}
	for _, want := range []string{"127.0.0.1:2525", "127.0.0.1:2587", "demo@localhost", "127.0.0.1:8025", "localhost", "postrider-data"} {
		if !strings.Contains(string(said), want) {
			t.Errorf("serve does not speak of %s:\n%s", want, said)
		}
	}
	if !strings.Contains(out, `"held"`) || !strings.Contains(out, "someone@far.example") {
		t.Errorf("mail for another domain is not held:\n%s", out)
	}
	box := readMaildir(t, filepath.Join(dir, "postrider-data", "mail", "localhost", "anyone"))
	if len(box) != 1 || !bytes.HasSuffix(box[0], sent) {
		t.Errorf("mailbox holds %d messages, want the one that was sent", len(box))
	}
}

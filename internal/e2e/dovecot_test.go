package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// dovecotText is the configuration of a Dovecot with LMTP at PORT and at the
// socket DIR/lmtp, IMAP at IMAP, and SASL for others at DIR/auth.
const dovecotText = `
protocols = lmtp imap
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
instance_name = DIR
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login scram-sha-256
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:~/
lmtp_save_to_detail_mailbox = no
hostname = dovecot.example
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u DIR/users
}
userdb {
  driver = passwd-file
  args = username_format=%u DIR/users
}
service lmtp {
  inet_listener lmtp {
    address = IP
    port = PORT
  }
  unix_listener DIR/lmtp {
    mode = 0666
  }
}
service imap-login {
  chroot =
  inet_listener imap {
    address = IP
    port = IMAP
  }
  inet_listener imaps {
    port = 0
  }
}
service auth {
  unix_listener DIR/auth {
    mode = 0666
  }
}
`

// dovecotPassword is that of every user of a Dovecot here.
const dovecotPassword = "open sesame"

// A dovecot is a daemon with IMAP.
type dovecot struct {
	*daemon
	imap int
}

// startDovecot runs a Dovecot with the mailboxes of users, below dir/mail if dir
// is not empty and else in its own folder.
func startDovecot(t *testing.T, dir string, users ...string) *dovecot {
	t.Helper()
	need(t, "dovecot", "/usr/lib/dovecot/lmtp", "/usr/lib/dovecot/imap")
	d := &dovecot{daemon: newDaemon(t, "Dovecot")}
	d.imap = freePort(t, d.ip)
	d.mkdir("mail", 0o755, "nobody", "nogroup")
	if dir == "" {
		dir = d.dir
	}
	var lines []string
	for _, u := range users {
		local, domain, _ := strings.Cut(u, "@")
		lines = append(lines, fmt.Sprintf("%s:%s:65534:65534::%s", u, dovecotPassword, filepath.Join(dir, "mail", domain, local)))
	}
	d.write("users", strings.Join(lines, "\n")+"\n")
	conf := d.write("dovecot.conf", strings.ReplaceAll(dovecotText, "IMAP", strconv.Itoa(d.imap)))
	d.files = []string{filepath.Join(d.dir, "log")}
	d.start(d.greets, nil, "dovecot", "-F", "-c", conf)
	return d
}

// fetch is what a user of IMAP sees: each message octet for octet, as
// hexadecimal digits, a line each.
const fetch = `
import imaplib, sys
host, port, user, password = sys.argv[1:]
c = imaplib.IMAP4(host, int(port), timeout=60)
c.login(user, password)
c.select("INBOX")
_, ids = c.search(None, "ALL")
for i in ids[0].split():
    _, data = c.fetch(i, "(BODY.PEEK[])")
    print(data[0][1].hex())
c.logout()
`

// read fetches the mailbox of a user by IMAP.
func (d *dovecot) read(user string) [][]byte {
	d.t.Helper()
	need(d.t, "python3")
	out, status := output(d.t, d.dir, "python3", "-c", fetch, d.ip, strconv.Itoa(d.imap), user, dovecotPassword)
	if status != 0 {
		d.t.Fatalf("IMAP as %s: status %d\n%s", user, status, out)
	}
	var all [][]byte
	for _, line := range strings.Fields(out) {
		var b []byte
		if _, err := fmt.Sscanf(line, "%x", &b); err != nil {
			d.t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// Dovecot takes our mail by LMTP, at a port and at a socket; each recipient has
// a reply of its own, and who is unknown there is reported.
func TestDovecotOverLMTP(t *testing.T) {
	for _, kind := range []string{"port", "socket"} {
		t.Run(kind, func(t *testing.T) {
			d := startDovecot(t, "", "alice@b.example", "bob@b.example")
			via := "lmtp://" + d.addr()
			if kind == "socket" {
				via = "lmtp://" + filepath.Join(d.dir, "lmtp")
			}
			a := newServer(t, "a.example", fmt.Sprintf(`
domain "a.example" {
  mailboxes = ["*"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
domain "b.example" {
  mailboxes = ["*"]
  deliver   = %q
}
`, via))
			a.start()
			sent := message("by-lmtp", 50_000)
			mustSubmit(t, a.addr(), mail{"s@a.example", []string{"alice@b.example", "nobody@b.example", "bob@b.example"}, sent})
			checkReport(t, string(a.one("a.example", "s")), "nobody@b.example", "5.1.1", "User doesn't exist")
			a.empty()
			for _, user := range []string{"alice@b.example", "bob@b.example"} {
				box := d.read(user)
				if len(box) != 1 || !bytes.HasSuffix(box[0], sent) {
					t.Errorf("%s has %d messages, want the one that was sent", user, len(box))
				}
			}
			a.stop()
		})
	}
}

// What we put into a Maildir Dovecot shows, octet for octet, dots, bare ends and
// octets over 127 included.
func TestDovecotReadsOurMaildir(t *testing.T) {
	dir := publicDir(t)
	s := newServer(t, "mx.example", strings.ReplaceAll(localDomain, "DIR", dir))
	s.start()
	var want []string
	sent := map[string][]byte{}
	for i := range 10 {
		n := fmt.Sprintf("maildir-%d", i)
		want = append(want, n)
		sent[n] = message(n, i*7_000)
		mustSubmit(t, s.addr(), mail{"s@client.example", []string{"User@localhost"}, sent[n]})
	}
	s.empty()
	s.stop()
	d := startDovecot(t, dir, "user@localhost")
	give(t, filepath.Join(dir, "mail"), 65534)
	box := d.read("user@localhost")
	for _, b := range box {
		n, err := name(b)
		if err != nil {
			t.Error(err)
		}
		if !bytes.HasSuffix(b, sent[n]) {
			t.Errorf("%s is not what was sent", n)
		}
	}
	got := names(t, box)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("Dovecot shows %q, want %q", got, want)
	}
}

// give makes a tree the property of a user, as it would be where we run as the
// user that owns the mail.
func give(t *testing.T, dir string, uid int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(name, uid, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
}

package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// postfixMain is the configuration of a Postfix that asks no DNS, listens at
// one address, and keeps everything in its folder.
const postfixMain = `
compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
daemon_directory = PEER/usr/lib/postfix/sbin
shlib_directory = PEER/usr/lib/postfix
command_directory = PEER/usr/sbin
meta_directory = DIR/conf
import_environment = LD_LIBRARY_PATH=PEER/usr/lib/postfix LANG=C MAIL_CONFIG=DIR/conf POSTLOG_SERVICE POSTLOG_HOSTNAME
mail_owner = postfix
setgid_group = postdrop
maillog_file = DIR/log
maillog_file_prefixes = DIR
inet_interfaces = all
inet_protocols = ipv4
mydestination =
alias_maps =
alias_database =
biff = no
smtp_dns_support_level = disabled
smtputf8_enable = yes
minimal_backoff_time = 2s
maximal_backoff_time = 4s
queue_run_delay = 1s
virtual_mailbox_base = DIR/mail
virtual_mailbox_maps = texthash:DIR/conf/boxes
virtual_mailbox_limit = 0
virtual_minimum_uid = 1
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
`

const postfixMaster = `
IP:PORT inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
lmtp unix - - n - - lmtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// startPostfix runs a Postfix. boxes are its mailboxes, and conf goes to the
// end of main.cf.
func startPostfix(t *testing.T, name string, boxes []string, conf string) *daemon {
	t.Helper()
	master := unpacked(t, "postfix", "usr/lib/postfix/sbin/master")
	d := newDaemon(t, "Postfix")
	for _, q := range []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"} {
		d.mkdir("queue/"+q, 0o700, "postfix", "postfix")
	}
	d.mkdir("queue/maildrop", 0o1730, "postfix", "postdrop")
	d.mkdir("queue/public", 0o2710, "postfix", "postdrop")
	d.mkdir("queue/pid", 0o755, "root", "root")
	d.mkdir("data", 0o700, "postfix", "postfix")
	d.mkdir("mail", 0o755, "nobody", "nogroup")
	var lines, domains []string
	for _, b := range boxes {
		local, domain, _ := strings.Cut(b, "@")
		lines = append(lines, fmt.Sprintf("%s %s/%s/", b, domain, local))
		if !slices.Contains(domains, domain) {
			domains = append(domains, domain)
			d.mkdir("mail/"+domain, 0o755, "nobody", "nogroup")
		}
	}
	d.write("conf/boxes", strings.Join(lines, "\n")+"\n")
	d.write("conf/master.cf", postfixMaster)
	d.write("conf/main.cf", strings.ReplaceAll(postfixMain, "PEER", filepath.Join(peersDir(), "postfix"))+
		"myhostname = "+name+"\nvirtual_mailbox_domains = "+strings.Join(domains, " ")+"\n"+conf+"\n")
	d.files = []string{filepath.Join(d.dir, "log")}
	env := []string{"LD_LIBRARY_PATH=" + filepath.Join(peersDir(), "postfix/usr/lib/postfix"), "MAIL_CONFIG=" + filepath.Join(d.dir, "conf")}
	d.start(d.greets, env, master, "-s", "-c", filepath.Join(d.dir, "conf"))
	return d
}

// relayTo is the configuration of a Postrider that sends everything to one
// host.
func relayTo(d *daemon, settings string) string {
	return fmt.Sprintf(`
domain "a.example" {
  mailboxes = ["*"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
route "*" {
  via = "smtp://%s"
  %s
}
queue {
  retry        = ["1s"]
  delay_notice = "0s"
}
`, d.addr(), settings)
}

// Postfix takes what we relay, octet for octet, and refuses whom it does not
// know; the report quotes its words.
func TestPostfixAsNextHop(t *testing.T) {
	d := startPostfix(t, "mx.b.example", []string{"alice@b.example", "bob@b.example"}, "smtpd_relay_restrictions = reject_unauth_destination")
	nextHop(t, d, "User unknown")
}

// nextHop sends to a peer that has alice and bob at b.example.
func nextHop(t *testing.T, d *daemon, words string) {
	a := newServer(t, "a.example", relayTo(d, ""))
	a.start()
	var want []string
	for i, size := range []int{0, 1_000, 300_000} {
		n := fmt.Sprintf("next-hop-%d", i)
		want = append(want, n)
		mustSubmit(t, a.addr(), mail{"s@a.example", []string{"alice@b.example", "bob@b.example"}, message(n, size)})
	}
	for _, user := range []string{"alice", "bob"} {
		got := d.arrived("b.example", user, len(want))
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", user, got, want)
		}
	}
	mustSubmit(t, a.addr(), mail{"s@a.example", []string{"nobody@b.example"}, message("unknown", 100)})
	report := a.one("a.example", "s")
	checkReport(t, string(report), "nobody@b.example", "5.1.1", words)
	a.empty()
	a.stop()
}

// What Postfix sends to us arrives, many recipients in one transaction and
// many messages in one session, and what we refuse it reports.
func TestPostfixAsSender(t *testing.T) {
	b := strict(t)
	d := startPostfix(t, "out.example", []string{"s@out.example"}, "relayhost = ["+b.ip+"]:"+fmt.Sprint(b.port))
	fromPeer(t, d, b)
}

// fromPeer submits to a peer that sends everything to b, but for s@out.example
// whose mailbox it has.
func fromPeer(t *testing.T, d *daemon, b *server) {
	const messages = 20
	for i := range messages {
		_, err := submit(d.addr(), mail{"s@out.example", []string{"one@localhost", "two@localhost"}, message(fmt.Sprintf("from-peer-%02d", i), i*1_000)})
		if err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	for i := range messages {
		want = append(want, fmt.Sprintf("from-peer-%02d", i))
	}
	for _, user := range []string{"one", "two"} {
		var box [][]byte
		eventually(t, func() string { return fmt.Sprintf("%d messages for %s", len(box), user) }, func() bool {
			box = b.maildir("localhost", user)
			return len(box) >= messages
		})
		got := names(t, box)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", user, got, want)
		}
		if !bytes.HasPrefix(box[0], []byte("Return-Path: <s@out.example>\r\n")) {
			t.Errorf("no return path: %.200q", box[0])
		}
	}
	if _, err := submit(d.addr(), mail{"s@out.example", []string{"nobody@closed.example"}, message("refused", 100)}); err != nil {
		t.Fatal(err)
	}
	var box [][]byte
	eventually(t, says("no report of what was refused"), func() bool {
		box = d.maildir("out.example", "s")
		return len(box) > 0
	})
	if !bytes.Contains(box[0], []byte("nobody@closed.example")) || !bytes.Contains(box[0], []byte("5.1.1")) {
		t.Errorf("the report does not tell of 5.1.1 for nobody@closed.example:\n%s", box[0])
	}
	b.stop()
}

package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// postfixMain is the configuration of a Postfix that asks no DNS, listens at one
// address and keeps everything in its folder. Limits of processes, of
// connections and of deliveries to one destination are above its defaults, and
// mail that comes fast is not slowed down: as fast as it can be made without
// making it less durable.
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
myhostname = bench.example
inet_interfaces = all
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
alias_maps =
alias_database =
biff = no
smtp_dns_support_level = disabled
smtpd_tls_security_level = none
smtp_tls_security_level = none
smtputf8_enable = yes
message_size_limit = 104857600
mailbox_size_limit = 0
virtual_mailbox_limit = 0
default_process_limit = 300
in_flow_delay = 0
initial_destination_concurrency = 50
default_destination_concurrency_limit = 50
virtual_destination_concurrency_limit = 50
local_destination_concurrency_limit = 50
smtpd_client_connection_count_limit = 0
virtual_mailbox_base = DIR/mail
virtual_mailbox_maps = texthash:DIR/conf/boxes
virtual_minimum_uid = 1
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
`

// postfixServices are the lines of master.cf: none runs in a jail of its own, and
// no number of processes is held below the limit.
const postfixServices = `
ADDR inet n - n - - smtpd
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
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

func startPostfix(b *bench, m mode) (*instance, error) {
	dir, err := b.folder("postfix")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	peer := filepath.Join(b.peers, "postfix")
	i := &instance{addr: addr, dir: dir, mail: filepath.Join(dir, "mail")}
	if err := postfixFolders(dir); err != nil {
		return nil, err
	}
	main := strings.NewReplacer("DIR", dir, "PEER", peer).Replace(postfixMain)
	boxes := ""
	for k := range m.boxes {
		boxes += fmt.Sprintf("u%d@%s u%d/\n", k, boxDomain, k)
	}
	if m.boxes > 0 {
		main += "virtual_mailbox_domains = " + boxDomain + "\n"
	}
	if m.next != "" {
		host, port, _ := strings.Cut(m.next, ":")
		main += "relayhost = [" + host + "]:" + port + "\n"
	}
	for name, text := range map[string]string{"boxes": boxes, "main.cf": main, "master.cf": strings.ReplaceAll(postfixServices, "ADDR", addr)} {
		if err := os.WriteFile(filepath.Join(dir, "conf", name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	env := []string{"LD_LIBRARY_PATH=" + filepath.Join(peer, "usr/lib/postfix"), "MAIL_CONFIG=" + filepath.Join(dir, "conf")}
	if i.group, err = launch("postfix", dir, env, filepath.Join(peer, "usr/lib/postfix/sbin/master"), "-s", "-c", filepath.Join(dir, "conf")); err != nil {
		return nil, err
	}
	if err := b.greets(i.group, addr); err != nil {
		i.stop()
		return nil, err
	}
	return i, nil
}

// postfixFolders makes what Postfix wants to find.
func postfixFolders(dir string) error {
	u, g, err := ids("postfix", "postdrop")
	if err != nil {
		return err
	}
	for _, q := range []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"} {
		if err := own(filepath.Join(dir, "queue", q), 0o700, u.uid, u.gid); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name     string
		perm     os.FileMode
		uid, gid int
	}{
		{"queue/maildrop", 0o730 | os.ModeSticky, u.uid, g}, {"queue/public", 0o710 | os.ModeSetgid, u.uid, g}, {"queue/pid", 0o755, 0, 0},
		{"data", 0o700, u.uid, u.gid}, {"mail", 0o755, nobody, nobody}, {"conf", 0o755, 0, 0},
	} {
		if err := own(filepath.Join(dir, f.name), f.perm, f.uid, f.gid); err != nil {
			return err
		}
	}
	return nil
}

// nobody is the number of the user and the group of nobody.
const nobody = 65534

type account struct{ uid, gid int }

// ids looks up a user with its group, and another group.
func ids(name, group string) (a account, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return a, 0, fmt.Errorf("%w: \"bash .ci/run packages\" makes it", err)
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return a, 0, fmt.Errorf("%w: \"bash .ci/run packages\" makes it", err)
	}
	a.uid, _ = strconv.Atoi(u.Uid)
	a.gid, _ = strconv.Atoi(u.Gid)
	gid, err = strconv.Atoi(g.Gid)
	return a, gid, err
}

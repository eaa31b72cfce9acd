package e2e

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// An eximConf is what differs between one Exim and the next; every part may be
// empty.
type eximConf struct {
	boxes []string // mailboxes
	main  string   // of the main section
	acl   string   // statements for recipients that are not at a domain of boxes
	smart string   // IP::PORT of the host that takes all the rest
	auth  string   // of the section of authenticators
	size  string   // the largest message; "" is 50M

	strict bool // to the smart host only under TLS and after AUTH
}

// eximText is the configuration of an Exim that asks no DNS, listens at one
// address, and keeps everything in its folder.
const eximText = `
primary_hostname = NAME
local_interfaces = IP
daemon_smtp_ports = PORT
exim_path = PROGRAM
spool_directory = DIR/spool
log_file_path = DIR/log/%slog
pid_file_path = DIR/log/pid
disable_ipv6 = true
host_lookup =
IDENT_query_timeout = 0s
keep_environment =
deliver_drop_privilege = true
smtp_accept_max = 100
message_size_limit = SIZE
accept_8bitmime = true
domainlist local_domains = DOMAINS
acl_smtp_rcpt = check_rcpt
MAIN

begin acl
check_rcpt:
  accept domains = +local_domains
         verify  = recipient
  deny   domains = +local_domains
         message = 550 5.1.1 User unknown in these mailboxes
ACL
  deny   message = 550 5.7.1 Relaying denied

begin routers
boxes:
  driver = accept
  domains = +local_domains
  condition = ${lookup{$local_part@$domain}lsearch{DIR/boxes}{yes}{no}}
  transport = boxes
SMART

begin transports
boxes:
  driver = appendfile
  directory = DIR/mail/${lookup{$local_part@$domain}lsearch{DIR/boxes}}
  maildir_format
  create_directory
  create_file = belowhome
  home_directory = DIR/mail
  delivery_date_add
  envelope_to_add
  return_path_add
  user = Debian-exim
  group = Debian-exim
smart:
  driver = smtp
  allow_localhost
  hosts_try_fastopen =
STRICT

begin retry
* * F,4d,1s

begin authenticators
AUTH
`

// startExim runs an Exim.
func startExim(t *testing.T, name string, conf eximConf) *daemon {
	t.Helper()
	program := unpacked(t, "exim", "usr/sbin/exim4")
	d := newDaemon(t, "Exim")
	for _, dir := range []string{"spool", "log", "mail"} {
		d.mkdir(dir, 0o755, "Debian-exim", "Debian-exim")
	}
	domains := map[string]bool{}
	var list []string
	boxes := ""
	for _, b := range conf.boxes {
		local, domain, _ := strings.Cut(b, "@")
		boxes += fmt.Sprintf("%s: %s/%s\n", b, domain, local)
		if !domains[domain] {
			domains[domain] = true
			list = append(list, domain)
		}
	}
	d.write("boxes", boxes)
	smart := ""
	if conf.smart != "" {
		smart = fmt.Sprintf("smart:\n  driver = manualroute\n  domains = ! +local_domains\n  route_list = * %q byname\n  self = send\n  transport = smart\n", conf.smart)
	}
	strict := ""
	if conf.strict {
		strict = "  hosts_require_tls = *\n  hosts_require_auth = *"
	}
	text := strings.NewReplacer("STRICT", strict, "IDENT", "rfc"+"1413", "PROGRAM", program, "NAME", name, "DOMAINS", strings.Join(list, " : "),
		"SIZE", cmp.Or(conf.size, "50M"), "MAIN", conf.main, "ACL", conf.acl, "SMART", smart, "AUTH", conf.auth).Replace(eximText)
	file := d.write("exim.conf", text)
	d.files = []string{filepath.Join(d.dir, "log", "mainlog"), filepath.Join(d.dir, "log", "paniclog")}
	d.start(d.greets, nil, program, "-bdf", "-q1s", "-C", file)
	return d
}

// Exim takes what we relay, octet for octet, and refuses whom it does not
// know; the report quotes its words.
func TestEximAsNextHop(t *testing.T) {
	d := startExim(t, "mx.b.example", eximConf{boxes: []string{"alice@b.example", "bob@b.example"}})
	nextHop(t, d, "User unknown in these mailboxes")
}

// What Exim sends to us arrives, and what we refuse it reports.
func TestEximAsSender(t *testing.T) {
	b := strict(t)
	d := startExim(t, "out.example", eximConf{
		boxes: []string{"s@out.example"}, smart: fmt.Sprintf("%s::%d", b.ip, b.port), acl: "  accept hosts = 127.0.0.0/8",
	})
	fromPeer(t, d, b)
}

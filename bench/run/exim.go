package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// eximText is the configuration of an Exim that asks no DNS, listens at one
// address and keeps everything in its folder. It delivers at once, however many
// messages came on a connection, and its spool is spread over folders.
const eximText = `
primary_hostname = bench.example
local_interfaces = IP
daemon_smtp_ports = PORT
exim_path = PROGRAM
spool_directory = DIR/spool
log_file_path = DIR/log/%slog
pid_file_path = DIR/log/pid
disable_ipv6 = true
host_lookup =
IDENT_query_timeout = 0s
tls_advertise_hosts =
keep_environment =
message_size_limit = 100M
smtp_accept_max = 2500
smtp_connect_backlog = 1000
smtp_accept_queue_per_connection = 0
split_spool_directory = true
domainlist local_domains =
acl_smtp_rcpt = all
acl_smtp_data = all
acl_smtp_predata = all

begin acl
all:
  accept

begin routers
ROUTER

begin transports
next:
  driver = smtp
  allow_localhost
  hosts_avoid_tls = *
  hosts_try_fastopen =
box:
  driver = appendfile
  directory = DIR/mail/$local_part_data
  maildir_format
  create_directory
  create_file = belowhome
  home_directory = DIR/mail
  user = Debian-exim
  group = Debian-exim

begin retry
* * F,2h,15m; G,16h,1h,1.5; F,4d,6h
`

func startExim(b *bench, m mode) (*instance, error) {
	dir, err := b.folder("exim")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	u, _, err := ids("Debian-exim", "Debian-exim")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"spool", "log", "mail"} {
		if err := own(filepath.Join(dir, name), 0o755, u.uid, u.gid); err != nil {
			return nil, err
		}
	}
	router, boxes := "", ""
	if m.next != "" {
		router = fmt.Sprintf("next:\n  driver = manualroute\n  route_list = * %q byname\n  self = send\n  transport = next\n", strings.Replace(m.next, ":", "::", 1))
	}
	if m.boxes > 0 {
		router = fmt.Sprintf("boxes:\n  driver = accept\n  domains = %s\n  local_parts = lsearch;DIR/boxes\n  transport = box\n", boxDomain)
		for k := range m.boxes {
			boxes += fmt.Sprintf("u%d: u%d\n", k, k)
		}
	}
	host, port, _ := strings.Cut(addr, ":")
	program := filepath.Join(b.peers, "exim/usr/sbin/exim4")
	text := strings.NewReplacer("ROUTER", router).Replace(eximText)
	text = strings.NewReplacer("IDENT", "rfc"+"1413", "PROGRAM", program, "DIR", dir, "IP", host, "PORT", port).Replace(text)
	for name, s := range map[string]string{"exim.conf": text, "boxes": boxes} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o644); err != nil {
			return nil, err
		}
	}
	i := &instance{addr: addr, dir: dir, mail: filepath.Join(dir, "mail")}
	if i.group, err = launch("exim", dir, nil, program, "-bdf", "-q30m", "-C", filepath.Join(dir, "exim.conf")); err != nil {
		return nil, err
	}
	if err := b.greets(i.group, addr); err != nil {
		i.stop()
		return nil, err
	}
	return i, nil
}

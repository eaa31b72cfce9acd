package config

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"

	"github.com/postrider/postrider/route"
)

// The shapes of the file and of its blocks. A key is here when something reads
// it; everything else is a mistake of the writer.
var (
	fileShape = shape{
		keys: []string{"hostname", "data_dir", "submit_socket", "user", "postmaster"},
		blocks: map[string]string{
			"tls": "", "listener": "name", "admin": "", "dns": "", "domain": "domain",
			"route": "pattern", "queue": "", "limits": "", "journal": "", "oauth": "",
		},
	}
	tlsShape      = shape{keys: []string{"cert", "key", "self_signed"}, blocks: map[string]string{"acme": ""}}
	listenerShape = shape{keys: []string{"address", "role", "tls", "relay_from", "verify", "refuse", "announce", "client_ca", "no_soliciting", "proxy_from", "xclient_from"}}
	adminShape    = shape{keys: []string{"address"}}
	dnsShape      = shape{keys: []string{"servers"}}
	domainShape   = shape{keys: []string{"mailboxes", "aliases", "allow_programs", "deliver"}}
	routeShape    = shape{keys: []string{"via", "port", "private", "downgrade", "tls", "auth", "username", "password_file", "cert", "key", "connections", "messages_per_connection", "rate"}}
	queueShape    = shape{keys: []string{"retry", "expire", "expire_bounce", "delay_notice", "max_recipients"}}
	limitsShape   = shape{keys: []string{"message_size", "recipients", "connections", "exempt", "memory", "min_free", "future_release", "future_messages"}}
	oauthShape    = shape{keys: []string{"issuer", "audience", "keys", "claim", "scope", "configuration"}}
	journalShape  = shape{keys: []string{"keep", "max_size"}}
)

// Load reads a configuration: HCL, or JSON when the name ends in ".json". The
// Config is nil when there are errors; there may be warnings with it. The
// function env("NAME") asks env; nil: nothing is set.
//
// The files that the configuration names are looked at through files. Nil: they
// are not, and no Password is set; so a command does that only wants to know
// where the server is, and may not be allowed to read what the server reads.
func Load(name string, src []byte, env Lookup, files route.Files) (*Config, Diagnostics) {
	r := &reader{file: name, src: string(src), eval: env.context(), files: files}
	var file *hcl.File
	var found hcl.Diagnostics
	if strings.HasSuffix(name, ".json") {
		file, found = json.Parse(src, name)
	} else {
		file, found = hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	}
	r.adopt(found)
	if found.HasErrors() {
		return nil, r.sorted()
	}
	c := r.read(file.Body)
	r.cross(c)
	r.aliases(c)
	if ds := r.sorted(); ds.HasErrors() {
		return nil, ds
	}
	return c, r.diags
}

func (r *reader) sorted() Diagnostics {
	slices.SortStableFunc(r.diags, func(a, b Diagnostic) int {
		return cmp.Or(r.order(a)-r.order(b), strings.Compare(a.File, b.File), a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Message, b.Message))
	})
	return r.diags
}

// order is 0 for what is wrong in the file itself, and 1 for the files that it
// names.
func (r *reader) order(d Diagnostic) int {
	if d.File == r.file {
		return 0
	}
	return 1
}

func (r *reader) read(root hcl.Body) *Config {
	c := defaults()
	b := r.open(root, "", hcl.Range{}, fileShape)
	if t, ok := b.text("hostname"); ok && r.hostname(t) {
		c.Hostname = t.s
	}
	if t, ok := b.text("data_dir"); ok {
		c.DataDir, c.DataDirPos = t.s, r.pos(t.rng)
		if t.s == "" {
			r.errorf(t.rng, `Write a folder, such as "/var/lib/postrider".`, "data_dir is empty")
		}
	}
	if t, ok := b.text("submit_socket"); ok {
		c.SubmitSocket, c.SubmitSocketPos = t.s, r.pos(t.rng)
		if t.s == "" {
			r.errorf(t.rng, `Write the name of a socket, such as "/run/postrider/submit.sock".`, "submit_socket is empty")
		}
	}
	if t, ok := b.text("user"); ok {
		r.errorf(t.rng, "Leave it out, and start the server as that user: with systemd, User= and AmbientCapabilities=CAP_NET_BIND_SERVICE.",
			"user = %q is not to be had: this version does not change its user", t.s)
	}
	if t, ok := b.text("postmaster"); ok {
		c.Postmaster = r.mailbox("postmaster", t)
	}
	if block, ok := b.only("tls"); ok {
		c.TLS = r.tls(block, c.Hostname)
	}
	for _, block := range b.labelled("listener") {
		c.Listeners = append(c.Listeners, r.listener(block))
	}
	for _, block := range b.labelled("domain") {
		c.Domains = append(c.Domains, r.domain(block))
	}
	for _, block := range b.labelled("route") {
		c.Routes = append(c.Routes, r.route(block))
	}
	if block, ok := b.only("oauth"); ok {
		c.OAuth = r.oauth(block)
	}
	if block, ok := b.only("admin"); ok {
		in := r.open(block.Body, "admin", block.DefRange, adminShape)
		c.Admin.Address, c.Admin.Pos = in.address("127.0.0.1:8025")
	}
	if block, ok := b.only("dns"); ok {
		r.dns(block, &c.DNS)
	}
	if block, ok := b.only("queue"); ok {
		r.queue(block, &c.Queue)
	}
	if block, ok := b.only("limits"); ok {
		in := r.open(block.Body, "limits", block.DefRange, limitsShape)
		in.limits(&c.Limits)
	}
	if block, ok := b.only("journal"); ok {
		in := r.open(block.Body, "journal", block.DefRange, journalShape)
		in.duration("keep", &c.Journal.Keep)
		in.size("max_size", 1<<20, &c.Journal.MaxSize)
		if attr, ok := in.attrs["keep"]; ok && c.Journal.Keep == 0 {
			r.errorf(attr.Expr.Range(), `Write a time such as "90d".`, "keep is no time at all")
		}
	}
	return c
}

// The least that RFC 5321 asks of everybody. 4.5.3.1.7: "The maximum total
// length of a message content [...] MUST BE at least 64K octets." 4.5.3.1.8:
// "The minimum total number of recipients that MUST be buffered is 100".
const (
	sizeFloor  = 64 << 10
	rcptsFloor = 100
)

// memoryFloor is the least with which a server does anything but collect garbage.
const memoryFloor = 32 << 20

// futureMax is the longest interval that FUTURERELEASE can announce.
const futureMax = 999_999_999 * time.Second

func (b body) limits(to *Limits) {
	b.size("message_size", 1, &to.MessageSize)
	b.count("recipients", 1, 1_000_000, &to.Recipients)
	b.count("connections", 10, 1_000_000, &to.Connections)
	b.networks("exempt", &to.Exempt)
	b.size("memory", memoryFloor, &to.Memory)
	b.size("min_free", 1, &to.MinFree)
	b.duration("future_release", &to.FutureRelease)
	b.count("future_messages", 1, math.MaxInt32, &to.FutureMessages)
	if attr, ok := b.attrs["future_release"]; ok && to.FutureRelease > futureMax {
		b.errorf(attr.Expr.Range(), `Write at most "11574d".`, "future_release is longer than nine digits of seconds, which is what can be announced (RFC 4865 3)")
	}
	if attr, ok := b.attrs["message_size"]; ok && to.MessageSize < sizeFloor {
		b.warnf(attr.Expr.Range(), "Write at least "+FormatSize(sizeFloor)+" on a server that others write to.",
			"message_size is below what RFC 5321 4.5.3.1.7 asks for")
	}
	if attr, ok := b.attrs["recipients"]; ok && to.Recipients < rcptsFloor {
		b.warnf(attr.Expr.Range(), fmt.Sprintf("Write at least %d on a server that others write to.", rcptsFloor),
			"recipients is below what RFC 5321 4.5.3.1.8 asks for")
	}
}

func (r *reader) dns(block *hcl.Block, to *DNS) {
	in := r.open(block.Body, "dns", block.DefRange, dnsShape)
	list, ok := in.list("servers")
	if !ok {
		return
	}
	for _, t := range list {
		if addr, err := netip.ParseAddr(t.s); err == nil {
			to.Servers = append(to.Servers, netip.AddrPortFrom(addr, 53))
		} else if ap, err := netip.ParseAddrPort(t.s); err == nil && ap.Port() != 0 {
			to.Servers = append(to.Servers, ap)
		} else {
			r.errorf(t.rng, `Write the IP address of a name server, with a port if it is not 53, such as "127.0.0.1:53".`,
				"servers: %q is no address", t.s)
		}
	}
}

func (r *reader) queue(block *hcl.Block, to *Queue) {
	in := r.open(block.Body, "queue", block.DefRange, queueShape)
	if list, ok := in.list("retry"); ok {
		if len(list) == 0 {
			r.errorf(in.attrs["retry"].Expr.Range(), `Write at least one wait, such as ["1m", "1h"].`, "retry is empty")
		}
		to.Retry = nil
		for _, t := range list {
			d, ok := r.toDuration("retry", t)
			if ok && d == 0 {
				r.errorf(t.rng, "Write at least 1s.", "a retry after no time would never end")
			}
			to.Retry = append(to.Retry, d)
		}
	}
	in.duration("expire", &to.Expire)
	in.duration("expire_bounce", &to.ExpireBounce)
	in.duration("delay_notice", &to.DelayNotice)
	in.count("max_recipients", 1, math.MaxInt32, &to.MaxRecipients)
	if attr, ok := in.attrs["expire"]; ok && to.Expire == 0 {
		r.errorf(attr.Expr.Range(), "RFC 5321 4.5.4.1 asks for 4 to 5 days.", "expire is no time at all")
	}
	if attr, ok := in.attrs["delay_notice"]; ok && to.DelayNotice >= to.Expire && to.Expire > 0 {
		r.warnf(attr.Expr.Range(), "Write a shorter time, or \"0s\" for no notices.", "delay_notice is not before expire: no notice is ever sent")
	}
}

func plainName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	})
}

func sprintRange(low, high int64) string {
	return fmt.Sprintf("Write a whole number from %d to %d.", low, high)
}

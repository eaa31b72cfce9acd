package config

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
)

// The shapes of the file and of its blocks. A key is here when something reads
// it; everything else is a mistake of the writer.
var (
	fileShape = shape{
		keys: []string{"hostname", "data_dir", "postmaster"},
		blocks: map[string]string{
			"listener": "name", "admin": "", "dns": "", "domain": "domain",
			"route": "pattern", "queue": "", "limits": "",
		},
	}
	listenerShape = shape{keys: []string{"address", "role", "tls", "relay_from"}}
	adminShape    = shape{keys: []string{"address"}}
	dnsShape      = shape{keys: []string{"servers"}}
	domainShape   = shape{keys: []string{"mailboxes", "deliver"}}
	routeShape    = shape{keys: []string{"via", "port", "private", "tls"}}
	queueShape    = shape{keys: []string{"retry", "expire", "expire_bounce", "delay_notice", "max_recipients"}}
	limitsShape   = shape{keys: []string{"message_size", "recipients", "exempt"}}
)

// Load reads a configuration: HCL, or JSON when the name ends in ".json". The
// Config is nil when there are errors; there may be warnings with it. The
// function env("NAME") asks env; nil: nothing is set.
func Load(name string, src []byte, env Lookup) (*Config, Diagnostics) {
	r := &reader{file: name, src: string(src), eval: env.context()}
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
	if ds := r.sorted(); ds.HasErrors() {
		return nil, ds
	}
	return c, r.diags
}

func (r *reader) sorted() Diagnostics {
	slices.SortStableFunc(r.diags, func(a, b Diagnostic) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Message, b.Message))
	})
	return r.diags
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
	if t, ok := b.text("postmaster"); ok {
		c.Postmaster = r.mailbox("postmaster", t)
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
	return c
}

// The least that RFC 5321 asks of everybody. 4.5.3.1.7: "The maximum total
// length of a message content [...] MUST BE at least 64K octets." 4.5.3.1.8:
// "The minimum total number of recipients that MUST be buffered is 100".
const (
	sizeFloor  = 64 << 10
	rcptsFloor = 100
)

func (b body) limits(to *Limits) {
	b.size("message_size", 1, &to.MessageSize)
	b.count("recipients", 1, 1_000_000, &to.Recipients)
	b.networks("exempt", &to.Exempt)
	if attr, ok := b.attrs["message_size"]; ok && to.MessageSize < sizeFloor {
		b.warnf(attr.Expr.Range(), "Write at least "+FormatSize(sizeFloor)+" on a server that others write to.",
			"message_size is below what RFC 5321 4.5.3.1.7 asks for")
	}
	if attr, ok := b.attrs["recipients"]; ok && to.Recipients < rcptsFloor {
		b.warnf(attr.Expr.Range(), fmt.Sprintf("Write at least %d on a server that others write to.", rcptsFloor),
			"recipients is below what RFC 5321 4.5.3.1.8 asks for")
	}
}

func (r *reader) listener(block *hcl.Block) Listener {
	l := Listener{Name: block.Labels[0]}
	in := r.open(block.Body, fmt.Sprintf("listener %q", l.Name), block.DefRange, listenerShape)
	if !plainName(l.Name) {
		r.errorf(labelRange(block), "Use letters, digits, \"-\" and \"_\".", "%q is no name for a listener", l.Name)
	}
	l.Address, l.Pos = in.address(":25")
	if t, ok := in.text("role"); ok && t.s != "mx" {
		r.errorf(t.rng, `This version knows the role "mx" alone.`, "unknown role %q", t.s)
	}
	if t, ok := in.text("tls"); ok && t.s != "none" {
		r.errorf(t.rng, `This version has no TLS yet: write tls = "none", or leave it out.`, "tls = %q is not to be had", t.s)
	}
	in.networks("relay_from", &l.RelayFrom)
	return l
}

// address reads the key "address" of a listener, which must be there.
func (b body) address(such string) (string, Pos) {
	if _, given := b.attrs["address"]; !given {
		b.errorf(b.rng, fmt.Sprintf("Add the key: address = %q.", such), "%s has no address", b.what)
		return "", Pos{}
	}
	t, ok := b.text("address")
	if !ok {
		return "", Pos{}
	}
	help := fmt.Sprintf(`Write IP:PORT or :PORT, such as %q.`, such)
	host, port, err := net.SplitHostPort(t.s)
	if err != nil {
		b.errorf(t.rng, help, "%q is no address to listen on", t.s)
		return "", Pos{}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		b.errorf(t.rng, help, "%q is no port number", port)
		return "", Pos{}
	}
	if _, err := netip.ParseAddr(host); host != "" && host != "localhost" && err != nil {
		b.errorf(t.rng, help, "%q is no IP address of this machine", host)
		return "", Pos{}
	}
	return t.s, b.pos(t.rng)
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

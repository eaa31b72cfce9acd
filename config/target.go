package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// viaHelp lists every way that mail can go.
const viaHelp = `Write one of "mx", "smtp://HOST:PORT", "smtps://HOST:PORT", "lmtp://HOST:PORT", "lmtp:///SOCKET", "maildir:PATH", "hold", "discard", "error:550 5.1.2 TEXT".`

// Where SMTP is spoken (RFC 5321 4.5.4.2, RFC 8314 7.3).
const (
	smtpPort  = 25
	smtpsPort = 465
)

// socketMax is the shortest limit of the systems that we know to the name of a
// Unix socket, in octets.
const socketMax = 103

func (r *reader) domain(block *hcl.Block) Domain {
	label := text{block.Labels[0], labelRange(block)}
	d := Domain{
		Name:    domainName(label.s),
		Deliver: postrider.Route{Via: postrider.ViaMaildir, Dir: defaultMaildir},
		Pos:     r.pos(label.rng),
	}
	in := r.open(block.Body, fmt.Sprintf("domain %q", label.s), block.DefRange, domainShape)
	if !smtp.IsDomain(d.Name) && !smtp.IsLiteral(d.Name) {
		r.errorf(label.rng, `Write a domain such as "example.org".`, "%q is no domain", label.s)
	}
	list, _ := in.list("mailboxes")
	for _, t := range list {
		if t.s != "*" {
			if _, err := smtp.ParsePath(smtp.QuoteLocal(t.s) + "@x"); t.s == "" || err != nil {
				r.errorf(t.rng, "Write the part before the @ alone, or \"*\" for any.", "mailboxes: %q is no local part", t.s)
			} else if at := strings.LastIndexByte(t.s, '@'); at >= 0 {
				r.errorf(t.rng, "Write the part before the @ alone: \""+t.s[:at]+"\".", "mailboxes: %q is a whole address", t.s)
			}
		}
		d.Mailboxes = append(d.Mailboxes, t.s)
	}
	in.aliases(&d)
	if t, ok := in.text("deliver"); ok {
		d.Deliver = r.target("deliver", t)
	}
	return d
}

func (r *reader) route(block *hcl.Block) Route {
	label := text{block.Labels[0], labelRange(block)}
	to := Route{Pattern: domainName(label.s), Pos: r.pos(label.rng)}
	in := r.open(block.Body, fmt.Sprintf("route %q", label.s), block.DefRange, routeShape)
	if to.Pattern != "*" {
		if under := strings.TrimPrefix(to.Pattern, "."); !smtp.IsDomain(under) && !smtp.IsLiteral(to.Pattern) {
			r.errorf(label.rng, `Write a domain, ".domain" for what is under it, or "*" for all.`, "%q is no pattern", label.s)
		}
	}
	via, ok := in.text("via")
	if !ok {
		if _, wrong := in.attrs["via"]; !wrong {
			r.errorf(block.DefRange, viaHelp, "route %q has no via", label.s)
		}
		return to
	}
	to.To = r.target("via", via)
	to.To.Port = in.port(to.To)
	if private, rng := in.flag("private"); private {
		if v := to.To.Via; v != "" && v != postrider.ViaMX && v != postrider.ViaSMTP && v != postrider.ViaLMTP {
			r.errorf(rng, "Take it away.", "private says nothing with via = %q", via.s)
		}
		to.To.Private = true
	}
	in.downgrade(&to.To, via)
	in.atMost(&to.To, via)
	in.policy(&to.To, via)
	in.login(&to.To, via)
	return to
}

// port reads the key "port", which belongs to via = "mx".
func (b body) port(to postrider.Route) uint16 {
	attr, given := b.attrs["port"]
	if !given {
		return to.Port
	}
	n := 0
	b.count("port", 1, 65535, &n)
	if to.Host != "" {
		b.errorf(attr.NameRange, `Write it in via: "`+scheme(to)+"://"+net.JoinHostPort(to.Host, "PORT")+`".`, "port is for via = \"mx\" alone")
	} else if to.Via != "" && to.Via != postrider.ViaMX {
		b.errorf(attr.NameRange, "Take it away.", "port says nothing with this via")
	}
	return uint16(n)
}

// downgrade reads what becomes of mail for hosts that lack 8BITMIME or BINARYMIME
// (RFC 6152 3, RFC 3030 3).
func (b body) downgrade(to *postrider.Route, via text) {
	t, ok := b.text("downgrade")
	if !ok || to.Via == "" {
		return
	}
	word := b.word("downgrade", t, "encode", "bounce")
	if v := to.Via; v != postrider.ViaMX && v != postrider.ViaSMTP && v != postrider.ViaLMTP {
		b.errorf(t.rng, "Take it away.", "downgrade says nothing with via = %q", via.s)
	}
	to.AsIs = word == "bounce"
}

// target reads a value of via or deliver. The zero Route is a mistake.
func (r *reader) target(key string, t text) postrider.Route {
	kind, rest, colon := strings.Cut(t.s, ":")
	switch {
	case t.s == "mx":
		return postrider.Route{Via: postrider.ViaMX, Port: smtpPort}
	case t.s == "hold":
		return postrider.Route{Via: postrider.ViaHold}
	case t.s == "discard":
		r.warnf(t.rng, `Write "hold" to keep it instead.`, "%s = \"discard\" throws mail away, and tells nobody", key)
		return postrider.Route{Via: postrider.ViaDiscard}
	case kind == "smtp" && strings.HasPrefix(rest, "//"):
		return r.host(key, t, postrider.Route{Via: postrider.ViaSMTP, Host: rest[2:], Port: smtpPort})
	case kind == "smtps" && strings.HasPrefix(rest, "//"):
		return r.host(key, t, postrider.Route{Via: postrider.ViaSMTP, Host: rest[2:], Port: smtpsPort, Implicit: true, TLS: postrider.TLSRequire})
	case kind == "lmtp" && strings.HasPrefix(rest, "///"):
		return r.socket(key, t, rest[2:])
	case kind == "lmtp" && strings.HasPrefix(rest, "//"):
		return r.lmtp(key, t, rest[2:])
	case kind == "maildir" && colon:
		return r.maildir(key, t, rest)
	case kind == "error" && colon:
		return r.refusal(key, t, rest)
	}
	help := viaHelp
	if n := nearest(kind, []string{"mx", "smtp", "smtps", "lmtp", "maildir", "hold", "discard", "error"}); n != "" && n != kind {
		help = `Did you mean "` + n + `"? ` + viaHelp
	} else if !colon && smtp.IsDomain(t.s) && strings.Contains(t.s, ".") {
		help = `Did you mean "smtp://` + t.s + `"? ` + viaHelp
	}
	r.errorf(t.rng, help, "%s: %q is no way that mail can go", key, t.s)
	return postrider.Route{}
}

// scheme is how a Route to a host begins.
func scheme(to postrider.Route) string {
	switch {
	case to.Via == postrider.ViaLMTP:
		return "lmtp"
	case to.Implicit:
		return "smtps"
	}
	return "smtp"
}

// host reads Host of to, which is what follows "smtp://". The operator names the
// host, so it may lie in private space.
func (r *reader) host(key string, t text, to postrider.Route) postrider.Route {
	where := to.Host
	to.Private = true
	if host, port, err := net.SplitHostPort(where); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			r.errorf(t.rng, "Write a number from 1 to 65535 after the colon.", "%s: %q is no port number", key, port)
			return postrider.Route{}
		}
		to.Host, to.Port = host, uint16(n)
	} else if strings.HasPrefix(where, "[") && strings.HasSuffix(where, "]") {
		to.Host = where[1 : len(where)-1]
	}
	if _, err := netip.ParseAddr(to.Host); err == nil {
		return to
	}
	to.Host = domainName(to.Host)
	if !smtp.IsDomain(to.Host) {
		r.errorf(t.rng, fmt.Sprintf(`Write %[1]s://HOST:PORT, such as "%[1]s://gw.example.net:2525".`, scheme(to)), "%s: %q is no host", key, where)
		return postrider.Route{}
	}
	return to
}

// lmtp reads what follows "lmtp://". RFC 2033 5: "As LMTP is a different protocol
// than SMTP, it MUST NOT be used on the TCP service port 25."
func (r *reader) lmtp(key string, t text, where string) postrider.Route {
	to := r.host(key, t, postrider.Route{Via: postrider.ViaLMTP, Host: where})
	switch {
	case to.Host == "":
		return to
	case to.Port == 0:
		r.errorf(t.rng, `Write it after the host, such as "lmtp://127.0.0.1:24".`, "%s: LMTP has no port of its own", key)
	case to.Port == smtpPort:
		r.errorf(t.rng, "Ask its operator for the port of LMTP, or write smtp://.", "%s: port 25 is for SMTP and never for LMTP (RFC 2033 5)", key)
	default:
		return to
	}
	return postrider.Route{}
}

// socket reads the path in "lmtp:///path".
func (r *reader) socket(key string, t text, path string) postrider.Route {
	switch {
	case strings.Trim(path, "/") == "":
		r.errorf(t.rng, `Write the file of the socket, such as "lmtp:///run/dovecot/lmtp".`, "%s: no socket", key)
	case len(path) > socketMax:
		r.errorf(t.rng, "Let it listen on a shorter path.", "%s: the name of the socket has %d octets, and the system takes %d", key, len(path), socketMax)
	default:
		return postrider.Route{Via: postrider.ViaLMTP, Socket: path}
	}
	return postrider.Route{}
}

var placeholder = regexp.MustCompile(`\{[^}]*\}?`)

// maildir reads what follows "maildir:". A relative path is below data_dir.
func (r *reader) maildir(key string, t text, path string) postrider.Route {
	if path == "" {
		r.errorf(t.rng, `Write a folder, such as "maildir:/var/mail/{domain}/{user}".`, "%s: no folder", key)
		return postrider.Route{}
	}
	for _, p := range placeholder.FindAllString(path, -1) {
		if p != "{user}" && p != "{domain}" {
			r.errorf(t.rng, "What is filled in is {user} and {domain}.", "%s: unknown %s in a path", key, p)
			return postrider.Route{}
		}
	}
	return postrider.Route{Via: postrider.ViaMaildir, Dir: path}
}

// refusal reads what follows "error:", a reply of RFC 5321 4.2 with or without
// its status code of RFC 3463 2.
func (r *reader) refusal(key string, t text, reply string) postrider.Route {
	const help = `Write a reply such as "error:550 5.1.2 We do not write to this domain".`
	code, words, _ := strings.Cut(reply, " ")
	n, err := strconv.Atoi(code)
	if err != nil || len(code) != 3 || n < 400 || n > 559 || n%100 > 59 {
		r.errorf(t.rng, help, "%s: %q is no reply code of 4xx or 5xx", key, code)
		return postrider.Route{}
	}
	class := uint8(n / 100)
	to := postrider.Route{Via: postrider.ViaError, Reply: smtp.Reply{Code: n, Status: smtp.Status{Class: class}, Text: words}}
	if first, after, _ := strings.Cut(words, " "); strings.Count(first, ".") == 2 {
		var s smtp.Status
		if k, err := fmt.Sscanf(first, "%d.%d.%d", &s.Class, &s.Subject, &s.Detail); err == nil && k == 3 && s.String() == first {
			to.Reply.Status, to.Reply.Text = s, after
		}
	}
	switch {
	case to.Reply.Status.Class != class:
		r.errorf(t.rng, "Let both begin with the same digit.", "%s: code %d and status %s say different things", key, n, to.Reply.Status)
	case to.Reply.Normal().Status != to.Reply.Status: // RFC 3463 2: subject and detail are 1*3DIGIT
		r.errorf(t.rng, "Write numbers of at most three digits.", "%s: %s is no status, and would be sent as %s", key, to.Reply.Status, to.Reply.Normal().Status)
	case strings.TrimSpace(to.Reply.Text) == "":
		r.errorf(t.rng, help, "%s: the reply has no words", key)
	}
	return to
}

// domainName is how domains are compared: lower case, without the dot of the
// root.
func domainName(s string) string { return strings.ToLower(strings.TrimSuffix(s, ".")) }

// hostname reports whether t is a host name that EHLO may say: RFC 6531 3.7.1 wants
// "only ASCII [...] domains" there.
func (r *reader) hostname(t text) bool {
	switch {
	case smtp.IsDomain(t.s) && (smtp.Path{Domain: t.s}).IsASCII():
		return true
	case smtp.IsDomain(t.s):
		r.errorf(t.rng, `Write it in A-labels, such as "mx1.xn--bcher-kva.example".`, "hostname: %q is not ASCII", t.s)
		return false
	}
	r.errorf(t.rng, `Write the full name of this machine, such as "mx1.example.org".`, "hostname: %q is no host name", t.s)
	return false
}

func (r *reader) mailbox(key string, t text) smtp.Path {
	p, err := smtp.ParsePath(t.s)
	switch {
	case err != nil:
		r.errorf(t.rng, `Write an address such as "alice@example.org".`, "%s: %q: %v", key, t.s, err)
	case p.Domain == "":
		r.errorf(t.rng, `Write an address such as "alice@example.org".`, "%s: %q has no domain", key, t.s)
	}
	return p
}

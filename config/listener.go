package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/hashicorp/hcl/v2"

	"github.com/postrider/postrider/smtp"
)

func (r *reader) listener(block *hcl.Block) Listener {
	l := Listener{Name: block.Labels[0], Role: RoleMX}
	in := r.open(block.Body, fmt.Sprintf("listener %q", l.Name), block.DefRange, listenerShape)
	if !plainName(l.Name) {
		r.errorf(labelRange(block), "Use letters, digits, \"-\" and \"_\".", "%q is no name for a listener", l.Name)
	}
	l.Address, l.Pos = in.address(":25")
	if t, ok := in.text("role"); ok {
		l.Role = Role(r.word("role", t, string(RoleMX), string(RoleSubmission), string(RoleLMTP)))
	}
	in.listenerTLS(&l)
	in.clientCA(&l)
	relays := in.networks("relay_from", &l.RelayFrom)
	if attr, ok := in.attrs["relay_from"]; ok && l.Role != RoleMX && l.Role != "" {
		help := "Take it away, or use a listener of role mx."
		if l.Role == RoleSubmission {
			help = "Take it away: who sends here has an account. Or use a listener of role mx."
		}
		r.errorf(attr.NameRange, help, "relay_from says nothing with role = %q", l.Role)
	}
	in.networks("refuse", &l.Refuse)
	in.verify(&l)
	l.Announce, _ = in.flag("announce")
	in.solicit(&l)
	proxies := in.networks("proxy_from", &l.ProxyFrom)
	speaks := in.networks("xclient_from", &l.XClientFrom)
	in.everybody(&l, relays, speaks, proxies)
	in.unnamed(l.ProxyFrom, l.RelayFrom, relays, "relay_from lets it relay")
	in.unnamed(l.ProxyFrom, l.XClientFrom, speaks, "xclient_from lets it say whom it speaks for")
	if _, port, _ := net.SplitHostPort(l.Address); l.Role == RoleLMTP && port == strconv.Itoa(smtpPort) {
		r.say(l.Pos, `Write another port, such as "127.0.0.1:24".`, "port 25 is for SMTP and never for LMTP (RFC 2033 5)")
	}
	return l
}

// everybody warns of lists that let in all there are. Where only this machine can
// come, and nobody speaks for others, that may be meant.
func (b body) everybody(l *Listener, relays, speaks, proxies []hcl.Range) {
	warn := func(all []netip.Prefix, places []hcl.Range, help, format string) {
		for i, p := range all {
			if p.Bits() == 0 {
				b.warnf(places[i], help, format, p)
			}
		}
	}
	strangers := !loopbackOnly(l.Address)
	if strangers {
		warn(l.ProxyFrom, proxies, "Write the addresses of the proxies.",
			"proxy_from = \"%s\" lets anyone say from which address he comes")
	}
	if strangers = strangers || len(l.ProxyFrom) > 0; strangers {
		warn(l.XClientFrom, speaks, "Write the addresses of those who speak for others.",
			"xclient_from = \"%s\" lets anyone say from which address he comes, and who has logged in")
	}
	if strangers = strangers || len(l.XClientFrom) > 0; strangers && l.Role == RoleMX {
		warn(l.RelayFrom, relays, "Write the networks of those who may, or let users log in.",
			"relay_from = \"%s\" makes this an open relay: anyone may send to any domain")
	}
}

// unnamed warns of proxies that may do what a list grants. The header of a proxy that
// speaks for itself (LOCAL), or cannot tell for whom (UNKNOWN), leaves the connection its
// own address, and what comes then is a stranger's as easily as its own.
func (b body) unnamed(proxies, granted []netip.Prefix, places []hcl.Range, grant string) {
	for i, g := range granted {
		for _, p := range proxies {
			if g.Overlaps(p) {
				b.warnf(places[i], "Leave the proxy out of the network, unless it names every client that it lets in.",
					"a client that the proxy at %s does not name counts as the proxy, and %s", p, grant)
				break
			}
		}
	}
}

// verify reads the key "verify".
func (b body) verify(l *Listener) {
	l.Verify = VerifyAuthenticated
	t, ok := b.text("verify")
	if !ok {
		return
	}
	l.Verify = Verify(b.word("verify", t, string(VerifyAuthenticated), string(VerifyRelay), string(VerifyAnyone), string(VerifyNobody)))
	switch {
	case l.Verify == VerifyRelay && l.Role == RoleMX && len(l.RelayFrom) == 0:
		b.warnf(t.rng, `Add relay_from = ["192.0.2.0/24"], or write verify = "authenticated".`, "verify = \"relay_from\" without relay_from is for who has authenticated")
	case l.Verify == VerifyRelay && l.Role != RoleMX:
		b.errorf(t.rng, `Write "authenticated", "anyone" or "nobody".`, "verify = \"relay_from\" says nothing with role = %q", l.Role)
	case l.Verify == VerifyAuthenticated && l.Role == RoleLMTP:
		b.warnf(t.rng, `Write "anyone" or "nobody".`, "nobody authenticates over LMTP: VRFY and EXPN are answered to nobody")
	case l.Verify == VerifyAnyone && l.Role != RoleLMTP && !loopbackOnly(l.Address):
		b.warnf(t.rng, `Write "authenticated", unless that is meant.`, "verify = \"anyone\" tells strangers who has a mailbox and who is on a list (RFC 5321 7.3)")
	}
}

// solicitRoom is how many characters the keywords of a listener may have, so that
// they stand in one line of the answer to EHLO (RFC 5321 4.5.3.1.5).
const solicitRoom = 480

// solicit reads the key "no_soliciting".
func (b body) solicit(l *Listener) {
	list, _ := b.list("no_soliciting")
	room := solicitRoom
	for _, t := range list {
		if words, ok := smtp.ParseSolicit(t.s); !ok || len(words) != 1 {
			b.errorf(t.rng, `Write a solicitation class keyword, such as "org.example:ADV".`, "no_soliciting: %q is no keyword (RFC 3865 2.2)", t.s)
			continue
		}
		if room -= len(t.s) + 1; room < 0 {
			b.errorf(t.rng, "Take some away.", "no_soliciting has more than %d characters, which is all that EHLO can answer", solicitRoom)
			return
		}
		l.NoSoliciting = append(l.NoSoliciting, t.s)
	}
}

// listenerTLS reads the key "tls". A user's password goes over TLS alone, so
// submission cannot do without. RFC 8314 3.3: port 465 is where TLS is spoken from
// the first octet.
func (b body) listenerTLS(l *Listener) {
	l.TLS = TLSStart
	if l.Role == RoleLMTP {
		l.TLS = TLSNone
	}
	t, given := b.text("tls")
	if given {
		l.TLS = TLSMode(b.word("tls", t, string(TLSStart), string(TLSImplicit), string(TLSNone)))
	}
	if l.TLS == TLSNone && l.Role == RoleSubmission {
		b.errorf(t.rng, `Write tls = "starttls" or "implicit".`, "submission needs TLS: without it AUTH is not offered, and nobody could send")
	}
	switch _, port, _ := net.SplitHostPort(l.Address); {
	case port == "465" && l.TLS == TLSStart:
		b.warn(l.Pos, `Write tls = "implicit".`, "on port 465 mail programs speak TLS from the first octet (RFC 8314 3.3)")
	case (port == "25" || port == "587") && l.TLS == TLSImplicit:
		b.warn(l.Pos, `Write tls = "starttls", or port 465.`, "on port %s mail programs speak no TLS before STARTTLS", port)
	}
}

// word reads one of known, or "" for a mistake.
func (r *reader) word(key string, t text, known ...string) string {
	for _, k := range known {
		if t.s == k {
			return k
		}
	}
	r.errorf(t.rng, didYouMean(t.s, known), "%s cannot be %q", key, t.s)
	return ""
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

// loopbackOnly reports whether an address is reached from this machine alone.
func loopbackOnly(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	return loopbackHost(host)
}

// loopbackHost reports whether a host is this machine, and nobody in between.
func loopbackHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

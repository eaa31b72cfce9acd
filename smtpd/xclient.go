package smtpd

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// xclientNames are the attributes of XCLIENT, as Postfix has them.
var xclientNames = []string{"NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"}

// What stands for a value that the proxy does not have: for ever, and for now.
const (
	unavailable = "[UNAVAILABLE]"
	tempUnavail = "[TEMPUNAVAIL]"
)

// A told is what XCLIENT has said of the client.
type told struct {
	via    netip.AddrPort // who speaks for the client
	client Client
	hello  string // in place of what the client says; empty: nothing
	proto  string // SMTP or ESMTP, in place of the verb; empty: nothing
}

// via is who speaks: the client, or one who speaks for it by XCLIENT.
func (c *conn) via() netip.AddrPort {
	if c.told != nil {
		return c.told.via
	}
	return c.client.Peer
}

// maySpeak reports whether the one who has connected may say by XCLIENT for whom it
// speaks.
func (c *conn) maySpeak() bool {
	return c.server.XClient != nil && c.server.XClient(c.via().Addr())
}

// xclient answers XCLIENT, a command that Postfix has made for its filters and
// proxies and that others have taken over: what it says of the client takes the
// place of what we know, and the session begins again behind the greeting.
func (c *conn) xclient(ctx context.Context, arg string) smtp.Reply {
	switch {
	case c.server.XClient == nil:
		return *no(502, 5, 1, "Command not implemented")
	case !c.maySpeak():
		return *no(550, 7, 1, "You may not speak for others")
	}
	// As in Postfix, what is not said again stays, but for LOGIN, HELO and PROTO: those
	// are of the client before, and a login is a right to send.
	t := told{via: c.via(), client: c.client}
	t.client.Login = ""
	if bad := t.parse(arg); bad != nil {
		return *bad
	}
	c.closeSession()
	c.told = &t
	c.client.Name, c.client.Login = t.client.Name, t.client.Login
	c.state.secured()
	c.state.phase = refused // until it is greeted
	if !c.become(t.client.Peer, t.client.Local) {
		return unsaid
	}
	if !c.greet(ctx) {
		c.closing = true
	}
	return unsaid
}

// parse takes the attributes over.
func (t *told) parse(arg string) *smtp.Reply {
	for word := range strings.FieldsSeq(arg) {
		name, value, ok := strings.Cut(word, "=")
		name = strings.ToUpper(name)
		if !ok || !slices.Contains(xclientNames, name) {
			return no(501, 5, 4, "Say XCLIENT and attributes such as ADDR=192.0.2.1")
		}
		value, ok = smtp.DecodeXtext(value)
		if !ok || !t.set(name, value) {
			return no(501, 5, 4, "The value of "+name+" is wrong")
		}
	}
	return nil
}

// set takes one attribute over.
func (t *told) set(name, value string) (ok bool) {
	missing := strings.EqualFold(value, unavailable) || strings.EqualFold(value, tempUnavail)
	if missing {
		value = ""
	}
	peer, local := &t.client.Peer, &t.client.Local
	switch name {
	case "NAME":
		t.client.Name = value
		return value == "" || smtp.IsDomain(value)
	case "ADDR":
		*peer, ok = xclientAddr(value)
	case "PORT":
		*peer, ok = xclientPort(*peer, value)
	case "DESTADDR":
		*local, ok = xclientAddr(value)
	case "DESTPORT":
		*local, ok = xclientPort(*local, value)
	case "PROTO":
		t.proto = strings.ToUpper(value)
		return missing || t.proto == "SMTP" || t.proto == "ESMTP"
	case "HELO":
		t.hello = helloName(value)
		return missing || t.hello != ""
	case "LOGIN":
		t.client.Login = value
		return isGraphic(value)
	}
	return ok
}

// xclientAddr reads ADDR: an IPv4 address, or one of IPv6 behind "IPV6:". Empty: there
// is none.
func xclientAddr(s string) (netip.AddrPort, bool) {
	if s == "" {
		return netip.AddrPort{}, true
	}
	const tag = "IPV6:"
	v6 := len(s) > len(tag) && strings.EqualFold(s[:len(tag)], tag)
	if v6 {
		s = s[len(tag):]
	}
	a, err := netip.ParseAddr(s)
	return netip.AddrPortFrom(a.Unmap(), 0), err == nil && a.Is6() == v6 && a.Zone() == ""
}

func xclientPort(of netip.AddrPort, s string) (netip.AddrPort, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return netip.AddrPortFrom(of.Addr(), uint16(n)), err == nil || s == ""
}

// isGraphic reports whether a login is one that can be written down.
func isGraphic(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return len(s) <= smtp.PathMax
}

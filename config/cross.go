package config

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/postrider/postrider/route"
)

// cross checks what no block can know alone.
func (r *reader) cross(c *Config) {
	r.listeners(c)
	domains := map[string]Pos{}
	for _, d := range c.Domains {
		key, err := route.DomainKey(d.Name)
		if err != nil {
			key = d.Name // told already
		}
		if first, twice := domains[key]; twice {
			r.say(d.Pos, fmt.Sprintf("The first is in line %d: write everything there.", first.Line), "a second domain %q", d.Name)
			continue
		}
		domains[key] = d.Pos
	}
	table := c.Table()
	for _, fault := range table.Check() {
		help := ""
		if fault.Domain {
			help = fmt.Sprintf("Take the route away, and say it with deliver in line %d: a domain wins over a route.", c.Domains[fault.By].Pos.Line)
		} else {
			help = fmt.Sprintf("The first match wins: move it above line %d, or take it away.", c.Routes[fault.By].Pos.Line)
		}
		r.say(c.Routes[fault.Rule].Pos, help, "%s", fault.Reason)
	}
}

// say notes an error at a Pos.
func (r *reader) say(p Pos, help, format string, args ...any) {
	r.diags = append(r.diags, p.Error(fmt.Sprintf(format, args...), help))
}

// listeners checks names and addresses against each other.
func (r *reader) listeners(c *Config) {
	if len(c.Listeners) == 0 && len(r.diags) == 0 {
		r.say(Pos{File: r.file}, `Add listener "mx" { address = ":25" }.`, "there is no listener: no mail could come in")
	}
	type seen struct {
		what string
		pos  Pos
		addr string
	}
	var all []seen
	names := map[string]bool{}
	for _, l := range c.Listeners {
		if names[l.Name] {
			r.say(l.Pos, "Give it another name.", "a second listener %q", l.Name)
		}
		names[l.Name] = true
		if l.Role == RoleSubmission && c.TLS == (TLS{SelfSigned: true}) && !loopbackOnly(l.Address) && l.Address != "" {
			r.warn(l.Pos, `Add tls { cert = "..." key = "..." }, or tls { self_signed = true } where that is meant.`,
				"listener %q shows a self-signed certificate, which mail programs do not trust", l.Name)
		}
		all = append(all, seen{fmt.Sprintf("listener %q", l.Name), l.Pos, l.Address})
	}
	all = append(all, seen{"admin", c.Admin.Pos, c.Admin.Address})
	for i, b := range all {
		for _, a := range all[:i] {
			if clash(a.addr, b.addr) {
				late, early := b, a
				if late.pos.Line < early.pos.Line {
					late, early = early, late
				}
				r.say(late.pos, "Give it another port, or another address.", "%s and %s (line %d) both want %s",
					late.what, early.what, early.pos.Line, late.addr)
			}
		}
	}
}

// clash reports whether two addresses cannot both be listened on.
func clash(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || strings.Trim(portA, "0") == "" {
		return false
	}
	return hostA == hostB || wildcard(hostA, hostB) || wildcard(hostB, hostA)
}

// wildcard reports whether host any stands for every address, that of host
// among them.
func wildcard(any, host string) bool {
	switch any {
	case "", "::":
		return true
	case "0.0.0.0":
		addr, err := netip.ParseAddr(host)
		return err != nil || addr.Unmap().Is4()
	}
	return false
}

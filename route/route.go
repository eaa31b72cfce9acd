// Package route says who a recipient is and where its mail goes. A Router is a
// pure function of its Table: it asks neither network nor disk.
package route

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// smtpPort is where hosts take mail unless a route says otherwise.
const smtpPort = 25

// postmaster is the local part that exists in every domain.
const postmaster = "postmaster"

// Router implements postrider.Router. It does not change after New, and may be
// used by many goroutines at once.
type Router struct {
	home       *domain // nil without domains
	postmaster smtp.Path
	domains    map[string]*domain // by domainKey; our address literals lead home
	exact      map[string]int     // domainKey to the first rule for that domain alone
	wild       []int              // rules for more than one domain, in their order
	patterns   []pattern
	rules      []Rule
}

// A domain is a Domain of ours as it is looked up.
type domain struct {
	name    string // domainKey
	any     bool   // every local part is a mailbox
	users   map[string]bool
	deliver postrider.Route
}

// New makes a Router. An error says which domain or rule of t is wrong.
func New(t Table) (*Router, error) {
	r := &Router{postmaster: t.Postmaster, domains: map[string]*domain{}, exact: map[string]int{}, rules: t.Rules}
	for _, d := range t.Domains {
		if err := r.addDomain(d); err != nil {
			return nil, fmt.Errorf("route: domain %q: %w", d.Name, err)
		}
	}
	if key, err := domainKey(t.Hostname); err == nil && r.domains[key] != nil {
		r.home = r.domains[key]
	}
	for _, a := range t.Addrs {
		if key := literalKey(a); r.home != nil && r.domains[key] == nil {
			r.domains[key] = r.home
		}
	}
	for i, rule := range t.Rules {
		p, err := parsePattern(rule.Pattern)
		if err == nil {
			err = checkTarget(rule.To)
		}
		if err != nil {
			return nil, fmt.Errorf("route: route %q: %w", rule.Pattern, err)
		}
		r.patterns = append(r.patterns, p)
		if _, taken := r.exact[p.name]; p.kind == exact && !taken {
			r.exact[p.name] = i
		} else if p.kind != exact {
			r.wild = append(r.wild, i)
		}
	}
	if faults := t.Check(); len(faults) > 0 {
		return nil, fmt.Errorf("route: %s", faults[0].Reason)
	}
	return r, nil
}

// addDomain takes one domain of ours. The first is home until another is.
func (r *Router) addDomain(d Domain) error {
	key, err := domainKey(d.Name)
	if err != nil {
		return err
	}
	if r.domains[key] != nil {
		return fmt.Errorf("it is there twice")
	}
	if err := checkTarget(d.Deliver); err != nil {
		return err
	}
	own := &domain{name: key, users: map[string]bool{}, deliver: d.Deliver}
	for _, m := range d.Mailboxes {
		if m == "*" {
			own.any = true
			continue
		}
		own.users[fold(m)] = true
	}
	r.domains[key] = own
	if r.home == nil {
		r.home = own
	}
	return nil
}

// checkTarget reports what a Route of a Table lacks.
func checkTarget(to postrider.Route) error {
	switch to.Via {
	case postrider.ViaMX, postrider.ViaHold, postrider.ViaDiscard:
		return nil
	case postrider.ViaSMTP:
		if to.Host == "" {
			return fmt.Errorf("via %q has no host", to.Via)
		}
		return nil
	case postrider.ViaMaildir:
		if to.Dir == "" {
			return fmt.Errorf("via %q has no folder", to.Via)
		}
		return nil
	case postrider.ViaError:
		if to.Reply.Code/100 != 4 && to.Reply.Code/100 != 5 {
			return fmt.Errorf("via %q has no reply of 4yz or 5yz", to.Via)
		}
		return nil
	}
	return fmt.Errorf("there is no via %q", to.Via)
}

// Resolve implements postrider.Router. It returns no error.
//
// RFC 5321 4.5.1: "any system that includes an SMTP server supporting mail
// relaying or delivery MUST support the reserved mailbox "postmaster" as a
// case-insensitive local name", in every domain and as "<postmaster>" alone. One
// without a mailbox becomes Table.Postmaster, else a mailbox of its own.
func (r *Router) Resolve(_ context.Context, to smtp.Path, _ postrider.Source) (postrider.Resolution, error) {
	d := r.domainOf(to)
	local := to.LocalUnquoted()
	isPostmaster := strings.EqualFold(local, postmaster)
	switch {
	case d == nil && to.Domain == "" && isPostmaster && !r.postmaster.IsNull():
		return postrider.Resolution{Kind: postrider.KindMailbox, To: []smtp.Path{r.postmaster}}, nil
	case d == nil && to.Domain == "":
		return postrider.Resolution{Kind: postrider.KindUnknown, To: []smtp.Path{to}}, nil
	case d == nil:
		return postrider.Resolution{Kind: postrider.KindRemote, To: []smtp.Path{to}}, nil
	}
	if to.Domain == "" {
		to.Domain = d.name
	}
	_, found := d.mailbox(local)
	switch {
	case found:
		return postrider.Resolution{Kind: postrider.KindMailbox, To: []smtp.Path{to}}, nil
	case isPostmaster && !r.postmaster.IsNull():
		return postrider.Resolution{Kind: postrider.KindMailbox, To: []smtp.Path{r.postmaster}}, nil
	case isPostmaster:
		return postrider.Resolution{Kind: postrider.KindMailbox, To: []smtp.Path{to}}, nil
	}
	return postrider.Resolution{Kind: postrider.KindUnknown, To: []smtp.Path{to}}, nil
}

// Route implements postrider.Router.
func (r *Router) Route(to smtp.Path) postrider.Route {
	if d := r.domainOf(to); d != nil {
		name, _ := d.mailbox(to.LocalUnquoted())
		return finish(d.deliver, d.name, name)
	}
	key, err := domainKey(to.Domain)
	if err != nil {
		key = strings.ToLower(to.Domain) // no domain; the transport will say so
	}
	target := postrider.Route{Via: postrider.ViaMX}
	if i := r.match(key); i >= 0 {
		target = r.rules[i].To
	}
	return finish(target, key, fold(to.LocalUnquoted()))
}

// domainOf returns the domain of ours that to lies in, or nil.
func (r *Router) domainOf(to smtp.Path) *domain {
	if to.Domain == "" {
		return r.home
	}
	key, err := domainKey(to.Domain)
	if err != nil {
		return nil
	}
	return r.domains[key]
}

// match returns the first rule that takes a domain, or -1.
func (r *Router) match(key string) int {
	first, found := r.exact[key]
	for _, i := range r.wild {
		if found && i > first {
			break
		}
		if r.patterns[i].matches(key) {
			return i
		}
	}
	if !found {
		return -1
	}
	return first
}

// mailbox returns the name of the mailbox that a local part is, and whether
// there is one. "user+tag" is "user" unless there is a "user+tag".
func (d *domain) mailbox(local string) (name string, found bool) {
	name = fold(local)
	if d.users[name] || d.any {
		return name, true
	}
	if base, _, tagged := strings.Cut(name, "+"); tagged && d.users[base] {
		return base, true
	}
	return name, false
}

// fold returns a local part as those of our domains are compared: without case.
func fold(local string) string {
	if utf8.ValidString(local) {
		return strings.ToLower(local)
	}
	b := []byte(local)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// finish fills in what a Route of the Table leaves open for one recipient.
func finish(to postrider.Route, domain, user string) postrider.Route {
	switch to.Via {
	case postrider.ViaMX, postrider.ViaSMTP:
		if to.Port == 0 {
			to.Port = smtpPort
		}
	}
	switch to.Via {
	case postrider.ViaSMTP:
		to.Dest = postrider.Dest("smtp:" + net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	case postrider.ViaMaildir:
		to.Dest = postrider.Dest("local:" + domain)
		to.Dir = strings.NewReplacer("{user}", fileName(user), "{domain}", fileName(domain)).Replace(to.Dir)
	case postrider.ViaHold:
		to.Dest = postrider.DestHold
	case postrider.ViaError, postrider.ViaDiscard:
		to.Dest = postrider.Dest(to.Via)
	default:
		to.Dest = postrider.Dest("mx:" + domain)
	}
	return to
}

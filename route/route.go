// Package route says who a recipient is and where its mail goes. Where it goes is
// a pure function of the Table. Who it is depends on alias files too, which are
// read again when they have changed.
//
// What an address of ours is, in this order: an alias of that name; a mailbox or
// an account of that name; for "user+tag" the alias, mailbox or account "user";
// the postmaster; the alias "*"; any name, where the mailboxes are "*".
package route

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Where hosts take mail unless a route says otherwise: RFC 5321 4.5.4.2 and
// RFC 8314 7.3.
const (
	smtpPort  = 25
	smtpsPort = 465
)

// postmaster is the local part that exists in every domain.
const postmaster = "postmaster"

// Router implements postrider.Router. After New its aliases alone change. It may
// be used by many goroutines at once.
type Router struct {
	home       *domain // nil without domains
	postmaster *aliasEntry
	domains    map[string]*domain // by DomainKey; our address literals lead home
	exact      map[string]int     // DomainKey to the first rule for that domain alone
	wild       []int              // rules for more than one domain, in their order
	patterns   []pattern
	rules      []Rule
	hosts      map[postrider.Dest]postrider.Limits // of destinations that are one host

	files    Files
	account  func(smtp.Path) bool
	now      func() time.Time
	alarm    func(error)
	names    []string                 // of the alias files
	aliases  atomic.Pointer[aliasSet] // nil: there are none, or Files is nil
	checked  atomic.Int64             // when the files were looked at, Unix nanoseconds
	checking atomic.Bool
	warnings AliasFaults
}

// A domain is a Domain of ours as it is looked up.
type domain struct {
	name    string // DomainKey
	any     bool   // every local part is a mailbox
	users   map[string]bool
	aliases string // the file; empty: none
	deliver postrider.Route
}

// New makes a Router, and reads the alias files. An error says which domain or
// rule of t is wrong; it is an AliasFaults where that is an alias file.
func New(t Table) (*Router, error) {
	r := &Router{domains: map[string]*domain{}, exact: map[string]int{}, rules: slices.Clone(t.Rules),
		files: t.Files, account: t.Account, now: t.Now, alarm: t.Alarm}
	if r.now == nil {
		r.now = time.Now
	}
	if r.alarm == nil {
		r.alarm = func(error) {}
	}
	if !t.Postmaster.IsNull() {
		r.postmaster = &aliasEntry{name: postmaster, targets: []target{{path: t.Postmaster}}}
	}
	for _, d := range t.Domains {
		if err := r.addDomain(d); err != nil {
			return nil, fmt.Errorf("route: domain %q: %w", d.Name, err)
		}
	}
	if key, err := DomainKey(t.Hostname); err == nil && r.domains[key] != nil {
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
		r.rules[i].To = settled(rule.To)
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
	r.shareLimits()
	return r, r.openAliases()
}

// addDomain takes one domain of ours. The first is home until another is.
func (r *Router) addDomain(d Domain) error {
	key, err := DomainKey(d.Name)
	if err != nil {
		return err
	}
	if r.domains[key] != nil {
		return fmt.Errorf("it is there twice")
	}
	if err := checkTarget(d.Deliver); err != nil {
		return err
	}
	own := &domain{name: key, users: map[string]bool{}, aliases: d.Aliases, deliver: settled(d.Deliver)}
	if d.Aliases != "" && !slices.Contains(r.names, d.Aliases) {
		r.names = append(r.names, d.Aliases)
	}
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
	case postrider.ViaLMTP:
		if to.Socket == "" && (to.Host == "" || to.Port == 0) {
			return fmt.Errorf("via %q has neither host and port nor socket", to.Via)
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

// Route implements postrider.Router. Aliases play no part in it: what they stand
// for was found out when the mail was accepted. A name without a mailbox, which
// an alias may have led to, is refused where we deliver into folders ourselves,
// and its sender told; other transports know their names better.
func (r *Router) Route(to smtp.Path) postrider.Route {
	key, err := "", error(nil)
	d := r.home
	if to.Domain != "" {
		if key, err = DomainKey(to.Domain); err != nil {
			key = strings.ToLower(to.Domain) // no domain; the transport will say so
		}
		d = r.domains[key]
	}
	if d != nil && err == nil {
		name, found := r.mailbox(d, fold(to.LocalUnquoted()))
		if !found && d.deliver.Via == postrider.ViaMaildir {
			return finish(postrider.Route{Via: postrider.ViaError, Reply: noMailbox}, d.name, name)
		}
		return finish(d.deliver, d.name, name)
	}
	target := postrider.Route{Via: postrider.ViaMX}
	if i := r.match(key); i >= 0 {
		target = r.rules[i].To
	}
	if target.Dest != "" {
		return target
	}
	return finish(target, key, fold(to.LocalUnquoted()))
}

// domainOf returns the domain of ours that to lies in, or nil.
func (r *Router) domainOf(to smtp.Path) *domain {
	if to.Domain == "" {
		return r.home
	}
	key, err := DomainKey(to.Domain)
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

// settled is a Route of the Table with what finish fills in, if that is the same for
// every recipient; else its Dest is empty.
func settled(to postrider.Route) postrider.Route {
	if to.Dest = ""; to.Via == postrider.ViaMX || to.Via == postrider.ViaMaildir {
		return to
	}
	return finish(to, "", "")
}

// finish fills in what a Route of the Table leaves open for one recipient.
func finish(to postrider.Route, domain, user string) postrider.Route {
	if to.Dest != "" {
		return to
	}
	switch to.Via {
	case postrider.ViaMX, postrider.ViaSMTP:
		if to.Port == 0 && to.Implicit {
			to.Port = smtpsPort
		} else if to.Port == 0 {
			to.Port = smtpPort
		}
	}
	switch to.Via {
	case postrider.ViaSMTP:
		scheme := "smtp:"
		if to.Implicit {
			scheme = "smtps:"
		}
		to.Dest = postrider.Dest(scheme + net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
	case postrider.ViaLMTP:
		to.Dest = postrider.Dest("lmtp:" + to.Socket)
		if to.Socket == "" {
			to.Dest = postrider.Dest("lmtp:" + net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))))
		}
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

package route

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// noMailbox is what becomes of mail for a name that nobody has.
var noMailbox = smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "No such mailbox here"}

// errNotRead is why an address of a domain with an alias file cannot be resolved.
var errNotRead = errors.New("the alias file was not read")

// Resolve implements postrider.Router. An alias of which no target exists is
// KindUnknown; where some do, those that do not are among the recipients all the
// same, so that the sender is told of them.
//
// RFC 5321 4.5.1: "any system that includes an SMTP server supporting mail
// relaying or delivery MUST support the reserved mailbox "postmaster" as a
// case-insensitive local name", in every domain and as "<postmaster>" alone. One
// without alias and mailbox becomes Table.Postmaster, else a mailbox of its own.
func (r *Router) Resolve(_ context.Context, to smtp.Path, _ postrider.Source) (postrider.Resolution, error) {
	r.look()
	d := r.domainOf(to)
	self := []smtp.Path{to}
	switch {
	case d == nil && to.Domain == "" && r.postmaster != nil && fold(to.LocalUnquoted()) == postmaster:
		return postrider.Resolution{Kind: postrider.KindMailbox, To: []smtp.Path{r.postmaster.targets[0].path}}, nil
	case d == nil && to.Domain == "":
		return postrider.Resolution{Kind: postrider.KindUnknown, To: self}, nil
	case d == nil:
		return postrider.Resolution{Kind: postrider.KindRemote, To: self}, nil
	case d.aliases != "" && r.files == nil:
		return postrider.Resolution{}, fmt.Errorf("route: domain %q: %w", d.name, errNotRead)
	}
	if to.Domain == "" {
		to.Domain = d.name
		self = []smtp.Path{to}
	}
	set := r.aliases.Load()
	f := r.find(set, d, fold(to.LocalUnquoted()))
	switch {
	case !f.exists:
		return postrider.Resolution{Kind: postrider.KindUnknown, To: self}, nil
	case f.alias == nil:
		return postrider.Resolution{Kind: postrider.KindMailbox, To: self}, nil
	case f.alias.way == moved:
		return postrider.Resolution{Kind: postrider.KindUnknown, To: self, Reply: d.notLocal(f.alias)}, nil
	}
	e := expansion{r: r, set: set, done: map[node]bool{}, seen: map[smtp.Path]bool{}}
	if err := e.follow(d, f); err != nil {
		return postrider.Resolution{}, fmt.Errorf("route: %s: %w", to, err)
	}
	switch isPostmaster := f.alias == r.postmaster; {
	case e.known == 0 && isPostmaster:
		return postrider.Resolution{Kind: postrider.KindMailbox, To: self}, nil
	case e.known == 0:
		return postrider.Resolution{Kind: postrider.KindUnknown, To: self}, nil
	case isPostmaster && len(e.to) == 1:
		return postrider.Resolution{Kind: postrider.KindMailbox, To: e.to}, nil
	}
	return postrider.Resolution{Kind: postrider.KindAlias, To: e.to, Reply: d.notLocal(f.alias)}, nil
}

// notLocal is what a client is told of an alias with another address, and the zero
// Reply of all others.
//
// RFC 5321 3.4: servers "MAY forward messages when they are aware of an address
// change. When they do so, they MAY either provide address-updating information
// with a 251 code, or may forward "silently" and return a 250 code." An alias says
// which: information goes out only where somebody wrote that it may.
func (d *domain) notLocal(a *aliasEntry) smtp.Reply {
	if a.way == silent {
		return smtp.Reply{}
	}
	to := a.targets[0].path
	if to.Domain == "" {
		to.Domain = d.name
	}
	if a.way == moved {
		return smtp.Reply{Code: 551, Status: smtp.Status{Class: 5, Subject: 1, Detail: 6}, Text: "User not local; please try <" + to.String() + ">"}
	}
	return smtp.Reply{Code: 251, Status: smtp.Status{Class: 2, Subject: 1, Detail: 5}, Text: "User not local; will forward to <" + to.String() + ">"}
}

// finding is what a local part of a domain of ours is.
type finding struct {
	exists   bool
	alias    *aliasEntry // nil: a mailbox
	catchAll bool        // the alias "*"
	vague    bool        // every name would be found
	base     bool        // the alias of "user", for "user+tag"
}

// find says what a folded local part is, in the order that the package comment
// gives.
func (r *Router) find(set *aliasSet, d *domain, name string) finding {
	entries := set.of(d)
	if a := entries[name]; a != nil {
		return finding{exists: true, alias: a}
	}
	if r.has(d, name) {
		return finding{exists: true}
	}
	if base, tagged := untag(name); tagged {
		if a := entries[base]; a != nil {
			return finding{exists: true, alias: a, base: true}
		}
		if r.has(d, base) {
			return finding{exists: true}
		}
	}
	switch a := entries[catchAll]; {
	case name == postmaster:
		if r.postmaster == nil || d.any || r.isPostmaster(d) {
			return finding{exists: true}
		}
		return finding{exists: true, alias: r.postmaster}
	case a != nil:
		return finding{exists: true, alias: a, catchAll: true, vague: true}
	}
	return finding{exists: d.any, vague: true}
}

// isPostmaster reports whether Table.Postmaster is the postmaster of d itself.
func (r *Router) isPostmaster(d *domain) bool {
	p := r.postmaster.targets[0].path
	return r.domainOf(p) == d && fold(p.LocalUnquoted()) == postmaster
}

// mailbox returns the name of the mailbox that a folded local part is, and
// whether there is one. "user+tag" is "user" unless there is a "user+tag", also
// where every name is a mailbox.
func (r *Router) mailbox(d *domain, name string) (box string, found bool) {
	if r.has(d, name) || name == postmaster {
		return name, true
	}
	if base, tagged := untag(name); tagged && (r.has(d, base) || d.any) {
		return base, true
	}
	return name, d.any
}

// Box returns the mailbox that an address of ours is: "user" for "user+tag".
func (r *Router) Box(to smtp.Path) smtp.Path {
	d := r.domainOf(to)
	if d == nil {
		return to
	}
	if name := fold(to.LocalUnquoted()); strings.Contains(name, "+") {
		if box, found := r.mailbox(d, name); found {
			to.Local = smtp.QuoteLocal(box)
		}
	}
	return to
}

// has reports whether a folded local part is named as a mailbox or an account.
func (r *Router) has(d *domain, name string) bool {
	return d.users[name] || r.account != nil && r.account(smtp.Path{Local: smtp.QuoteLocal(name), Domain: d.name})
}

// untag returns what stands before the first "+" of a local part, if it is
// something.
func untag(name string) (base string, tagged bool) {
	base, _, tagged = strings.Cut(name, "+")
	return base, tagged && base != ""
}

// A node is a name of a domain of ours, as a step on the way through aliases.
type node struct {
	d    *domain
	name string // as in aliasEntry
}

// String returns the address.
func (n node) String() string { return smtp.QuoteLocal(n.name) + "@" + n.d.name }

// An expansion gathers what an address stands for.
type expansion struct {
	r     *Router
	set   *aliasSet
	path  []node        // aliases under way, each from one before it
	done  map[node]bool // aliases whose targets are in, or will be
	seen  map[smtp.Path]bool
	to    []smtp.Path
	known int // of to, those that nobody knows not to exist
	steps int
}

// errMany is why an expansion is given up.
var errMany = fmt.Errorf("its aliases lead to more than %d addresses", expansionMax)

// follow adds what the alias of a finding stands for.
func (e *expansion) follow(d *domain, f finding) error {
	n := node{d, f.alias.name}
	if e.done[n] {
		return nil
	}
	if len(e.path) == aliasDepthMax {
		return fmt.Errorf("%d aliases lead to each other", aliasDepthMax)
	}
	e.done[n] = true
	e.path = append(e.path, n)
	defer func() { e.path = e.path[:len(e.path)-1] }()
	for _, t := range f.alias.targets {
		if e.steps++; e.steps > expansionMax {
			return errMany
		}
		if err := e.target(d, t); err != nil {
			return err
		}
	}
	return nil
}

// target adds what one target stands for. A catch-all that comes round to itself
// has met a name that nobody has; every other circle is an error.
func (e *expansion) target(d *domain, t target) error {
	at := e.r.targetDomain(d, t)
	if at == nil {
		e.add(t.path, true)
		return nil
	}
	name := fold(t.path.LocalUnquoted())
	own := smtp.Path{Local: smtp.QuoteLocal(name), Domain: at.name}
	if t.stop {
		_, found := e.r.mailbox(at, name)
		e.add(own, found)
		return nil
	}
	f := e.r.find(e.set, at, name)
	switch {
	case f.alias == nil:
		e.add(own, f.exists)
		return nil
	case f.alias.way == moved: // nobody is sent after who has moved; a mailbox of that name takes it
		_, found := e.r.mailbox(at, name)
		e.add(own, found)
		return nil
	}
	if back := circle(e.path, node{at, f.alias.name}); back != nil {
		if f.catchAll {
			e.add(own, at.any)
			return nil
		}
		return fmt.Errorf("a loop of aliases: %s", wayOf(back))
	}
	return e.follow(at, f)
}

// targetDomain is the domain of ours that a target lies in; nil: it is remote.
func (r *Router) targetDomain(d *domain, t target) *domain {
	if t.path.Domain == "" {
		return d
	}
	return r.domainOf(t.path)
}

// add takes one address, once.
func (e *expansion) add(to smtp.Path, exists bool) {
	key := smtp.Path{Local: to.MinimalLocal(), Domain: to.Domain}
	if k, err := DomainKey(to.Domain); err == nil {
		key.Domain = k
	}
	if e.seen[key] {
		return
	}
	e.seen[key] = true
	e.to = append(e.to, to)
	if exists {
		e.known++
	}
}

// circle returns the part of a path that leads from n to n, or nil.
func circle(path []node, n node) []node {
	for i, p := range path {
		if p == n {
			return append(append([]node(nil), path[i:]...), n)
		}
	}
	return nil
}

// wayOf prints a path.
func wayOf(path []node) string {
	names := make([]string, len(path))
	for i, n := range path {
		names[i] = n.String()
	}
	return strings.Join(names, " -> ")
}

package route

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// An Entry is what a name of ours is, to who may know it.
type Entry struct {
	Address smtp.Path // as RCPT takes it, with its domain
	Name    string    // of the person; empty: nobody knows. UTF-8
	// Vague: nothing is known of that name, but mail for every name is taken.
	Vague bool
	// List: it stands for others, which are Members, unless the list is Closed.
	List    bool
	Closed  bool
	Members []Member
	Reply   smtp.Reply // as postrider.Resolution.Reply
}

// A Member is one address that a list stands for.
type Member struct {
	Address smtp.Path
	Name    string // as Entry.Name
}

// entriesMax is how many domains of ours are told of that have one name.
const entriesMax = 20

// Lookup returns who has a name: with a domain of ours, its one Entry; without
// any, one for each domain where that name is known, our home first, and at most
// 21, so that there are more than anyone wants to hear. None: nobody has it. An
// error means that we cannot tell now.
//
// Of a list it names those that stand on it and in the files that it includes,
// and who can be written to. A member that is a list is named, and its members
// are not: each list is open or closed by itself.
func (r *Router) Lookup(ctx context.Context, name smtp.Path) ([]Entry, error) {
	r.look()
	set := r.aliases.Load()
	local := fold(name.LocalUnquoted())
	if name.Domain != "" || local == postmaster { // RFC 5321 4.1.1.3 knows one "<postmaster>"
		d := r.domainOf(name)
		if d == nil {
			return nil, nil
		}
		return r.entries(ctx, set, []*domain{d}, local)
	}
	var all []*domain
	for key, d := range r.domains {
		if f := r.find(set, d, local); key == d.name && f.exists && !f.vague {
			all = append(all, d)
		}
	}
	if len(all) == 0 && r.home != nil {
		all = append(all, r.home)
	}
	slices.SortFunc(all, func(a, b *domain) int {
		switch r.home {
		case a:
			return -1
		case b:
			return 1
		}
		return cmp.Compare(a.name, b.name)
	})
	return r.entries(ctx, set, all[:min(len(all), entriesMax+1)], local)
}

// entries are those of a folded local part in some domains.
func (r *Router) entries(ctx context.Context, set *aliasSet, domains []*domain, local string) ([]Entry, error) {
	var all []Entry
	for _, d := range domains {
		to := smtp.Path{Local: smtp.QuoteLocal(local), Domain: d.name}
		if !utf8.ValidString(local) {
			continue
		}
		// What RCPT would say: nobody learns here that there is an address which
		// RCPT denies, or the other way round.
		res, err := r.Resolve(ctx, to, postrider.Source{})
		if err != nil {
			return nil, fmt.Errorf("look up: %w", err)
		}
		if res.Kind == postrider.KindUnknown && res.Reply.IsZero() {
			continue
		}
		f := r.find(set, d, local)
		e := Entry{Address: to, Vague: f.vague, Reply: res.Reply}
		if a := f.alias; a != nil && a != r.postmaster && a.way == silent && !f.vague {
			e.List, e.Closed = true, a.closed
			if !a.closed {
				e.Members = r.members(set, d, a)
				e.person(r)
			}
		}
		all = append(all, e)
	}
	return all, nil
}

// members are those that an alias names, each once.
func (r *Router) members(set *aliasSet, d *domain, a *aliasEntry) []Member {
	var all []Member
	seen := map[smtp.Path]bool{}
	for _, t := range a.targets {
		m := Member{Address: t.path, Name: t.full}
		if at := r.targetDomain(d, t); at != nil {
			name := fold(t.path.LocalUnquoted())
			f := r.find(set, at, name)
			if t.stop {
				_, f.exists = r.mailbox(at, name)
			} else if f.alias != nil && f.alias.way == moved {
				f.exists = false
			}
			if !f.exists {
				continue
			}
			m.Address = smtp.Path{Local: smtp.QuoteLocal(name), Domain: at.name}
		}
		if !seen[m.Address] {
			seen[m.Address] = true
			all = append(all, m)
		}
	}
	return all
}

// person makes the entry of a list that names one person, a mailbox of ours, that
// of the person: "crispin: Mark Crispin <mrc@our.example>" says who Crispin is.
func (e *Entry) person(r *Router) {
	if len(e.Members) != 1 || e.Members[0].Name == "" {
		return
	}
	m := e.Members[0]
	d := r.domainOf(m.Address)
	if d == nil {
		return
	}
	if _, found := r.mailbox(d, fold(m.Address.LocalUnquoted())); found {
		e.Address, e.Name = m.Address, m.Name
	}
}

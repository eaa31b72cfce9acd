package route

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/postrider/postrider/smtp"
)

// A checker walks through all aliases and looks for what cannot be right,
// whoever writes to them.
type checker struct {
	r      *Router
	set    *aliasSet
	path   []node
	last   place        // of the last target on the path that stands in a file; that of Table.Postmaster does not
	height map[node]int // of aliases that were walked through: how many lead to each other
	weight map[node]int // how many addresses they stand for, those that come twice counted twice
	faults AliasFaults
}

// checkAliases returns the loops, the aliases that stand for too many, and as
// warnings the targets in domains of ours that do not exist. Where nobody knows
// the accounts it goes no way that an account might end, and warns of nothing.
func (r *Router) checkAliases(set *aliasSet) AliasFaults {
	c := &checker{r: r, set: set, height: map[node]int{}, weight: map[node]int{}}
	for _, d := range r.inOrder() {
		entries := set.of(d)
		var all []*aliasEntry
		for _, e := range entries {
			all = append(all, e)
		}
		slices.SortFunc(all, func(a, b *aliasEntry) int { return cmp.Compare(a.at.from, b.at.from) })
		for _, e := range all {
			c.walk(d, e)
			if c.weight[node{d, e.name}] > expansionMax {
				c.exact(d, e)
			}
		}
	}
	return c.faults
}

// inOrder returns the domains of ours, each once, in an order that is the same
// every time.
func (r *Router) inOrder() []*domain {
	var all []*domain
	for key, d := range r.domains {
		if key == d.name {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b *domain) int { return cmp.Compare(a.name, b.name) })
	return all
}

// walk goes through an alias and all that it leads to.
func (c *checker) walk(d *domain, e *aliasEntry) {
	n := node{d, e.name}
	if _, done := c.height[n]; done {
		return
	}
	c.height[n] = 1 // of a loop, until its fault is told
	c.path = append(c.path, n)
	defer func() { c.path = c.path[:len(c.path)-1] }()
	height, weight := 0, 0
	for _, t := range e.targets {
		h, w := c.target(d, t)
		height, weight = max(height, h), min(weight+w, 2*expansionMax)
	}
	c.height[n], c.weight[n] = height+1, weight
	if height+1 == aliasDepthMax+1 {
		c.faults.add(e.at.fault("Let them lead to fewer others.", "%s leads through more than %d aliases", n, aliasDepthMax))
	}
}

// target goes through one target of an alias.
func (c *checker) target(d *domain, t target) (height, weight int) {
	at := c.r.targetDomain(d, t)
	if at == nil {
		return 0, 1
	}
	name := fold(t.path.LocalUnquoted())
	if t.stop {
		if _, found := c.r.mailbox(at, name); !found {
			c.unknown(at, name, t)
		}
		return 0, 1
	}
	f := c.r.find(c.set, at, name)
	switch {
	case !f.exists:
		c.unknown(at, name, t)
		return 0, 1
	case f.alias == nil, f.base && c.r.account == nil:
		return 0, 1
	case f.alias.way == moved:
		if _, found := c.r.mailbox(at, name); !found {
			c.unknown(at, name, t)
		}
		return 0, 1
	}
	if t.at.src != nil {
		c.last = t.at
	}
	next := node{at, f.alias.name}
	switch back := circle(c.path, next); {
	case back != nil && f.catchAll:
		if !at.any {
			c.unknown(at, name, t)
		}
		return 0, 1
	case back != nil:
		c.loop(c.last, back)
		return 0, 1
	case len(c.path) > 2*aliasDepthMax:
		return aliasDepthMax, 1 // deep enough to be told of
	}
	c.walk(at, f.alias)
	return c.height[next], max(c.weight[next], 1)
}

// loop tells of a loop.
func (c *checker) loop(at place, back []node) {
	help := "Take one of them away."
	if len(back) == 2 {
		help = fmt.Sprintf("Write \\%s for the mailbox itself.", back[0].name)
	}
	c.faults.add(at.fault(help, "a loop of aliases: %s", wayOf(back)))
}

// unknown warns of a target that nobody has.
func (c *checker) unknown(d *domain, name string, t target) {
	if c.r.account == nil || t.at.src == nil {
		return
	}
	f := t.at.fault("Mail to it comes back to its sender.", "nobody is called %s", node{d, name})
	f.Warning = true
	c.faults.add(f)
}

// exact counts what an alias stands for as Resolve does.
func (c *checker) exact(d *domain, e *aliasEntry) {
	x := expansion{r: c.r, set: c.set, done: map[node]bool{}, seen: map[smtp.Path]bool{}}
	if err := x.follow(d, finding{exists: true, alias: e}); err == errMany {
		c.faults.add(e.at.fault("Divide it.", "%s stands for more than %d addresses", node{d, e.name}, expansionMax))
	}
}

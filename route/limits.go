package route

import (
	"cmp"
	"strings"

	"github.com/postrider/postrider"
)

// Limits returns what a destination gets at most. Where several rules lead to one
// host it is the least of each kind.
func (r *Router) Limits(d postrider.Dest) postrider.Limits {
	domain, mx := strings.CutPrefix(string(d), "mx:")
	if !mx {
		return r.hosts[d]
	}
	if i := r.match(domain); i >= 0 && r.domains[domain] == nil && r.rules[i].To.Via == postrider.ViaMX {
		return r.rules[i].To.Limits
	}
	return postrider.Limits{}
}

// shareLimits gives all rules and domains that lead to one host the same limits.
func (r *Router) shareLimits() {
	r.hosts = map[postrider.Dest]postrider.Limits{}
	for _, rule := range r.rules {
		if to := rule.To; to.Dest != "" && to.Limits != (postrider.Limits{}) {
			r.hosts[to.Dest] = least(r.hosts[to.Dest], to.Limits)
		}
	}
	for i := range r.rules {
		if to := &r.rules[i].To; to.Dest != "" {
			to.Limits = r.hosts[to.Dest]
		}
	}
	for _, d := range r.domains {
		d.deliver.Limits = r.hosts[d.deliver.Dest]
	}
}

func least(a, b postrider.Limits) postrider.Limits {
	l := postrider.Limits{Connections: lesser(a.Connections, b.Connections), Messages: lesser(a.Messages, b.Messages), Rate: a.Rate}
	if b.Rate.Every() > a.Rate.Every() {
		l.Rate = b.Rate
	}
	return l
}

// lesser is the lesser of what is set.
func lesser(a, b int) int {
	if a == 0 || b == 0 {
		return cmp.Or(a, b)
	}
	return min(a, b)
}

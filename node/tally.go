package node

import (
	"github.com/postrider/postrider/admin"
)

// tally is what waits, by destination, as the spool counts it in memory.
func (n *Node) tally() []admin.DestStat {
	counted := n.store.Tally()
	all := make([]admin.DestStat, len(counted))
	for i, t := range counted {
		d := &all[i]
		*d = admin.DestStat{Dest: t.Dest, Queued: t.Queued, Active: t.Active, Deferred: t.Deferred, Held: t.Held, Oldest: t.Oldest.UTC(),
			MoreDomains: t.MoreDomains, Reasons: []admin.Reason{}}
		for _, h := range t.Replies {
			d.Reasons = append(d.Reasons, admin.Reason{Reply: admin.ReplyText(h.Reply), Recipients: h.Count})
		}
		if t.Ordered > 0 {
			d.Reasons = append(d.Reasons, admin.Reason{Reply: admin.SendersOrder, Recipients: t.Ordered})
		}
		for _, domain := range t.Domains {
			d.Domains = append(d.Domains, admin.DomainStat{Domain: domain.Name, Recipients: domain.Count})
		}
		if d.Plain() {
			d.Domains = nil
		}
	}
	return all
}

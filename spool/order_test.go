package spool

import (
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// stepOrder wants what is under way, and lies first in the log, to be bounced or
// dropped, and lets the log grow and be moved on without the end of its lease:
// neither a snapshot nor a move may forget the order.
func (d *driver) stepOrder() {
	d.sleep(2 * time.Hour)
	d.settled()
	if len(d.now.msgs) == 0 {
		d.addTo("r0@x.example")
	}
	if d.over() || len(d.leases) == 0 && !d.claim() {
		return
	}
	first := d.leases[0]
	for _, l := range d.leases {
		if l.Why == postrider.Attempt && (first.Why != postrider.Attempt || l.ID < first.ID) {
			first = l
		}
	}
	am := postrider.Amendment{ID: first.ID, Do: postrider.AmendBounce, Reply: bounceReply}
	if d.rng.IntN(2) == 0 {
		am.Do = postrider.AmendDrop
	}
	d.commit(&act{at: d.time().UnixNano(), batch: postrider.Batch{Amend: []postrider.Amendment{am}}})
	for d.tick(); !d.over() && d.claim(); d.tick() {
		d.deliver(d.leases[len(d.leases)-1])
	}
	for range 12 {
		if d.tick(); d.over() {
			return
		}
		d.addTo("r1@y.example")
		if d.tick(); !d.over() && d.claim() {
			d.deliver(d.leases[len(d.leases)-1])
		}
	}
}

// addTo adds a message that is due at once.
func (d *driver) addTo(to string) {
	if a := d.draft(500+d.rng.IntN(500), addr("from@example.org"), to); a != nil {
		d.let(a, d.commit(a)[0])
	}
}

// deliver settles all of an attempt as delivered, or of a look as told.
func (d *driver) deliver(l postrider.Lease) {
	now := d.time()
	set := postrider.Settlement{Lease: l}
	for _, n := range l.Rcpts {
		c := changeOf(n, &d.now.msgs[l.ID].m.Recipients[n])
		switch {
		case c.State != postrider.Waiting:
			c.Reported = true
		case l.Why == postrider.Wake:
			continue
		default:
			c.Tries++
			c.State, c.Reported, c.Settled, c.Due, c.Reply = postrider.Delivered, true, now, time.Time{}, smtp.OK
		}
		set.Changes = append(set.Changes, c)
	}
	d.commit(&act{at: now.UnixNano(), batch: postrider.Batch{Settle: []postrider.Settlement{set}, Lazy: true}})
}

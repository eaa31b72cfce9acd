package relay

import (
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// RFC 2852 7: clients "SHOULD NOT attempt multiple MX hosts looking for one which
// supports Deliver By"; a host with a minimum that is too long is another thing.
func TestDeliverByAsksOneHost(t *testing.T) {
	ret := func(d *postrider.Delivery) {
		d.Message.Arrived, d.Message.By = time.Now(), smtp.DeliverBy{Seconds: 120, Mode: smtp.ByReturn}
	}
	offer := func(first ...string) func(w *world) {
		return func(w *world) {
			answers(nil, nil)(w)
			w.peers[mx1].exts, w.peers[mx2].exts = first, []string{"DELIVERBY"}
		}
	}
	play(t, []story{
		{name: "the first does not know it", world: offer(), set: ret, dials: []string{mx1},
			want: []string{"failed/message 554 5.3.3 the message is to be delivered in time or returned (BY), which mx1.example does not offer"}},
		{name: "the first takes none so short", world: offer("DELIVERBY 121,x-more"), set: ret, dials: []string{mx1, mx2},
			want: []string{delivered + " (mx2.example) by"}},
	})
}

package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
)

// All peers that may have the message come before all others, also where it is another
// one for each recipient: from a host that has not seen it each would have a second copy.
func TestAllUncertainFirst(t *testing.T) {
	const mx3 = "192.0.2.3:25"
	play(t, []story{{
		name: "two of three", to: []string{"b@example.org", "c@example.org"},
		world: func(w *world) {
			answers(map[string]string{"MAIL": "451 4.3.0 not now"}, nil)(w)
			w.zone.MX("example.org", 30, "mx3.example").A("mx3.example", "192.0.2.3")
			w.peers[mx3] = &peer{}
		},
		set: func(d *postrider.Delivery) {
			d.Message.Recipients[0].Uncertain, d.Message.Recipients[1].Uncertain = "mx1.example[192.0.2.1]:25", "mx3.example[192.0.2.3]:25"
		},
		want: []string{delivered + " (mx3.example)", delivered + " (mx3.example)"}, dials: []string{mx1, mx3},
	}})
}

// Where the answer to the final dot is lost, the peer may have the message for those of
// that transaction, and for nobody who was to come in the next one.
func TestUncertainOfOneTransaction(t *testing.T) {
	const lost = "deferred/message 451 4.4.2 lost connection with mx1.example[192.0.2.1]:25 while waiting for the reply to the final dot: " +
		"the peer closed the connection"
	play(t, []story{{
		name: "one at a time", to: []string{"b@example.org", "c@example.org"},
		world: func(w *world) {
			answers(map[string]string{".": "<close>"}, nil)(w)
			w.peers[mx1].exts = []string{"LIMITS RCPTMAX=1"}
		},
		want: []string{lost + "; it may have the message, and is tried first from now on uncertain", lost}, dials: []string{mx1},
	}})
}

// Of as many hosts as are looked at the last one is tried as well.
func TestLastOfTheHosts(t *testing.T) {
	last := fmt.Sprintf("193.0.0.%d:25", hostsMax)
	var dials []string
	for i := range hostsMax {
		dials = append(dials, fmt.Sprintf("193.0.0.%d:25", i+1))
	}
	play(t, []story{{
		name: "the last",
		world: func(w *world) {
			for i := range hostsMax {
				name := fmt.Sprintf("mx%d.example", i+1)
				w.zone.MX("example.org", uint16(i), name).A(name, fmt.Sprintf("193.0.0.%d", i+1))
			}
			w.peers[last] = &peer{}
		},
		want: []string{delivered + fmt.Sprintf(" (mx%d.example)", hostsMax)}, dials: dials,
	}})
}

// A site that never answers a call is called again after downMax at the latest, however
// often it did not: it may be back.
func TestSilentForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(Options{}.orDefaults())
		defer p.close(t.Context())
		for i := range 20 {
			probe, ok, _ := p.knock(siteA)
			if !ok {
				t.Fatalf("after %d calls that nobody answered, and %v: not called again", i, downMax)
			}
			p.silent(siteA, probe, errors.New("no answer"))
			if _, ok, _ := p.knock(siteA); ok {
				t.Fatalf("after %d calls that nobody answered: called again at once", i+1)
			}
			time.Sleep(downMax)
		}
	})
}

// That a site does not answer is not forgotten for the many others that mail goes to
// meanwhile.
func TestSilentAmongMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(Options{}.orDefaults())
		defer p.close(t.Context())
		p.silent(siteA, false, errors.New("no answer"))
		for i := range 2 * gatesMax {
			other := site{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{193, 0, byte(i >> 8), byte(i)}), 25)}
			p.knock(other)
			p.silent(other, false, errors.New("no answer"))
		}
		if _, ok, _ := p.knock(siteA); ok {
			t.Errorf("called again at once, after %d others", 2*gatesMax)
		}
	})
}

// The turn that a site has given is not forgotten for the many others that mail goes to
// meanwhile: its rate holds.
func TestRateAmongMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(Options{}.orDefaults())
		defer p.close(t.Context())
		time.Sleep(2 * time.Hour)
		meter := func(rate postrider.Rate) time.Duration {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.meter(siteA, rate)
		}
		hourly := postrider.Rate{Messages: 1, Per: time.Hour}
		if rest := meter(hourly); rest != 0 {
			t.Fatalf("the first: not before %v", rest)
		}
		for i := range 2 * gatesMax {
			meter(postrider.Rate{Messages: 1, Per: time.Minute + time.Duration(i)})
		}
		if rest := meter(hourly); rest < 59*time.Minute {
			t.Errorf("the second: after %v, in an hour of one", rest)
		}
	})
}

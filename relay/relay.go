// Package relay delivers to other hosts over SMTP and LMTP: it finds the hosts of
// a domain in the DNS or takes the one that a route names, tries their addresses
// in order, under TLS as the route asks for it, and says for each recipient what
// came of it.
//
// What one peer says about a recipient or the message is an outcome, but at 4yz one
// more is asked; what keeps us from talking to a peer is a reason to try the next. Only
// where every host says no, or the DNS says that there is none, does mail fail for it;
// all else is Deferred.
package relay

import (
	"context"
	"crypto/x509"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/smtpc"
)

// Limits of one attempt.
const (
	hostsMax = 20 // mail exchangers of a domain that are looked at
	addrsMax = 5  // addresses of one host that are tried
	triesMax = 20 // connections that are tried in all
	askedMax = 2  // hosts that are asked where each takes MAIL and puts off what follows
	// rcptsMax is how many recipients go in one transaction. RFC 5321
	// 4.5.3.1.8: "The minimum total number of recipients that MUST be buffered
	// is 100 recipients."
	rcptsMax = 100

	// What an attempt may take in all: each wait has its time, and a peer that uses
	// up nearly all of each would hold a slot for days. An hour and a half go by
	// until the last of triesMax silent hosts was tried.
	timeMax     = 2 * time.Hour
	timePerRcpt = 30 * time.Second
	rateMin     = 1 << 10 // octets of content in a second
)

// Options of a Relay.
type Options struct {
	Hello    string // our name in EHLO; where it has one label our address literal stands there
	Resolver dns.Resolver
	Network  postrider.Network
	Local    postrider.LocalAddrs // nil: nothing is ours
	Rand     *rand.Rand           // shuffles hosts of one preference; nil: they stay as they came. The Relay alone uses it
	Timeouts smtpc.Timeouts
	Roots    *x509.CertPool   // what certificates must chain to under TLSVerify; nil: the roots of the system
	Now      func() time.Time // the wall clock; nil: time.Now
	Log      *slog.Logger     // told when mail goes in the clear since TLS failed; nil: nobody

	DialTimeout time.Duration // 0: 30 seconds
	// ConnMax bounds the connections to one address and port; an attempt that
	// needs another waits. 0: 20.
	ConnMax int
	// IdleMax bounds the idle connections that are kept in all. 0: 100;
	// negative: none is kept.
	IdleMax     int
	IdleTimeout time.Duration // how long one is kept; 0: 10 seconds
	UseMax      int           // transactions on one connection; 0: 100
}

func (o Options) orDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 30 * time.Second
	}
	if o.ConnMax <= 0 {
		o.ConnMax = 20
	}
	if o.IdleMax == 0 {
		o.IdleMax = 100
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = 10 * time.Second
	}
	if o.UseMax <= 0 {
		o.UseMax = 100
	}
	return o
}

// A Relay is the postrider.Transport of the routes via "mx", "smtp" and "lmtp". It may
// be used by many goroutines, and is closed at the end.
type Relay struct {
	o      Options
	ours   string // our name in A-labels; empty: we have none that others could know
	pool   *pool
	randMu sync.Mutex
}

// New returns a Relay. It starts one goroutine, which Close ends.
func New(o Options) *Relay {
	o = o.orDefaults()
	ours, err := dns.ToASCII(helloName(o.Hello))
	if err != nil || strings.HasPrefix(ours, "localhost.") { // many machines are called localhost.localdomain
		ours = ""
	}
	return &Relay{o: o, ours: ours, pool: newPool(o)}
}

// Close says QUIT on the connections that are kept, and waits for the answers
// until ctx ends. No attempt may be under way.
func (r *Relay) Close(ctx context.Context) error {
	r.pool.close(ctx)
	return ctx.Err()
}

// Deliver implements postrider.Transport. The recipients of a have one domain,
// or one host that the route names.
func (r *Relay) Deliver(ctx context.Context, d *postrider.Delivery) []postrider.Outcome {
	a := newAttempt(r, d)
	if len(a.left) > 0 {
		a.timed(ctx)
	}
	return a.out
}

// sortMX puts exchangers in the order to try them, at most hostsMax and those that must
// stay.
func (r *Relay) sortMX(mx []dns.MX, stays func(name string) bool) []dns.MX {
	r.randMu.Lock()
	defer r.randMu.Unlock()
	sorted := dns.SortMX(mx, r.o.Rand)
	few := sorted[:min(len(sorted), hostsMax)]
	for _, mx := range sorted[len(few):] {
		if stays(mx.Host) {
			few = append(few, mx)
		}
	}
	return few
}

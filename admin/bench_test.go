package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/postrider/postrider"
)

// BenchmarkStat is the way of ten thousand destinations from the count to the command,
// half of them slowed.
func BenchmarkStat(b *testing.B) {
	all, paces := make([]DestStat, 10_000), map[postrider.Dest]Pace{}
	for i := range all {
		d := postrider.Dest(fmt.Sprintf("mx:d%d.example", i))
		all[i] = DestStat{Dest: d, Deferred: 100, Oldest: now, Reasons: []Reason{{"451 4.4.1 no answer from mx1.d.example[192.0.2.1]:25: timed out", 100}}}
		if i%2 == 0 {
			paces[d] = Pace{Limit: 1, Most: 20, Probe: now, Reason: "no answer from mx1.d.example[192.0.2.1]:25: timed out", Since: now}
		}
	}
	o := options(queue())
	o.Tally, o.Paces = func() []DestStat { return all }, func() map[postrider.Dest]Pace { return paces }
	server := httptest.NewServer(Control(o))
	defer server.Close()
	c := Client{&http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}}}
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range c.Stat(b.Context(), Filter{}) {
			if n++; err != nil {
				b.Fatal(err)
			}
		}
		if n != len(all) {
			b.Fatalf("%d lines", n)
		}
	}
}

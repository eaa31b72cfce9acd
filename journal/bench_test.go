package journal_test

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/journal"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// BenchmarkRun is what the events of one message that is relayed at once cost the
// journal: accepted, delivered, removed.
func BenchmarkRun(b *testing.B) {
	j, err := journal.Open(b.Context(), journal.Options{FS: vfs.OS(), Dir: b.TempDir() + "/j"})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	now := time.Now()
	const batch = 3 * 700
	feed := func(yield func([]postrider.Event, error) bool) {
		for n := 0; n < b.N; {
			evs := make([]postrider.Event, 0, batch)
			for ; len(evs) < batch && n < b.N; n++ {
				id := postrider.ID(fmt.Sprintf("%020d", n))
				from, to := smtp.Path{Local: "sender", Domain: "example.net"}, smtp.Path{Local: "rcpt", Domain: "example.org"}
				lsn := uint64(n) * 1000
				evs = append(evs, postrider.Event{LSN: lsn + 1, Time: now, Kind: postrider.EventAccepted, ID: id, From: from, Size: 4096, HeaderID: string(id) + "@example.net",
					Tos:    []smtp.Path{to},
					Source: postrider.Source{Listener: "mx", Peer: netip.MustParseAddrPort("192.0.2.1:4711"), Hello: "client.example.net", Protocol: "ESMTP"}},
					postrider.Event{LSN: lsn + 2, Time: now, Kind: postrider.EventRecipient, ID: id, From: from, To: to, Dest: "mx:example.org", State: postrider.Delivered,
						Tries: 1, Reply: smtp.Reply{Code: 250, Text: "Ok: queued as 4F3A2"}, Remote: "mx.example.org", Arrived: now},
					postrider.Event{LSN: lsn + 2, Time: now, Kind: postrider.EventRemoved, ID: id, Arrived: now})
			}
			if !yield(evs, nil) {
				return
			}
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	if err := j.Run(context.Background(), iter.Seq2[[]postrider.Event, error](feed)); err != nil {
		b.Fatal(err)
	}
}

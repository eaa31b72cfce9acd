package node

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/smtp"
)

// benchEvents are those of a message that is relayed at once.
func benchEvents() []postrider.Event {
	now := time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)
	const id = "0123456789abcdefghij"
	from, to := smtp.Path{Local: "sender", Domain: "example.net"}, smtp.Path{Local: "rcpt", Domain: "example.org"}
	return []postrider.Event{
		{LSN: 1, Time: now, Kind: postrider.EventAccepted, ID: id, From: from, Size: 4096, HeaderID: "<4711@example.net>", Tos: []smtp.Path{to},
			Source: postrider.Source{Listener: "mx", Peer: netip.MustParseAddrPort("192.0.2.1:4711"), Hello: "client.example.net", Protocol: "ESMTP"}},
		{LSN: 2, Time: now, Kind: postrider.EventRecipient, ID: id, From: from, To: to, Dest: "mx:example.org", State: postrider.Delivered, Tries: 1,
			Reply: smtp.Reply{Code: 250, Status: smtp.Status{Class: 2}, Text: "Ok: queued as 4F3A2"}, Remote: "mx.example.org", Arrived: now.Add(-1234567 * time.Nanosecond)},
		{LSN: 2, Time: now, Kind: postrider.EventRemoved, ID: id, Arrived: now},
	}
}

// BenchmarkEvents is what the events of one message cost the log and the metrics.
func BenchmarkEvents(b *testing.B) {
	m, log, evs := admin.NewMetrics(), slog.New(slog.NewTextHandler(io.Discard, nil)), benchEvents()
	b.Run("log", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, e := range evs {
				logEvent(b.Context(), log, &e)
			}
		}
	})
	b.Run("metrics", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, e := range evs {
				m.Event(&e)
			}
		}
	})
}

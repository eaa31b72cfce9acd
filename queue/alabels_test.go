package queue

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// A report goes back in ASCII to an address that is ASCII but for its domain: its host
// may not offer SMTPUTF8, and nobody is told of a report that cannot be delivered.
func TestReportToAnIDN(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.queue.opt.ALabels = func(p smtp.Path) smtp.Path {
			p.Domain = strings.ReplaceAll(p.Domain, "bücher", "xn--bcher-kva")
			return p
		}
		b.queue.Change(testPlan, smtp.Path{Local: "postmaster", Domain: "bücher.example"})
		b.queue.opt.Transports[postrider.ViaMX] = transport(func(ctx context.Context, d *postrider.Delivery) []postrider.Outcome {
			if raw := string(d.Content.(*memContent).raw); d.Message.Null() &&
				(d.Message.UTF8 || d.Message.EightBit || strings.Contains(raw, "bücher") || strings.Count(raw, "@xn--bcher-kva.example") < 2) {
				b.mu.Lock()
				b.alarms = append(b.alarms, raw)
				b.mu.Unlock()
			}
			return b.deliver(ctx, d)
		})
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "x.example" {
				return nobody
			}
			return ok
		}
		b.sendFrom(smtp.Path{Local: "alice", Domain: "bücher.example"}, "u@x.example")
		b.until(time.Hour)
		if b.empty(); len(b.inbox) != 1 || len(b.alarms) != 0 {
			t.Errorf("%d reports, in more than ASCII: %q", len(b.inbox), b.alarms)
		}
	})
}

// A report in more than ASCII says so of itself, as to who delivers it: it goes only where
// SMTPUTF8 is offered, and its octets over 127 are no surprise there.
func TestReportInUTF8(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Domain == "x.example" {
				return toNobody
			}
			return ok
		}
		b.sendAs(func(m *postrider.Message) { m.UTF8, m.From.Domain = true, "bücher.example" }, "bøb@x.example")
		b.until(time.Hour) // deliver compares what is said with what it is
		if b.empty(); len(b.inbox) != 1 || b.inbox[0].Recipients[0].Final.Local != "bøb" {
			t.Errorf("told: %q", b.told())
		}
	})
}

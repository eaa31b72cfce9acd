package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/dns/dnstest"
)

// A world is a zone and a port at which all its mail hosts listen, each at an
// address of its own.
type world struct {
	t    *testing.T
	zone *dns.Zone
	dns  string
	port int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if !linux() {
		miss(t, "mail hosts at one port and many loopback addresses need Linux")
	}
	zone := dns.NewZone()
	return &world{t: t, zone: zone, dns: dnstest.Start(t, zone), port: freePort(t, freeIP())}
}

// host names an address where a mail host may listen.
func (w *world) host(name string) (ip string) {
	ip = freeIP()
	w.zone.A(name, ip)
	return ip
}

// peer starts a mail host of another project.
func (w *world) peer(name string) *peer {
	return newPeer(w.t, net.JoinHostPort(w.host(name), strconv.Itoa(w.port)))
}

// relay is the configuration that sends everything by MX in this world, and
// tries again after a second.
func (w *world) relay() string {
	return fmt.Sprintf(`
dns { servers = [%q] }
route "*" {
  via     = "mx"
  port    = %d
  private = true
}
queue {
  retry        = ["1s"]
  delay_notice = "0s"
}
domain "a.example" {
  mailboxes = ["*"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
`, w.dns, w.port)
}

// sender starts a Postrider that relays for us.
func (w *world) sender() *server {
	w.t.Helper()
	s := newServer(w.t, "a.example", w.relay())
	s.start()
	return s
}

// one waits for one message at a mailbox and returns it.
func (s *server) one(domain, user string) []byte {
	s.t.Helper()
	var box [][]byte
	eventually(s.t, says("%s: nothing in the mailbox of %s@%s", s.name, user, domain), func() bool {
		box = s.maildir(domain, user)
		return len(box) > 0
	})
	if len(box) != 1 {
		s.t.Fatalf("%d messages for %s@%s, want 1", len(box), user, domain)
	}
	return box[0]
}

// empty waits until nothing is queued any more.
func (s *server) empty() {
	s.t.Helper()
	var out string
	eventually(s.t, func() string { return "the queue is not empty:\n" + out }, func() bool {
		out = strings.TrimSpace(s.cli("queue", "ls", "--json"))
		return out == ""
	})
}

// queued is one line of "queue ls --json".
type queued struct {
	ID         string
	From       string
	State      string
	Recipients []struct {
		To, State, Dest, Next, Reply string
		Tries                        int
	}
}

// queue reads "queue ls --json".
func (s *server) queue() []queued {
	s.t.Helper()
	var all []queued
	d := json.NewDecoder(strings.NewReader(s.cli("queue", "ls", "--json")))
	for d.More() {
		var q queued
		if err := d.Decode(&q); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, q)
	}
	return all
}

// Two Postriders: the first finds the second by the MX record.
func TestRelayByMX(t *testing.T) {
	w := newWorld(t)
	b := newServerAt(t, "b.example", w.host("mx.b.example"), w.port, `
domain "b.example" {
  mailboxes = ["alice"]
  deliver   = "maildir:DIR/mail/{domain}/{user}"
}
`)
	b.start()
	w.zone.MX("b.example", 10, "mx.b.example")
	a := w.sender()
	sent := message("relayed", 50_000)
	mustSubmit(t, a.addr(), mail{"s@a.example", []string{"alice@b.example"}, sent})
	got := b.one("b.example", "alice")
	if !bytes.HasSuffix(got, sent) {
		t.Error("the message is not what was sent")
	}
	if n := bytes.Count(got[:len(got)-len(sent)], []byte("Received: from ")); n != 2 {
		t.Errorf("%d Received fields, want one of each host", n)
	}
	a.empty()
	a.stop()
	b.stop()
}

// RFC 5321 5.1: "the SMTP client MUST be able to try (and retry) each of the
// relevant addresses in this list in order, until a delivery attempt succeeds."
// Here the first refuses connections.
func TestSecondMXTakesIt(t *testing.T) {
	w := newWorld(t)
	w.host("mx1.b.example") // nobody listens
	second := w.peer("mx2.b.example")
	w.zone.MX("b.example", 10, "mx1.b.example").MX("b.example", 20, "mx2.b.example")
	a := w.sender()
	sent := message("second-mx", 1_000)
	mustSubmit(t, a.addr(), mail{"s@a.example", []string{"alice@b.example"}, sent})
	eventually(t, says("the second MX has nothing"), func() bool { return len(second.taken()) == 1 })
	if got := second.taken()[0]; !bytes.HasSuffix(got.body, sent) || got.from != "s@a.example" {
		t.Errorf("the second MX took something else: from %s, %d octets", got.from, len(got.body))
	}
	a.empty()
}

// 451 is tried again by the schedule, and arrives once when the peer recovers.
func TestRetryAfter451(t *testing.T) {
	w := newWorld(t)
	p := w.peer("mx.b.example")
	w.zone.MX("b.example", 10, "mx.b.example")
	var refused atomic.Int32
	p.on(func(string) error {
		refused.Add(1)
		return refusal(451, 4, 2, 0, "Come back later")
	}, nil)
	a := w.sender()
	sent := message("greylisted", 1_000)
	mustSubmit(t, a.addr(), mail{"s@a.example", []string{"alice@b.example"}, sent})
	eventually(t, says("no second attempt"), func() bool { return refused.Load() >= 2 })
	var q []queued
	eventually(t, func() string { return fmt.Sprintf("the queue does not tell of the 451: %+v", q) }, func() bool {
		q = a.queue()
		return len(q) == 1 && len(q[0].Recipients) == 1 && q[0].Recipients[0].State == "deferred" &&
			q[0].Recipients[0].Tries >= 1 && strings.Contains(q[0].Recipients[0].Reply, "Come back later")
	})
	p.on(nil, nil)
	eventually(t, says("nothing came after the peer recovered"), func() bool { return len(p.taken()) == 1 })
	a.empty()
	if got := p.taken(); len(got) != 1 || !bytes.HasSuffix(got[0].body, sent) {
		t.Errorf("the peer took %d messages, want the one that was sent", len(got))
	}
	if box := a.maildir("a.example", "s"); len(box) != 0 {
		t.Errorf("the sender got a report of what arrived:\n%s", box[0])
	}
}

// 550 gives one report (RFC 3464) with words, a machine part and the header of
// the message, from the null reverse-path.
func TestReportOf550(t *testing.T) {
	w := newWorld(t)
	p := w.peer("mx.b.example")
	w.zone.MX("b.example", 10, "mx.b.example")
	p.on(func(string) error { return refusal(550, 5, 1, 1, "Nobody of that name") }, nil)
	a := w.sender()
	mustSubmit(t, a.addr(), mail{"s@a.example ENVID=QQ314159", []string{"alice@b.example ORCPT=rfc822;Alice@old.example"}, message("bounced", 2_000)})
	report := string(a.one("a.example", "s"))
	checkReport(t, report, "alice@b.example", "5.1.1", "550", "Nobody of that name")
	for _, want := range []string{
		"Original-Envelope-Id: QQ314159", "Original-Recipient: rfc822; Alice@old.example",
		"Remote-MTA: dns; mx.b.example", "X-Name: bounced",
	} {
		if !strings.Contains(strings.ToLower(squeeze(report)), strings.ToLower(want)) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if strings.Contains(report, "the end\r\n.") {
		t.Error("the report returns the body without being asked to")
	}
	a.empty()
	if n := len(a.maildir("a.example", "s")); n != 1 {
		t.Errorf("%d reports, want 1", n)
	}
	if t.Failed() {
		t.Logf("the report:\n%s", report)
	}
}

// checkReport wants a report of failure for one recipient.
func checkReport(t *testing.T, report, to, status string, words ...string) {
	t.Helper()
	low := strings.ToLower(squeeze(report))
	for _, want := range append([]string{
		"Return-Path: <>", "multipart/report", "report-type=delivery-status", "message/delivery-status",
		"Reporting-MTA: dns; a.example", "Final-Recipient: rfc822; " + to, "Action: failed", "Status: " + status,
	}, words...) {
		if !strings.Contains(low, strings.ToLower(want)) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if n := strings.Count(low, "final-recipient:"); n != 1 {
		t.Errorf("the report speaks of %d recipients, want 1", n)
	}
}

// squeeze leaves one blank behind each semicolon.
func squeeze(s string) string { return semicolon.ReplaceAllString(s, "; ") }

var semicolon = regexp.MustCompile(`; *\b`)

// Three recipients at one destination travel in one transaction with three
// RCPT; one is refused, two are delivered, one report tells of the one.
func TestThreeRecipientsOneDestination(t *testing.T) {
	w := newWorld(t)
	p := w.peer("mx.b.example")
	w.zone.MX("b.example", 10, "mx.b.example")
	p.on(func(to string) error {
		if strings.HasPrefix(to, "bad") {
			return refusal(550, 5, 1, 1, "Nobody of that name")
		}
		return nil
	}, nil)
	a := w.sender()
	mustSubmit(t, a.addr(), mail{"s@a.example", []string{"one@b.example", "bad@b.example", "two@b.example"}, message("three", 1_000)})
	report := string(a.one("a.example", "s"))
	checkReport(t, report, "bad@b.example", "5.1.1", "Nobody of that name")
	a.empty()
	got := p.taken()
	if len(got) != 1 || strings.Join(got[0].to, " ") != "one@b.example two@b.example" || p.asked() != 1 {
		t.Errorf("the peer took %d messages in %d transactions, to %v", len(got), p.asked(), got)
	}
}

// Three destinations, one of them dead: the two others have it at once, and a
// crash then does not send it to them again.
func TestThreeDestinationsOneDeadThenKill(t *testing.T) {
	w := newWorld(t)
	b, c := w.peer("mx.b.example"), w.peer("mx.c.example")
	dead := w.host("mx.d.example")
	for _, d := range []string{"b.example", "c.example", "d.example"} {
		w.zone.MX(d, 10, "mx."+d)
	}
	a := w.sender()
	sent := message("three-ways", 1_000)
	mustSubmit(t, a.addr(), mail{"s@a.example", []string{"x@b.example", "x@c.example", "x@d.example"}, sent})
	var q []queued
	eventually(t, func() string { return fmt.Sprintf("not delivered to the two that live: %+v", q) }, func() bool {
		q = a.queue()
		states := map[string]string{}
		for _, m := range q {
			for _, r := range m.Recipients {
				states[r.To] = r.State
			}
		}
		return len(q) == 1 && states["x@b.example"] == "delivered" && states["x@c.example"] == "delivered" && states["x@d.example"] == "deferred"
	})
	a.kill()
	a.start()
	d := newPeer(t, net.JoinHostPort(dead, strconv.Itoa(w.port)))
	eventually(t, says("nothing at the third after it came to life"), func() bool { return len(d.taken()) > 0 })
	a.empty()
	for name, p := range map[string]*peer{"b": b, "c": c, "d": d} {
		if got := p.taken(); len(got) != 1 || !bytes.HasSuffix(got[0].body, sent) {
			t.Errorf("%s took %d messages, want the one that was sent", name, len(got))
		}
	}
}

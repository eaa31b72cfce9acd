package e2e

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/postrider/postrider/dns"
)

// Who is told what of a delivery: NOTIFY and RET (RFC 3461 4), and never the
// null reverse-path. RFC 5321 4.5.5: systems "SHOULD NOT reply to messages with
// a null reverse-path".
func TestWhoIsTold(t *testing.T) {
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
	sent := message("told", 1_000)
	for _, tt := range []struct {
		sender, mail, rcpt string
		want, not          []string // of the one report; both empty: none
	}{
		{"plain", "", "bad@b.example", []string{"action: failed", "x-name: told"}, []string{"the end\r\n."}},
		{"full", " RET=FULL", "bad@b.example", []string{"action: failed", "x-name: told", "the end\r\n."}, nil},
		{"headers", " RET=HDRS", "bad@b.example", []string{"action: failed", "x-name: told"}, []string{"the end\r\n."}},
		{"never", "", "bad@b.example NOTIFY=NEVER", nil, nil},
		{"delay", "", "bad@b.example NOTIFY=DELAY", nil, nil},
		{"success", "", "good@b.example NOTIFY=SUCCESS", []string{"action: relayed", "status: 2."}, []string{"action: failed"}},
		{"quiet", "", "good@b.example", nil, nil},
		{"delivered", "", "someone@a.example NOTIFY=SUCCESS", []string{"action: delivered", "status: 2."}, []string{"action: failed"}},
	} {
		t.Run(tt.sender, func(t *testing.T) {
			a.t = t
			mustSubmit(t, a.addr(), mail{tt.sender + "@a.example" + tt.mail, []string{tt.rcpt}, sent})
			a.empty()
			box := a.maildir("a.example", tt.sender)
			if len(tt.want) == 0 {
				if len(box) != 0 {
					t.Errorf("a report that nobody asked for:\n%s", box[0])
				}
				return
			}
			if len(box) != 1 {
				t.Fatalf("%d reports, want 1", len(box))
			}
			report := strings.ToLower(string(box[0]))
			for _, want := range tt.want {
				if !strings.Contains(report, want) {
					t.Errorf("the report lacks %q:\n%s", want, report)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(report, not) {
					t.Errorf("the report holds %q:\n%s", not, report)
				}
			}
		})
	}
	a.t = t
	mustSubmit(t, a.addr(), mail{"", []string{"bad@b.example"}, sent})
	a.empty() // and nowhere to report to
	a.stop()
}

// What the DNS says decides: what is not there fails, what cannot be asked
// waits.
func TestAnswersOfTheDNS(t *testing.T) {
	w := newWorld(t)
	a := newServerAt(t, "a.example", w.host("self.a.example"), w.port, w.relay())
	a.start()
	implicit := newPeer(t, net.JoinHostPort(w.host("implicit.example"), strconv.Itoa(w.port)))
	w.zone.MX("null.example", 0, ".")
	w.zone.MX("self.example", 10, "self.a.example")
	w.zone.MX("nowhere.example", 10, "is-not-there.example")
	w.zone.CNAME("circle.example", "round.example").CNAME("round.example", "circle.example")
	w.zone.Fail("broken.example", dns.ErrServFail)
	for _, tt := range []struct {
		domain, status string // status: of the report
	}{
		{"null.example", "5.1.10"},   // RFC 7505 3
		{"missing.example", "5.1.2"}, // NXDOMAIN
		{"self.example", "5.4.6"},    // RFC 5321 5.1: the best host is ourselves
		{"nowhere.example", "5."},
	} {
		t.Run(tt.domain, func(t *testing.T) {
			a.t = t
			user := strings.ReplaceAll(tt.domain, ".", "-")
			mustSubmit(t, a.addr(), mail{user + "@a.example", []string{"x@" + tt.domain}, message("dns", 100)})
			report := strings.ToLower(string(a.one("a.example", user)))
			if !strings.Contains(report, "\r\nstatus: "+tt.status) || !strings.Contains(report, "\r\naction: failed\r\n") {
				t.Errorf("want a report of failure with status %s:\n%s", tt.status, report)
			}
		})
	}
	a.t = t
	mustSubmit(t, a.addr(), mail{"s@a.example", []string{"x@implicit.example"}, message("implicit", 100)})
	eventually(t, says("nothing came to the host without MX"), func() bool { return len(implicit.taken()) == 1 })
	a.empty()
	for _, domain := range []string{"broken.example", "circle.example"} {
		mustSubmit(t, a.addr(), mail{"waits@a.example", []string{"x@" + domain}, message("waits", 100)})
	}
	var q []queued
	eventually(t, func() string { return fmt.Sprintf("want two that are deferred: %+v", q) }, func() bool {
		q = a.queue()
		return len(q) == 2 && q[0].Recipients[0].Tries > 1 && q[1].Recipients[0].Tries > 1
	})
	w.zone.Fail("broken.example", nil).A("broken.example", strings.Split(implicit.addr, ":")[0])
	eventually(t, says("nothing came after the DNS recovered"), func() bool { return len(implicit.taken()) == 2 })
	if box := a.maildir("a.example", "waits"); len(box) != 0 {
		t.Errorf("mail that only waits was reported:\n%s", box[0])
	}
	a.stop()
}

// What cannot be delivered until its time is over is given up, with status
// X.4.7, and the report says how long it was tried.
func TestExpiry(t *testing.T) {
	w := newWorld(t)
	w.host("mx.b.example") // nobody listens
	w.zone.MX("b.example", 10, "mx.b.example")
	a := newServer(t, "a.example", strings.Replace(w.relay(), "delay_notice = \"0s\"", "delay_notice = \"0s\"\n  expire = \"2s\"", 1))
	a.start()
	mustSubmit(t, a.addr(), mail{"s@a.example", []string{"x@b.example"}, message("expires", 100)})
	report := string(a.one("a.example", "s"))
	checkReport(t, report, "x@b.example", "")
	if !strings.Contains(report, ".4.7\r\n") {
		t.Errorf("no status X.4.7 in the report:\n%s", report)
	}
	a.empty()
	a.stop()
}

// A second server cannot take the data of one that runs.
func TestDataAreLocked(t *testing.T) {
	s := newServer(t, "mx.example", localDomain)
	s.start()
	second := newServer(t, "mx.example", localDomain)
	second.edit(second.dir+"/data", s.dir+"/data")
	out, status := output(t, second.dir, binary, "serve", "--config", second.config)
	if status != 1 || !strings.Contains(out, s.dir+"/data") {
		t.Errorf("status %d, want 1 and the name of the folder:\n%s", status, out)
	}
	mustSubmit(t, s.addr(), mail{"s@client.example", []string{"user@localhost"}, message("still", 100)})
	s.one("localhost", "user")
	s.stop()
}

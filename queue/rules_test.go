package queue

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// told is what the sender of m hears of its first recipient after an attempt: the
// action and the status of a report, or nothing.
func told(t *testing.T, m *postrider.Message, o postrider.Outcome, now time.Time) string {
	t.Helper()
	p := Plan{DelayNotice: -1}.withDefaults()
	c := change(p, m, 0, o, now, 0)
	r := &m.Recipients[0]
	r.State, r.Reported, r.Settled, r.Reply, r.Remote, r.Final, r.RelayedTo = c.State, c.Reported, c.Settled, c.Reply, c.Remote, c.Final, c.RelayedTo
	r.Tries, r.Due = c.Tries, c.Due
	return heard(p, m, now)
}

func heard(p Plan, m *postrider.Message, now time.Time) string {
	var all []string
	for _, d := range lookAt(p, m, []int{0}, now, func(int) wait { return waitTurn }).report {
		s := d.Status
		if s.IsZero() {
			s = d.Diagnostic.Status
		}
		text := string(d.Action) + " " + s.String()
		if d.RemoteMTA != "" {
			text += " " + d.RemoteMTA
		}
		all = append(all, text)
	}
	return strings.Join(all, ",")
}

var (
	toConforming = postrider.Outcome{Result: postrider.ResultDelivered, Reply: smtp.OK, Remote: "mx", PeerHasDSN: true}
	toOther      = postrider.Outcome{Result: postrider.ResultDelivered, Reply: smtp.OK, Remote: "mx"}
	toMailbox    = postrider.Outcome{Result: postrider.ResultDelivered, Reply: smtp.OK, Final: true}
	toNobody     = postrider.Outcome{Result: postrider.ResultFailed, Remote: "mx",
		Reply: smtp.Reply{Code: 550, Status: smtp.Status{Class: 5, Subject: 1, Detail: 1}, Text: "who"}}
)

// The rules of RFC 3461 5.2 about who hears of what, each by its number.
func TestRulesOfRFC3461(t *testing.T) {
	const (
		success, failure, delay, never = smtp.NotifySuccess, smtp.NotifyFailure, smtp.NotifyDelay, smtp.NotifyNever
	)
	for _, c := range []struct {
		rule   string
		notify smtp.Notify
		o      postrider.Outcome
		want   string
	}{
		{"5.2.1: the success is for the next hop to tell", success | failure, toConforming, ""},
		{"5.2.1: a failure there is told", failure, toNobody, "failed 5.1.1 mx"},
		{`5.2.2 (b): "the client MUST issue a "relayed" DSN for that recipient"`, success, toOther, "relayed 2.0.0 mx"},
		{`5.2.2 (c): FAILURE, "the client MUST issue a "failed" DSN"`, failure, toNobody, "failed 5.1.1 mx"},
		{`5.2.2 (d): NEVER, "the client MUST NOT issue a DSN", failed`, never, toNobody, ""},
		{`5.2.2 (d): NEVER, "the client MUST NOT issue a DSN", relayed`, never, toOther, ""},
		{`5.2.2 (e): not supplied, relayed, "the client MUST NOT issue any DSN"`, 0, toOther, ""},
		{`5.2.2 (f): not supplied, failed, "the client MUST issue a "failed" DSN"`, 0, toNobody, "failed 5.1.1 mx"},
		{`5.2.3 (a): SUCCESS, "the MTA MUST issue a "delivered" DSN"`, success, toMailbox, "delivered 2.0.0"},
		{`5.2.3 (b): no SUCCESS, "the MTA MUST NOT issue a DSN"`, failure | delay, toMailbox, ""},
		{`5.2.3 (c): not supplied, "the MTA MUST NOT issue a DSN"`, 0, toMailbox, ""},
		{`5.2.6 (a): FAILURE, "a "failed" DSN MUST be issued"`, failure | success, toNobody, "failed 5.1.1 mx"},
		{`5.2.6 (b): no FAILURE, "a DSN MUST NOT be issued for that recipient"`, success | delay, toNobody, ""},
		{`5.2.6 (c): not supplied, "a "failed" DSN MUST be issued"`, 0, toNobody, "failed 5.1.1 mx"},
	} {
		m := &postrider.Message{From: smtp.Path{Local: "a", Domain: "x"}, Arrived: t0, Recipients: []postrider.Recipient{{Notify: c.notify}}}
		if got := told(t, m, c.o, t0.Add(time.Minute)); got != c.want {
			t.Errorf("%s: %q, want %q", c.rule, got, c.want)
		}
		// 5.2: "A DSN MUST NOT be returned to the sender for any message for which the
		// return address from the SMTP MAIL command was NULL".
		m = &postrider.Message{Arrived: t0, Recipients: []postrider.Recipient{{Notify: c.notify}}}
		if got := told(t, m, c.o, t0.Add(time.Minute)); got != "" {
			t.Errorf("%s, to the null path: %q", c.rule, got)
		}
	}
}

// RFC 3461 5.2.5: (a) with DELAY and (b) without NOTIFY a "delayed" DSN MAY be issued,
// (c) with NOTIFY and no DELAY it "MUST NOT be issued".
func TestRulesOfDelay(t *testing.T) {
	p := Plan{DelayNotice: time.Hour}.withDefaults()
	for _, c := range []struct {
		notify smtp.Notify
		want   string
	}{
		{smtp.NotifyDelay, "delayed 4.2.0"},
		{smtp.NotifyDelay | smtp.NotifySuccess, "delayed 4.2.0"},
		{0, "delayed 4.2.0"},
		{smtp.NotifySuccess | smtp.NotifyFailure, ""},
		{smtp.NotifyFailure, ""},
		{smtp.NotifyNever, ""},
	} {
		m := &postrider.Message{From: smtp.Path{Local: "a", Domain: "x"}, Arrived: t0, Source: postrider.Source{Account: "a@x"},
			Recipients: []postrider.Recipient{{Notify: c.notify, Tries: 1, Reply: smtp.Reply{Code: 450, Status: smtp.Status{Class: 4, Subject: 2}}}}}
		if got := heard(p, m, t0.Add(time.Hour)); got != c.want {
			t.Errorf("NOTIFY=%v: %q, want %q", c.notify, got, c.want)
		}
	}
}

// RFC 3461 5.2.8: "the DSN SHOULD NOT contain information for recipients for whom DSNs
// would not otherwise have been issued."
func TestReportNamesNobodyElse(t *testing.T) {
	m := &postrider.Message{From: smtp.Path{Local: "a", Domain: "x"}, Arrived: t0, Recipients: []postrider.Recipient{
		{To: smtp.Path{Local: "asked", Domain: "x"}, State: postrider.Failed, Reply: refused.Reply},
		{To: smtp.Path{Local: "never", Domain: "x"}, Notify: smtp.NotifyNever, State: postrider.Failed, Reply: refused.Reply},
		{To: smtp.Path{Local: "success", Domain: "x"}, Notify: smtp.NotifySuccess, State: postrider.Failed, Reply: refused.Reply},
		{To: smtp.Path{Local: "had it", Domain: "x"}, State: postrider.Delivered, Reported: true},
		{To: smtp.Path{Local: "waits", Domain: "x"}, Tries: 1},
	}}
	l := lookAt(Plan{}.withDefaults(), m, []int{0, 1, 2, 3, 4}, t0, func(int) wait { return waitTurn })
	if len(l.report) != 1 || l.report[0].Final.Local != "asked" {
		t.Errorf("told of %+v", l.report)
	}
}

// RFC 3461 5.2.7.3 (c): "If the original NOTIFY parameter for the alias contained the
// SUCCESS keyword, an "expanded" DSN is issued for the alias." It comes soon, whatever
// becomes of the addresses that the alias stands for.
func TestExpansionIsTold(t *testing.T) {
	m := &postrider.Message{From: smtp.Path{Local: "a", Domain: "x"}, Arrived: t0, Recipients: []postrider.Recipient{
		{To: smtp.Path{Local: "team", Domain: "x"}, Notify: smtp.NotifySuccess, State: postrider.Delivered, Expanded: true, Settled: t0, Reply: smtp.OK},
		{To: smtp.Path{Local: "b", Domain: "x"}},
	}}
	if got := heard(Plan{}.withDefaults(), m, t0); got != "expanded 2.0.0" {
		t.Errorf("told %q", got)
	}
	if got := (Plan{}).FirstWake(m).Sub(t0); got != gatherMax {
		t.Errorf("looked at after %v", got)
	}
}

// byMessage has a message that came at t0 with BY.
func byMessage(b smtp.DeliverBy, n smtp.Notify) *postrider.Message {
	return &postrider.Message{From: smtp.Path{Local: "a", Domain: "x"}, Arrived: t0, By: b, Recipients: []postrider.Recipient{{Notify: n}}}
}

// RFC 2852 4.1.4: who hears that mail with BY was relayed.
func TestRelayedWithBy(t *testing.T) {
	known := toConforming
	known.PeerHasBy = true
	trace := smtp.DeliverBy{Seconds: 120, Mode: smtp.ByReturn, Trace: true}
	notify := smtp.DeliverBy{Seconds: 120, Mode: smtp.ByNotify}
	for _, c := range []struct {
		name   string
		by     smtp.DeliverBy
		notify smtp.Notify
		o      postrider.Outcome
		after  time.Duration
		want   string
	}{
		{"T: a word of each relay", trace, 0, known, time.Second, "relayed 2.0.0 mx"},
		{"T: whatever NOTIFY says", trace, smtp.NotifyFailure, known, time.Second, "relayed 2.0.0 mx"},
		{"T: but NEVER", trace, smtp.NotifyNever, known, time.Second, ""},
		{"T: into a mailbox it is delivered", trace, 0, toMailbox, time.Second, ""},
		{"T: into a mailbox it is delivered, and told", trace, smtp.NotifySuccess, toMailbox, time.Second, "delivered 2.0.0"},
		{"N: to one that knows it", notify, 0, known, time.Second, ""},
		{"N: to one that does not", notify, 0, toConforming, time.Second, "relayed 2.0.0 mx"},
		{"N: to one that does not, NEVER", notify, smtp.NotifyNever, toOther, time.Second, ""},
		{"N: to one that does not, when it is over", notify, 0, toOther, time.Hour, "delayed 4.4.7"},
		{"N: to one that does not, when it is over, no DELAY", notify, smtp.NotifyFailure, toOther, time.Hour, ""},
		{"none", smtp.DeliverBy{}, 0, toOther, time.Second, ""},
	} {
		if got := told(t, byMessage(c.by, c.notify), c.o, t0.Add(c.after)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// RFC 2852 4.1.3: what becomes of mail whose time is over.
func TestDeadline(t *testing.T) {
	p := DefaultPlan()
	ret, notify := smtp.DeliverBy{Seconds: 120, Mode: smtp.ByReturn}, smtp.DeliverBy{Seconds: 120, Mode: smtp.ByNotify}
	over := smtp.DeliverBy{Seconds: -5, Mode: smtp.ByNotify}
	for _, c := range []struct {
		name   string
		by     smtp.DeliverBy
		notify smtp.Notify
		tries  int
		after  time.Duration
		want   string
	}{
		{"R: not yet", ret, 0, 1, 119 * time.Second, ""},
		{"R: over", ret, 0, 1, 2 * time.Minute, "failed 5.4.7"},
		{"R: over, and never tried", ret, 0, 0, 2 * time.Minute, "failed 5.4.7"},
		{"R: over, FAILURE", ret, smtp.NotifyFailure, 1, 2 * time.Minute, "failed 5.4.7"},
		{"R: over, no FAILURE", ret, smtp.NotifyDelay, 1, 2 * time.Minute, ""},
		{"N: not yet", notify, 0, 1, 119 * time.Second, ""},
		{"N: over", notify, 0, 1, 2 * time.Minute, "delayed 4.4.7"},
		{"N: over, and never tried", notify, 0, 0, 2 * time.Minute, "delayed 4.4.7"},
		{"N: over, DELAY", notify, smtp.NotifyDelay, 1, 2 * time.Minute, "delayed 4.4.7"},
		{"N: over, no DELAY", notify, smtp.NotifyFailure, 1, 2 * time.Minute, ""},
		{"N: over, NEVER", notify, smtp.NotifyNever, 1, 2 * time.Minute, ""},
		{"N: over before it came", over, 0, 1, 2 * time.Minute, ""},
	} {
		m := byMessage(c.by, c.notify)
		m.Recipients[0].Tries = c.tries
		if c.tries > 0 {
			m.Recipients[0].Reply = greylist.Reply
		}
		now, wake := t0.Add(c.after), p.FirstWake(m)
		if got := heard(p, m, now); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if c.want == "delayed 4.4.7" {
			m.Recipients[0].Delayed = true
			if got := heard(p, m, now.Add(time.Hour)); got != "" {
				t.Errorf("%s: told twice: %q", c.name, got)
			}
		}
		if by, _ := deadline(m); c.want != "" && !wake.Equal(by) {
			t.Errorf("%s: looked at after %v", c.name, wake.Sub(t0))
		}
	}
}

// notYet is a peer that wants all but reports later.
func notYet(to smtp.Path) postrider.Outcome {
	if to.Local == "alice" {
		return ok
	}
	return greylist
}

// RFC 2852 4.1.3: "no further delivery attempts may be made", and until then they are.
func TestNoAttemptAfterDeadline(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = notYet
		b.sendAs(func(m *postrider.Message) { m.By = smtp.DeliverBy{Seconds: 300, Mode: smtp.ByReturn} }, "bob@x.example")
		b.until(time.Hour)
		b.want("0s x.example bob", "1m0s x.example bob", "5m0s home.example alice")
		b.wantTold("bob failed 5.4.7")
	})
}

// RFC 4865 4.2 (5), (6): a message is not released before its time, and ages from then.
func TestFutureRelease(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = notYet
		b.sendAs(func(m *postrider.Message) {
			m.Release = m.Arrived.Add(48 * time.Hour)
			m.HoldFor = 48 * time.Hour
			m.Recipients[0].Due = m.Release
			m.Recipients[0].Notify = smtp.NotifyDelay
		}, "bob@x.example")
		b.until(48*time.Hour + 2*time.Minute)
		b.want("48h0m0s x.example bob", "48h1m0s x.example bob")
		b.wantTold()
		b.until(48*time.Hour + 9*time.Minute)
		b.wantTold("bob delayed 4.7.1")
	})
}

// An operator's retry does not release what waits by order of its sender.
func TestFutureReleaseIsNotHurried(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.sendAs(func(m *postrider.Message) { m.Release = m.Arrived.Add(time.Hour) }, "bob@x.example") // due at once
		b.until(59 * time.Minute)
		b.want()
		b.until(61 * time.Minute)
		b.want("1h0m0s x.example bob")
	})
}

// RFC 6710 4.6: the report has "the priority value of the message".
func TestReportHasPriority(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Local == "alice" {
				return greylist
			}
			return refused
		}
		b.sendAs(func(m *postrider.Message) { m.Priority = -7 }, "bob@x.example")
		b.until(time.Minute)
		found := false
		for _, e := range b.spool.msgs {
			found = found || e.m.Null() && e.m.Priority == -7
		}
		if !found {
			b.t.Error("no report of that priority")
		}
	})
}

// RFC 3461 6.1: a report has the null reverse-path, goes to that of the message, and has
// no RET; of NOTIFY its "value MUST be NEVER".
func TestEnvelopeOfReport(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(to smtp.Path) postrider.Outcome {
			if to.Local == "alice" {
				return greylist
			}
			return refused
		}
		b.sendAs(func(m *postrider.Message) { m.Ret = smtp.RetFull }, "FAILURE:bob@x.example")
		b.until(time.Minute)
		if len(b.spool.msgs) != 1 {
			t.Fatalf("%d messages wait, want the report", len(b.spool.msgs))
		}
		for _, e := range b.spool.msgs {
			r := e.m.Recipients
			if !e.m.Null() || e.m.Ret != smtp.RetUnset || e.m.EnvID != "" || len(r) != 1 ||
				r[0].To.String() != "alice@home.example" || r[0].Notify != smtp.NotifyNever || r[0].ORcpt != "" {
				t.Errorf("the envelope is %+v", e.m)
			}
		}
	})
}

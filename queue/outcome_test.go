package queue

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

func status(c uint8, s, d uint16) smtp.Status { return smtp.Status{Class: c, Subject: s, Detail: d} }

func TestChange(t *testing.T) {
	p := Plan{Retry: []time.Duration{time.Minute}, Expire: time.Hour, ExpireBounce: time.Minute}.withDefaults()
	now := t0.Add(10 * time.Minute)
	alice := smtp.Path{Local: "alice", Domain: "home.example"}
	busy := smtp.Reply{Code: 421, Status: status(4, 3, 2), Text: "busy"}
	gone := smtp.Reply{Code: 550, Status: status(5, 1, 1), Text: "gone"}
	for _, tc := range []struct {
		name    string
		from    smtp.Path
		arrived time.Time
		rcpt    postrider.Recipient
		o       postrider.Outcome
		want    postrider.Change
	}{
		{"the zero outcome is tried again", alice, t0, postrider.Recipient{}, postrider.Outcome{},
			postrider.Change{Due: now.Add(time.Minute), Tries: 1, Reply: unknown}},
		{"deferred", alice, t0, postrider.Recipient{Tries: 3, Delayed: true}, postrider.Outcome{Reply: busy, Remote: "mx"},
			postrider.Change{Due: now.Add(time.Minute), Tries: 4, Delayed: true, Reply: busy, Remote: "mx"}},
		{"uncertain is tried again", alice, t0, postrider.Recipient{}, postrider.Outcome{Uncertain: "mx", Reply: busy},
			postrider.Change{Due: now.Add(time.Minute), Tries: 1, Reply: busy, Uncertain: "mx"}},
		{"uncertain, and then deferred by another", alice, t0, postrider.Recipient{Uncertain: "mx"}, postrider.Outcome{Reply: busy},
			postrider.Change{Due: now.Add(time.Minute), Tries: 1, Reply: busy, Uncertain: "mx"}},
		{"uncertain, and then delivered", alice, t0, postrider.Recipient{Uncertain: "mx"}, postrider.Outcome{Result: postrider.ResultDelivered},
			postrider.Change{State: postrider.Delivered, Reported: true, Settled: now, Tries: 1, Reply: smtp.OK}},
		{"delivered", alice, t0, postrider.Recipient{}, postrider.Outcome{Result: postrider.ResultDelivered, Remote: "mx"},
			postrider.Change{State: postrider.Delivered, Reported: true, Settled: now, Tries: 1, Reply: smtp.OK, Remote: "mx"}},
		{"delivered, told by the peer", alice, t0, postrider.Recipient{Notify: smtp.NotifySuccess},
			postrider.Outcome{Result: postrider.ResultDelivered, PeerHasDSN: true},
			postrider.Change{State: postrider.Delivered, Reported: true, Settled: now, Tries: 1, Reply: smtp.OK, RelayedTo: true}},
		{"delivered, to be told", alice, t0, postrider.Recipient{Notify: smtp.NotifySuccess | smtp.NotifyFailure},
			postrider.Outcome{Result: postrider.ResultDelivered},
			postrider.Change{State: postrider.Delivered, Settled: now, Tries: 1, Reply: smtp.OK}},
		{"failed", alice, t0, postrider.Recipient{}, postrider.Outcome{Result: postrider.ResultFailed, Reply: gone},
			postrider.Change{State: postrider.Failed, Settled: now, Tries: 1, Reply: gone}},
		{"failed, NOTIFY=NEVER", alice, t0, postrider.Recipient{Notify: smtp.NotifyNever}, postrider.Outcome{Result: postrider.ResultFailed, Reply: gone},
			postrider.Change{State: postrider.Failed, Reported: true, Settled: now, Tries: 1, Reply: gone}},
		{"failed, NOTIFY=DELAY", alice, t0, postrider.Recipient{Notify: smtp.NotifyDelay}, postrider.Outcome{Result: postrider.ResultFailed, Reply: gone},
			postrider.Change{State: postrider.Failed, Reported: true, Settled: now, Tries: 1, Reply: gone}},
		{"failed, null reverse-path", smtp.Path{}, t0, postrider.Recipient{}, postrider.Outcome{Result: postrider.ResultFailed, Reply: gone},
			postrider.Change{State: postrider.Failed, Reported: true, Settled: now, Tries: 1, Reply: gone}},
		{"failed for no reason", alice, t0, postrider.Recipient{}, postrider.Outcome{Result: postrider.ResultFailed},
			postrider.Change{State: postrider.Failed, Settled: now, Tries: 1,
				Reply: smtp.Reply{Code: 554, Status: status(5, 0, 0), Text: "The attempt failed without a reason"}}},
		{"too old", alice, now.Add(-time.Hour), postrider.Recipient{Tries: 8}, postrider.Outcome{Reply: busy, Remote: "mx"},
			postrider.Change{State: postrider.Failed, Settled: now, Tries: 9, Remote: "mx",
				Reply: smtp.Reply{Code: 554, Status: status(5, 4, 7), Text: expiredWords + "\n421 4.3.2 busy"}}},
		{"too old for a report", smtp.Path{}, t0, postrider.Recipient{}, postrider.Outcome{Reply: busy},
			postrider.Change{State: postrider.Failed, Reported: true, Settled: now, Tries: 1,
				Reply: smtp.Reply{Code: 554, Status: status(5, 4, 7), Text: expiredWords + "\n421 4.3.2 busy"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &postrider.Message{From: tc.from, Arrived: tc.arrived, Recipients: []postrider.Recipient{tc.rcpt}}
			if diff := cmp.Diff(tc.want, change(p, m, 0, tc.o, now, 0)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A report tells 5.4.7 and, beside it, the last answer as the peer said it.
func TestLastAnswer(t *testing.T) {
	for _, last := range []smtp.Reply{
		{Code: 421, Status: status(4, 3, 2), Text: "busy"},
		{Code: 450, Text: "busy at 4.3.2"},
		{Code: 450, Status: status(4, 0, 0)},
		{Code: 451, Status: status(4, 7, 1), Text: "one\ntwo"},
		{Code: 450},
	} {
		s, got := lastAnswer(expired(last))
		if s != statusExpired || got != last {
			t.Errorf("of %+v: %v %+v", last, s, got)
		}
	}
	if s, got := lastAnswer(expired(smtp.Reply{})); s != statusExpired || got != neverTried {
		t.Errorf("never tried: %v %+v", s, got)
	}
	gone := smtp.Reply{Code: 550, Status: status(5, 1, 1), Text: "gone"}
	if s, got := lastAnswer(gone); s != gone.Status || got != gone {
		t.Errorf("of %+v: %v %+v", gone, s, got)
	}
}

func TestSpeaksOf(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    []postrider.Outcome
		want verdict
	}{
		{"nothing", nil, verdictNone},
		{"unknown", make([]postrider.Outcome, 2), verdictNone},
		{"nobody there", []postrider.Outcome{{}, nobody}, verdictDead},
		{"greylisted", []postrider.Outcome{greylist}, verdictAlive},
		{"one got through", []postrider.Outcome{nobody, ok}, verdictAlive},
		{"no such domain", []postrider.Outcome{{Result: postrider.ResultFailed, Scope: postrider.ScopeDest}}, verdictAlive},
		{"every host said 421", []postrider.Outcome{{Scope: postrider.ScopeDest, Remote: "mx"}}, verdictDead},
	} {
		if got := speaksOf(tc.o).verdict; got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

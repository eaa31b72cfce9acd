package queue

import (
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// While the clock is in doubt mail is as much younger as it may be: whatever ends it, or
// has its sender hear that it is late, comes later by as much. That is of the mail of
// people, of reports, and of what has BY (RFC 2852).
func TestDoubtIsOfEveryAge(t *testing.T) {
	const doubt = 24 * time.Hour
	p := Plan{Expire: 5 * time.Hour, ExpireBounce: 2 * time.Hour, DelayNotice: time.Hour}.withDefaults()
	alice := smtp.Path{Local: "alice", Domain: "home.example"}
	for _, tc := range []struct {
		name      string
		from      smtp.Path
		by        smtp.DeliverBy
		end, late time.Duration // after it came, without a doubt; late 0: nobody hears
	}{
		{"of a person", alice, smtp.DeliverBy{}, 5 * time.Hour, time.Hour},
		{"a report", smtp.Path{}, smtp.DeliverBy{}, 2 * time.Hour, 0},
		{"BY=n;R", alice, smtp.DeliverBy{Seconds: 600, Mode: smtp.ByReturn}, 10 * time.Minute, time.Hour},
		{"BY=n;N", alice, smtp.DeliverBy{Seconds: 600, Mode: smtp.ByNotify}, 5 * time.Hour, 10 * time.Minute},
		{"a report, BY=n;R", smtp.Path{}, smtp.DeliverBy{Seconds: 600, Mode: smtp.ByReturn}, 10 * time.Minute, 0},
	} {
		m := &postrider.Message{From: tc.from, Arrived: t0, By: tc.by, Recipients: []postrider.Recipient{{Notify: smtp.NotifyDelay | smtp.NotifyFailure}}}
		for _, by := range []time.Duration{0, doubt} {
			q := p.older(by).For(m)
			if got := endOf(q, m).Sub(t0); got != tc.end+by {
				t.Errorf("%s, in doubt by %v: ends after %v, want %v", tc.name, by, got, tc.end+by)
			}
			late, hears := lateAt(q, m, &m.Recipients[0])
			if got := late.Sub(t0); hears != (tc.late > 0) || hears && got != tc.late+by {
				t.Errorf("%s, in doubt by %v: late after %v, and told: %v; want %v", tc.name, by, got, hears, tc.late+by)
			}
		}
	}
	if q := (Plan{DelayNotice: -1}).withDefaults().older(doubt); q.DelayNotice > 0 {
		t.Errorf("nobody was to hear of a delay, and now it is told after %v", q.DelayNotice)
	}
}

// A clock that jumps a day ahead and comes back ends no report either: nobody would hear
// that the one it is for has not heard.
func TestClockAheadEndsNoReports(t *testing.T) {
	onSpool(t, Limits{}, func(s *site) {
		s.answer = func(to smtp.Path) postrider.Outcome {
			if to.Local == "bob" {
				return refused
			}
			if to.Domain == "home.example" && time.Since(s.start) < 8*time.Minute {
				return greylist
			}
			return ok
		}
		s.send("bob@x.example")
		s.until(3 * time.Minute) // the report waits
		s.jump(24 * time.Hour)
		s.until(7 * time.Minute)
		s.jump(0)
		s.until(20 * time.Minute) // it lives for 12, and has 10 more for an attempt that is due
		s.mu.Lock()
		at := s.attempts[len(s.attempts)-1]
		s.mu.Unlock()
		for m, err := range s.spool.Scan(t.Context()) {
			t.Errorf("still there: %+v, %v", m, err)
		}
		if took, err := time.ParseDuration(at[:len(at)-len(" home.example")]); err != nil || took < 8*time.Minute {
			t.Errorf("the last attempt at the report was at %s", at)
		}
	})
}

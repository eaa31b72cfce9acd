package queue

import (
	"testing"
	"time"

	"github.com/postrider/postrider/smtp"
)

// RFC 2852 4.1: a by-time "does not extend the MTA's normal message retention period".
func TestRetentionBeforeDeadline(t *testing.T) {
	p := Plan{Expire: time.Hour, DelayNotice: -1}.withDefaults()
	m := byMessage(smtp.DeliverBy{Seconds: 7200, Mode: smtp.ByReturn}, 0)
	m.Recipients[0].Tries, m.Recipients[0].Reply = 1, greylist.Reply
	if got := heard(p, m, t0.Add(time.Hour-time.Second)); got != "" {
		t.Errorf("before its end: %q", got)
	}
	if got := heard(p, m, t0.Add(time.Hour+lastChance)); got != "failed 5.4.7" {
		t.Errorf("after it: %q", got)
	}
}

// RFC 2852 4.1.2: what fails for good before its time is told like all else that does.
func TestFailedBeforeDeadline(t *testing.T) {
	for _, mode := range []smtp.ByMode{smtp.ByReturn, smtp.ByNotify} {
		for n, want := range map[smtp.Notify]string{
			0: "failed 5.1.1 mx", smtp.NotifyFailure: "failed 5.1.1 mx", smtp.NotifyDelay: "", smtp.NotifyNever: "",
		} {
			m := byMessage(smtp.DeliverBy{Seconds: 120, Mode: mode}, n)
			if got := told(t, m, toNobody, t0.Add(time.Second)); got != want {
				t.Errorf("%c, NOTIFY=%v: %q, want %q", mode, n, got, want)
			}
		}
	}
}

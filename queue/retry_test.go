package queue

import (
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

var t0 = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestNext(t *testing.T) {
	p := Plan{Retry: []time.Duration{time.Minute, 10 * time.Minute}, Expire: time.Hour}
	for _, tc := range []struct {
		now    time.Duration // after arrival
		tries  int
		jitter float64
		want   time.Duration // after arrival; negative: no more
	}{
		{0, 1, 0, time.Minute},
		{0, 0, 0, time.Minute}, // never, but no reason to crash
		{time.Minute, 2, 0, 11 * time.Minute},
		{11 * time.Minute, 3, 0, 21 * time.Minute},
		{11 * time.Minute, 99, 0, 21 * time.Minute},
		{0, 2, 1, 11 * time.Minute},
		{0, 2, -1, 9 * time.Minute},
		{0, 2, 50, 11 * time.Minute},
		{50 * time.Minute, 5, 0, time.Hour},
		{55 * time.Minute, 5, 0, time.Hour}, // the last attempt is at the end, not after it
		{55 * time.Minute, 5, 1, time.Hour},
		{time.Hour - 1, 9, 0, time.Hour},
		{time.Hour, 9, 0, -1},
		{48 * time.Hour, 1, 0, -1},
		{-24 * time.Hour, 1, 0, -24*time.Hour + time.Minute}, // the clock was set back
	} {
		got, ok := p.Next(t0.Add(time.Hour), t0.Add(tc.now), tc.tries, tc.jitter)
		if want := t0.Add(tc.want); ok != (tc.want >= 0 || tc.now < 0) || ok && !got.Equal(want) {
			t.Errorf("Next(now %v, tries %d, jitter %v) = %v, %v", tc.now, tc.tries, tc.jitter, got.Sub(t0), ok)
		}
	}
}

func TestPlanDefaults(t *testing.T) {
	p := Plan{Expire: time.Hour}.withDefaults()
	if p.Expire != time.Hour || p.ExpireBounce != time.Hour || p.DelayNotice != 4*time.Hour || len(p.Retry) != 7 {
		t.Errorf("%+v", p)
	}
	// RFC 5321 4.5.4.1: "the give-up time generally needs to be at least 4-5 days"
	if d := (Plan{}).withDefaults(); d.Expire < 4*24*time.Hour {
		t.Errorf("gives up after %v", d.Expire)
	}
}

func TestFirstWake(t *testing.T) {
	p := Plan{Expire: 5 * time.Hour, ExpireBounce: 2 * time.Hour, DelayNotice: time.Hour}
	alice := smtp.Path{Local: "alice", Domain: "home.example"}
	for _, tc := range []struct {
		from   smtp.Path
		notify smtp.Notify
		plan   Plan
		want   time.Duration
	}{
		{alice, 0, p, 5 * time.Hour},
		{alice, smtp.NotifyDelay, p, time.Hour},
		{alice, smtp.NotifyDelay, Plan{Expire: 5 * time.Hour, DelayNotice: -1}, 5 * time.Hour},
		{alice, smtp.NotifyFailure, p, 5 * time.Hour},
		{smtp.Path{}, smtp.NotifyDelay, p, 2 * time.Hour},
	} {
		m := &postrider.Message{From: tc.from, Arrived: t0, Recipients: []postrider.Recipient{{}, {Notify: tc.notify}}}
		if got := tc.plan.FirstWake(m).Sub(t0); got != tc.want {
			t.Errorf("from <%v> notify %v: %v, want %v", tc.from, tc.notify, got, tc.want)
		}
	}
}

// A changed plan holds from the next attempt on.
func TestChangedPlan(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(smtp.Path) postrider.Outcome { return greylist }
		b.send("bob@x.example")
		b.until(time.Minute)
		b.queue.Change(Plan{Retry: []time.Duration{2 * time.Minute}, Expire: 10 * time.Minute, DelayNotice: -1}, smtp.Path{})
		b.until(8 * time.Minute)
		b.want("0s x.example bob", "1m0s x.example bob", "6m0s x.example bob", "8m0s x.example bob")
	})
}

// Who hears that mail is late.
func TestWantsDelay(t *testing.T) {
	p := DefaultPlan()
	from := smtp.Path{Local: "a", Domain: "x.example"}
	account := postrider.Source{Account: "a@x.example"}
	for _, tc := range []struct {
		name string
		m    postrider.Message
		r    postrider.Recipient
		want bool
	}{
		{"a stranger", postrider.Message{From: from}, postrider.Recipient{}, false},
		{"a stranger who asked", postrider.Message{From: from}, postrider.Recipient{Notify: smtp.NotifyDelay}, true},
		{"an account", postrider.Message{From: from, Source: account}, postrider.Recipient{}, true},
		{"an account that asked for failures", postrider.Message{From: from, Source: account}, postrider.Recipient{Notify: smtp.NotifyFailure}, false},
		{"an account that wants nothing", postrider.Message{From: from, Source: account}, postrider.Recipient{Notify: smtp.NotifyNever}, false},
		{"a list of an account", postrider.Message{From: from, Source: account, Automatic: true}, postrider.Recipient{}, false},
		{"a report", postrider.Message{Source: account}, postrider.Recipient{}, false},
		{"told before", postrider.Message{From: from, Source: account}, postrider.Recipient{Delayed: true}, false},
		{"delivered", postrider.Message{From: from, Source: account}, postrider.Recipient{State: postrider.Delivered}, false},
	} {
		if got := wantsDelay(p, &tc.m, &tc.r); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

package admin

import (
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// What was released past a route that holds it is held no longer: it is shown where it
// goes, and a retry is for it too, and a release is not.
func TestReleasedPastItsRoute(t *testing.T) {
	for verb, want := range map[Verb]string{VerbRetry: "aaa2 dora@held.example queued now", VerbHold: "aaa2 dora@held.example queued now", VerbRelease: ""} {
		s := queue()
		s.messages[1].Recipients[0].Passed = true
		if r := View(s.messages[1], dest, nil, now).Recipients[0]; r.Dest != "mx:held.example" || r.State != StateQueued || r.Next == nil {
			t.Errorf("%+v", r)
		}
		if got := carry(t, options(s), Order{Verb: verb, Filter: Filter{ID: "aaa2"}}); got != want {
			t.Errorf("%s touches %q, want %q", verb, got, want)
		}
	}
}

// What waits by order of its sender (RFC 4865) says so, until it is tried, and until its
// time has come.
func TestSendersOrder(t *testing.T) {
	release := time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC)
	m := &postrider.Message{ID: "x", Release: release, Priority: 3, Recipients: []postrider.Recipient{
		{Due: release}, {Due: release.Add(time.Minute), Tries: 1, Reply: smtp.Reply{Code: 450, Text: "later"}}, {Due: release, Held: true},
	}}
	v := View(m, func(smtp.Path) postrider.Dest { return "mx:x" }, nil, release.Add(-time.Second))
	if v.Release == nil || !v.Release.Equal(release) || v.Priority != 3 || v.State != StateQueued {
		t.Errorf("%+v", v)
	}
	for i, want := range []string{SendersOrder, "450 later", ""} {
		if got := v.Recipients[i].Reply; got != want {
			t.Errorf("recipient %d: %q, want %q", i, got, want)
		}
	}
	if v.Recipients[0].State != StateQueued || !v.Recipients[0].Next.Equal(release) {
		t.Errorf("%+v", v.Recipients[0])
	}
	if v := View(m, func(smtp.Path) postrider.Dest { return "mx:x" }, nil, release); v.Recipients[0].Reply != "" || v.Recipients[0].State != StateQueued {
		t.Errorf("the time has come: %+v", v.Recipients[0])
	}
	if v := View(&postrider.Message{Recipients: []postrider.Recipient{{}}}, func(smtp.Path) postrider.Dest { return "" }, nil, release); v.Release != nil || v.Recipients[0].Reply != "" {
		t.Errorf("%+v", v)
	}
}

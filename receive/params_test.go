package receive

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// slowly keeps a message with these parameters whose content takes so long to come.
func slowly(t *testing.T, p smtp.MailParams, took time.Duration) *postrider.Message {
	t.Helper()
	spool := &memSpool{}
	o := options(spool)
	now := clock
	o.Now = func() time.Time { return now }
	content := io.MultiReader(strings.NewReader("Subject: x\r\n\r\n"), at(func() { now = now.Add(took) }), strings.NewReader("x\r\n"))
	if r := send(t, start(t, o), p, content); !r.Positive() {
		t.Fatal(r)
	}
	k, _ := spool.last()
	return k.message
}

// An at is an empty reader that does something when it is read.
type at func()

func (f at) Read([]byte) (int, error) { f(); return 0, io.EOF }

// RFC 2852 4: the deliver-by-time comes "by adding the by-time upon receipt to the current
// locale-specific time", and that is MAIL's. So what is kept with the message, which is
// counted from its end, is less by the seconds that the content took. With a by-mode of R
// "a negative or zero value is not allowed"; and who is to hear that it is late hears it
// from us, once it is.
func TestByCountsFromMail(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		by   int32
		mode smtp.ByMode
		took time.Duration
		want int32
	}{
		{3600, smtp.ByReturn, 0, 3600},
		{3600, smtp.ByNotify, 999 * time.Millisecond, 3600},
		{3600, smtp.ByReturn, time.Second, 3599},
		{3600, smtp.ByReturn, 4 * time.Second, 3596},
		{3600, smtp.ByNotify, 4900 * time.Millisecond, 3596},
		{3600, smtp.ByNotify, time.Hour - time.Second, 1},
		{3600, smtp.ByReturn, time.Hour, 1},
		{3600, smtp.ByNotify, 2 * time.Hour, 1},
		{3600, smtp.ByReturn, 2 * time.Hour, 1},
		{0, smtp.ByNotify, time.Second, -1},
		{-60, smtp.ByNotify, 4 * time.Second, -64},
		{999_999_999, smtp.ByReturn, time.Minute, 999_999_939},
		{999_999_999, smtp.ByReturn, day, 999_999_999 - 86_400},
		{0, 0, time.Hour, 0}, // nobody asked
	} {
		m := slowly(t, smtp.MailParams{By: smtp.DeliverBy{Seconds: c.by, Mode: c.mode, Trace: c.mode != 0}}, c.took)
		if want := (smtp.DeliverBy{Seconds: c.want, Mode: c.mode, Trace: c.mode != 0}); m.By != want {
			t.Errorf("BY=%d of mode %c, whose content took %v, is kept as %+v, want %+v", c.by, c.mode, c.took, m.By, want)
		}
	}
}

// RFC 4865 4.2 (5) and (6): a server that accepts HOLDFOR or HOLDUNTIL "MUST NOT release
// the message until" that time, be it a second away. What was over before the content had
// come holds nothing.
func TestEveryHoldIsKept(t *testing.T) {
	for _, hold := range []time.Duration{time.Second, 10 * time.Second, time.Minute, 10*time.Minute - time.Second, 10 * time.Minute, 10*time.Minute + time.Second,
		time.Hour, 30 * 24 * time.Hour, 999_999_999 * time.Second} {
		for _, took := range []time.Duration{0, hold - time.Second, hold, hold + time.Second} {
			release, due := clock.Add(hold), clock.Add(hold)
			if took >= hold {
				release, due = time.Time{}, clock.Add(took)
			}
			for _, p := range []smtp.Hold{{For: hold}, {Until: clock.Add(hold)}} {
				m := slowly(t, smtp.MailParams{Hold: p}, took)
				if !m.Release.Equal(release) || !m.Recipients[0].Due.Equal(due) || took < hold && m.HoldFor != p.For {
					t.Errorf("HOLDFOR=%v HOLDUNTIL=%v, whose content took %v: released %v, HOLDFOR=%v, due %v", p.For, p.Until, took, m.Release, m.HoldFor, m.Recipients[0].Due)
				}
			}
		}
	}
}

// RFC 7293 5.1: "Ignore the parameter if the named mailbox is known to be a role account".
// Such names are the same without case, and quotes change no name.
func TestRolesHaveNoOwner(t *testing.T) {
	p := smtp.RcptParams{RRVS: smtp.RRVS{Since: clock}}
	s := &session{o: &New(Options{}).o}
	for local, want := range map[string]int{"abuse": 0, "Abuse": 0, "POSTMASTER": 0, `"webmaster"`: 0, "alice": 550, "abuser": 550} {
		if r := s.owned(smtp.Path{Local: local, Domain: "our.example"}, p); r.Code != want {
			t.Errorf("%s: %v, want %d", local, r, want)
		}
	}
}

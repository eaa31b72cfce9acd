package queue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/postrider/postrider"
	"github.com/postrider/postrider/dsn"
	"github.com/postrider/postrider/smtp"
)

// A lookCase is a message under a Wake lease, and what is to become of it.
type lookCase struct {
	name    string
	from    smtp.Path
	rcpts   []postrider.Recipient
	lease   []int
	min     int // minutes after arrival
	waits   func(int) wait
	changes string // "index state flags", comma separated
	report  string
	wake    int // minutes after arrival; 0: none
}

func lookCases() []lookCase {
	alice := smtp.Path{Local: "alice", Domain: "home.example"}
	waiting := postrider.Recipient{Tries: 1, Reply: greylist.Reply}
	untried := postrider.Recipient{}
	dueAt := func(min time.Duration) postrider.Recipient {
		return postrider.Recipient{Tries: 1, Reply: greylist.Reply, Due: t0.Add(min * time.Minute)}
	}
	late := postrider.Recipient{Tries: 1, Notify: smtp.NotifyDelay | smtp.NotifyFailure}
	warned := late
	warned.Delayed = true
	quiet := postrider.Recipient{Tries: 1, Notify: smtp.NotifyNever}
	failed := postrider.Recipient{State: postrider.Failed, Settled: t0, Reply: refused.Reply, Tries: 1}
	hadIt := postrider.Recipient{State: postrider.Delivered, Final: true, Settled: t0, Reported: true}
	success := postrider.Recipient{State: postrider.Delivered, Final: true, Settled: t0, Notify: smtp.NotifySuccess}
	all := func(w wait) func(int) wait { return func(int) wait { return w } }
	return []lookCase{
		{"nothing to do", alice, []postrider.Recipient{waiting}, []int{0}, 10, all(waitTurn), "", "", 100},
		{"a failure is told", alice, []postrider.Recipient{failed, waiting}, []int{0, 1}, 10, all(waitTurn), "0 failed R", "0 failed 5.1.1", 100},
		{"what others hold is left", alice, []postrider.Recipient{failed, waiting}, []int{1}, 10, all(waitTurn), "", "", 100},
		{"failure and success in one", alice, []postrider.Recipient{failed, hadIt, success, failed}, []int{0, 2, 3}, 10, all(waitTurn),
			"0 failed R,2 delivered R,3 failed R", "0 failed 5.1.1,2 delivered 2.0.0,3 failed 5.1.1", 0},
		{"the null path hears nothing", smtp.Path{}, []postrider.Recipient{failed, late}, []int{0, 1}, 40, all(waitTurn), "0 failed R", "", 50},
		{"not late yet", alice, []postrider.Recipient{late}, []int{0}, 29, all(waitTurn), "", "", 30},
		{"late", alice, []postrider.Recipient{late, waiting}, []int{0, 1}, 30, all(waitTurn), "0 waiting D", "0 delayed 4.0.0", 100},
		{"late, but never tried", alice, []postrider.Recipient{{Notify: smtp.NotifyDelay}}, []int{0}, 30, all(waitTurn), "", "", 40},
		{"late, and nobody answers", alice, []postrider.Recipient{{Notify: smtp.NotifyDelay}}, []int{0}, 30, all(waitDead), "0 waiting D", "0 delayed 4.0.0", 100},
		{"late, and told before", alice, []postrider.Recipient{warned}, []int{0}, 31, all(waitTurn), "", "", 100},
		{"late, and under way", alice, []postrider.Recipient{late}, nil, 31, all(waitTurn), "", "", 41},
		{"late, and on hold", alice, []postrider.Recipient{late}, []int{0}, 31, all(waitHeld), "", "", 31 + 4*60},
		{"at the end the last attempt comes first", alice, []postrider.Recipient{waiting}, []int{0}, 100, all(waitTurn), "", "", 110},
		{"after the end", alice, []postrider.Recipient{waiting}, []int{0}, 110, all(waitTurn), "0 failed R", "0 failed 5.4.7", 0},
		{"after the end, in a queue that has just begun", alice, []postrider.Recipient{waiting}, []int{0}, 110, all(waitNew), "", "", 120},
		{"after the end, in such a queue, and nobody answers", alice, []postrider.Recipient{waiting}, []int{0}, 110, all(waitDead), "0 failed R", "0 failed 5.4.7", 0},
		{"after the end, and due since", alice, []postrider.Recipient{dueAt(200)}, []int{0}, 259, all(waitTurn), "", "", 269},
		{"after the end, and due since long", alice, []postrider.Recipient{dueAt(200)}, []int{0}, 260, all(waitTurn), "0 failed R", "0 failed 5.4.7", 0},
		{"after the end, due since, and nobody answered before", alice, []postrider.Recipient{dueAt(200)}, []int{0}, 209, all(waitDead), "", "", 219},
		{"after the end, due since, and nobody answers", alice, []postrider.Recipient{dueAt(200)}, []int{0}, 210, all(waitDead), "0 failed R", "0 failed 5.4.7", 0},
		{"after the end, and due at it", alice, []postrider.Recipient{dueAt(100)}, []int{0}, 110, all(waitTurn), "0 failed R", "0 failed 5.4.7", 0},
		{"after the end, NOTIFY=NEVER", alice, []postrider.Recipient{quiet}, []int{0}, 110, all(waitTurn), "0 failed R", "", 0},
		{"at the end, nobody answers", alice, []postrider.Recipient{waiting, untried}, []int{0, 1}, 100, all(waitDead),
			"0 failed R,1 failed R", "0 failed 5.4.7,1 failed 5.4.7", 0},
		{"after the end, never tried", alice, []postrider.Recipient{untried}, []int{0}, 9999, all(waitTurn), "", "", 9999 + 10},
		{"after the end, never tried, and turns come", alice, []postrider.Recipient{untried}, []int{0}, 99 + 24*60, all(waitLong), "", "", 99 + 24*60 + 10},
		{"after the end, no turn came", alice, []postrider.Recipient{untried}, []int{0}, 100 + 24*60, all(waitLong), "0 failed R", "0 failed 5.4.7", 0},
		{"after the end, and due for less than a day", alice, []postrider.Recipient{{Due: t0.Add(90 * 24 * time.Hour)}}, []int{0}, 91*24*60 - 1, all(waitLong),
			"", "", 91*24*60 - 1 + 10},
		{"after the end, and due for a day", alice, []postrider.Recipient{{Due: t0.Add(90 * 24 * time.Hour)}}, []int{0}, 91 * 24 * 60, all(waitLong),
			"0 failed R", "0 failed 5.4.7", 0},
		{"late, and no turn came", alice, []postrider.Recipient{{Notify: smtp.NotifyDelay}}, []int{0}, 30, all(waitLong), "0 waiting D", "0 delayed 4.0.0", 100},
		{"after the end, on hold", alice, []postrider.Recipient{waiting}, []int{0}, 9999, all(waitHeld), "", "", 9999 + 4*60},
		{"after the end, under way", alice, []postrider.Recipient{waiting}, nil, 110, all(waitTurn), "", "", 120},
		{"a report lives shorter", smtp.Path{}, []postrider.Recipient{waiting}, []int{0}, 60, all(waitTurn), "0 failed R", "", 0},
		{"one held, one expired", alice, []postrider.Recipient{waiting, waiting}, []int{0, 1}, 110,
			func(i int) wait { return []wait{waitHeld, waitTurn}[i] }, "1 failed R", "1 failed 5.4.7", 110 + 4*60},
	}
}

func TestLookAt(t *testing.T) {
	p := Plan{Retry: []time.Duration{time.Minute}, Expire: 100 * time.Minute, ExpireBounce: 50 * time.Minute, DelayNotice: 30 * time.Minute}
	for _, tc := range lookCases() {
		t.Run(tc.name, func(t *testing.T) {
			m := &postrider.Message{From: tc.from, Arrived: t0, Recipients: tc.rcpts}
			for i := range m.Recipients {
				m.Recipients[i].To = smtp.Path{Local: fmt.Sprint(i), Domain: "x.example"}
			}
			l := lookAt(p, m, tc.lease, t0.Add(time.Duration(tc.min)*time.Minute), tc.waits)
			if diff := cmp.Diff(tc.changes, changesText(l.changes)); diff != "" {
				t.Errorf("changes: %s", diff)
			}
			if diff := cmp.Diff(tc.report, reportText(t, l.report)); diff != "" {
				t.Errorf("report: %s", diff)
			}
			wake := time.Time{}
			if tc.wake > 0 {
				wake = t0.Add(time.Duration(tc.wake) * time.Minute)
			}
			if !l.wake.Equal(wake) {
				t.Errorf("wake %v, want %v", l.wake.Sub(t0), wake.Sub(t0))
			}
		})
	}
}

func changesText(changes []postrider.Change) string {
	var all []string
	for _, c := range changes {
		flags := ""
		if c.Reported {
			flags += "R"
		}
		if c.Delayed {
			flags += "D"
		}
		all = append(all, fmt.Sprintf("%d %v %s", c.Rcpt, c.State, flags))
	}
	return strings.Join(all, ",")
}

// reportText reads the report back from its text.
func reportText(t *testing.T, rcpts []dsn.Recipient) string {
	if len(rcpts) == 0 {
		return ""
	}
	out, err := dsn.Compose(dsn.Report{ID: "x", ReportingMTA: "mx", To: smtp.Path{Local: "a", Domain: "b"}, Recipients: rcpts})
	if err != nil {
		t.Fatal(err)
	}
	n, err := dsn.Parse(strings.NewReader(string(out.Content)))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range n.Recipients {
		all = append(all, fmt.Sprintf("%s %s %s", r.Final.Local, r.Action, r.Status))
	}
	return strings.Join(all, ",")
}

func TestWakeAfter(t *testing.T) {
	for _, tc := range []struct {
		name    string
		changes []postrider.Change
		want    time.Time
	}{
		{"nothing", nil, time.Time{}},
		{"deferred", []postrider.Change{{}}, time.Time{}},
		{"nothing owed", []postrider.Change{{}, {State: postrider.Delivered, Final: true, Reported: true}}, time.Time{}},
		{"a failure", []postrider.Change{{}, {State: postrider.Failed}}, t0.Add(time.Minute)},
		{"a success", []postrider.Change{{State: postrider.Delivered}}, t0.Add(time.Minute)},
	} {
		if got := wakeAfter(tc.changes, t0); !got.Equal(tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestReportID(t *testing.T) {
	seen := map[postrider.ID]bool{}
	for _, id := range []postrider.ID{"0abc1234500000000000", "0abc1234500000000001", "short"} {
		for n := range 300 {
			r := reportID(id, n)
			if len(r) != 20 || strings.Trim(string(r), "0123456789abcdefghijklmnopqrstuvwxyz") != "" {
				t.Fatalf("reportID(%s, %d) = %q", id, n, r)
			}
			if !strings.HasPrefix(string(id), string(r[:5])) || seen[r] || r != reportID(id, n) {
				t.Errorf("reportID(%s, %d) = %q", id, n, r)
			}
			seen[r] = true
		}
	}
}

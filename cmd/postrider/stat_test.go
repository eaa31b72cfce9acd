package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/admin"
)

// People are shown twenty hosts and told how many more there are; each says how many
// at a time of how many, or when it is tried, or when its rate lets the next go.
func TestHostTable(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)
	slow := admin.Pace{Limit: 2, Most: 20, Running: 1, Reason: "421 too\x1b many", Since: at}
	dead, rated, both := slow, admin.Pace{Limit: 20, Most: 20, Rate: "100/1m", Next: at.Add(time.Second)}, slow
	dead.Probe = at.Add(time.Minute)
	both.Rate, both.Next = "1/1h", at.Add(time.Hour)
	for want, p := range map[string]admin.Pace{
		"2 of 20 at a time, 1 now, since 12:00:00: 421 too? many":                                  slow,
		"tried again at 12:01:00, since 12:00:00: 421 too? many":                                   dead,
		"rate 100/1m: the next at 12:00:01":                                                        rated,
		"2 of 20 at a time, 1 now, since 12:00:00: 421 too? many; rate 1/1h: the next at 13:00:00": both,
	} {
		if got := paceOf(&p); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	var hosts []admin.HostPace
	for i := range 25 {
		hosts = append(hosts, admin.HostPace{Host: fmt.Sprintf("192.0.2.%d:25", i), Pace: slow})
	}
	for n, want := range map[int]string{0: "", 1: "HOST", 20: "192.0.2.19:25", 25: "and 5 more\n"} {
		var out bytes.Buffer
		if err := (&app{stdout: &out}).hostTable(hosts[:n]); err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(out.String(), "\n")
		if !strings.Contains(out.String(), want) || n == 0 && lines != 0 || lines > hostsShown+3 || n <= 20 && strings.Contains(out.String(), "more") {
			t.Errorf("of %d hosts:\n%s", n, out.String())
		}
	}
}

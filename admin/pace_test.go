package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
)

// What is told of a slowed destination and host comes whole to who asks, but for what
// a peer has said: that is fit for a terminal, and no longer than anybody reads.
func TestPaces(t *testing.T) {
	o := options(queue())
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	pace := Pace{Limit: 2, Most: 20, Running: 1, Probe: at, Reason: "421 \x1b[2Jé\r\n" + strings.Repeat("x", 5000), Since: at, Rate: "100/1m", Next: at}
	want := pace
	want.Reason = "421 ?[2Jé? " + strings.Repeat("x", reasonMax-11) + "..."
	var dest postrider.Dest
	for d, err := range (Client{serve{Control(o)}}).Stat(t.Context(), Filter{}) {
		if err != nil || d.Pace != nil {
			t.Errorf("%+v, %v", d, err)
		}
		dest = d.Dest
	}
	for range (Client{serve{Control(o)}}).Hosts(t.Context()) {
		t.Error("a host of which nobody knows")
	}
	o.Paces = func() map[postrider.Dest]Pace { return map[postrider.Dest]Pace{dest: pace} }
	o.Hosts = func() []HostPace {
		return []HostPace{{"192.0.2.1:25", pace}, {"/run/lmtp", Pace{Limit: 1, Most: 1, Rate: "1/1d", Next: at}}}
	}
	seen := false
	for d, err := range (Client{serve{Control(o)}}).Stat(t.Context(), Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if d.Dest == dest {
			if seen = true; d.Pace == nil || *d.Pace != want {
				t.Errorf("%+v, want %+v", d.Pace, want)
			}
		}
	}
	if !seen {
		t.Error("nothing waits: the test sees nothing")
	}
	var hosts []HostPace
	for h, err := range (Client{serve{Control(o)}}).Hosts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	if len(hosts) != 2 || hosts[0] != (HostPace{"192.0.2.1:25", want}) || hosts[1].Host != "/run/lmtp" || !hosts[1].Since.IsZero() {
		t.Errorf("%+v", hosts)
	}
	code, body := get(Control(o), "/api/v1/hosts")
	if line := `{"host":"/run/lmtp","limit":1,"most":1,"running":0,"reason":"","rate":"1/1d","next":"2026-11-22T12:00:00Z"}`; code != 200 || !strings.Contains(body, line) {
		t.Errorf("%d %s", code, body)
	}
}

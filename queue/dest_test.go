package queue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider"
)

type step struct {
	at    int // seconds
	op    string
	pause string
}

var destCases = []struct {
	name  string
	limit int
	steps []step
}{
	{"the last slot", 2, []step{
		{0, "take", "-"}, {0, "take", "stop"}, {1, "alive", "0"}, {1, "take", "stop"}, {2, "none", "0"}, {3, "alive", "-"},
	}},
	{"one slot", 1, []step{{0, "take", "stop"}, {1, "alive", "0"}, {2, "take", "stop"}, {3, "dead", "63"}}},
	{"probe after probe, with a cap", 5, []step{
		{0, "take", "-"}, {0, "dead", "60"},
		{60, "probe", "stop"}, {70, "dead", "370"},
		{370, "probe", "stop"}, {400, "dead", "2200"}, // 2 h is cut to 30 min
		{2200, "probe", "stop"}, {2201, "dead", "4001"},
		{4001, "probe", "stop"}, {4002, "alive", "0"},
		{4002, "take", "-"}, {4002, "take", "stop"}, {4003, "dead", "4063"}, // the counts began anew
	}},
	{"stragglers say nothing new", 5, []step{
		{0, "take", "-"}, {0, "take", "-"}, {0, "take", "-"}, {10, "dead", "70"}, {20, "dead", "-"},
		{70, "probe", "stop"}, {75, "dead", "375"}, {80, "dead", "-"},
	}},
	{"a straggler during the probe", 5, []step{
		{0, "take", "-"}, {0, "take", "-"}, {1, "dead", "61"}, {61, "probe", "stop"}, {62, "straggler dead", "-"}, {63, "alive", "0"},
	}},
	{"a straggler that lives", 5, []step{
		{0, "take", "-"}, {0, "take", "-"}, {1, "dead", "61"}, {2, "alive", "0"}, {3, "take", "-"},
	}},
	{"a straggler that lives during the probe", 5, []step{
		{0, "take", "-"}, {0, "take", "-"}, {1, "dead", "61"}, {61, "probe", "stop"}, {62, "straggler alive", "0"},
		{63, "take", "stop"}, {64, "alive", "0"}, {65, "straggler alive", "-"},
	}},
	{"and the probe does not", 5, []step{
		{0, "take", "-"}, {0, "take", "-"}, {1, "dead", "61"}, {61, "probe", "stop"}, {62, "straggler alive", "0"},
		{63, "dead", "123"}, {123, "probe", "stop"}, {124, "alive", "0"},
	}},
	{"and the probe says nothing", 5, []step{
		{0, "take", "-"}, {0, "take", "-"}, {1, "dead", "61"}, {61, "probe", "stop"}, {62, "straggler alive", "0"}, {63, "none", "-"}, {64, "take", "-"},
	}},
	{"a probe that says nothing", 5, []step{
		{0, "take", "-"}, {0, "dead", "60"}, {60, "probe", "stop"}, {61, "none", "121"},
		{121, "probe", "stop"}, {121, "dead", "421"},
	}},
	{"in a hurry", 5, []step{
		{0, "hurry", "-"}, {0, "take", "-"}, {0, "hurry", "-"}, {0, "dead", "60"}, {5, "hurry", "0"},
		{5, "probe", "stop"}, {6, "hurry", "-"}, {6, "dead", "306"},
	}},
}

// Each step is "+seconds op", and what Pause is told after it: "-" nothing, "0"
// no pause, "stop" until further notice, or the seconds until when.
func TestDests(t *testing.T) {
	plan := Plan{Retry: []time.Duration{time.Minute, 5 * time.Minute, 2 * time.Hour}}
	for _, tc := range destCases {
		t.Run(tc.name, func(t *testing.T) {
			d := newDests(tc.limit, 100, plan)
			probing := false
			for i, s := range tc.steps {
				now := t0.Add(time.Duration(s.at) * time.Second)
				var ps []pause
				verdicts := map[string]verdict{"none": verdictNone, "alive": verdictAlive, "dead": verdictDead}
				op, straggler := strings.CutPrefix(s.op, "straggler ")
				switch v, ends := verdicts[op]; {
				case ends:
					probe := probing && !straggler
					ps = d.release("d", probe, finding{verdict: v}, now, 0)
					if probe {
						probing = false
					}
				case op == "hurry":
					ps = d.hurry(nil, now)
				default:
					var probe bool
					probe, _, ps = d.take("d", false, now)
					if probe != (op == "probe") {
						t.Errorf("step %d: probe = %v", i, probe)
					}
					probing = probing || probe
				}
				if got := pausesText(ps); got != s.pause {
					t.Errorf("step %d, %s: pause %s, want %s", i, s.op, got, s.pause)
				}
			}
		})
	}
}

func pausesText(ps []pause) string {
	if len(ps) == 0 {
		return "-"
	}
	switch u := ps[len(ps)-1].until; {
	case u.IsZero():
		return "0"
	case u.Equal(forever):
		return "stop"
	default:
		return fmt.Sprint(int(u.Sub(t0).Seconds()))
	}
}

// The table forgets what nobody waits for.
func TestDestsForget(t *testing.T) {
	d := newDests(5, 100, DefaultPlan())
	for i := range 3 * destsMin {
		name := postrider.Dest(fmt.Sprint(i))
		now := t0.Add(time.Duration(i) * 10 * time.Second)
		p, _, _ := d.take(name, false, now)
		d.release(name, p, finding{verdict: verdictDead}, now, 0)
	}
	if n := len(d.m); n > destsMin+1 {
		t.Errorf("%d dead destinations are kept", n)
	}
	d = newDests(5, 100, DefaultPlan())
	for i := range 3 * destsMin {
		name := postrider.Dest(fmt.Sprint(i))
		now := t0.Add(time.Duration(i) * 10 * time.Second)
		p, _, _ := d.take(name, false, now)
		d.release(name, p, finding{verdict: verdictAlive}, now, 0)
	}
	if n := len(d.m); n > destsMin+1 {
		t.Errorf("%d destinations without attempts are kept", n)
	}
}

// What is dead is known to be until long after its probe was due: who comes to it then
// comes alone.
func TestDestsRememberTheDead(t *testing.T) {
	d := newDests(5, 100, Plan{Retry: []time.Duration{probeMax}}.withDefaults())
	probe, _, _ := d.take("dead", false, t0)
	d.release("dead", probe, finding{verdict: verdictDead}, t0, 0)
	now := t0.Add(probeMax + probeMax/2) // long after the attempt, and not so long after the probe
	for i := range 2 * destsMin {
		name := postrider.Dest(fmt.Sprint(i))
		p, _, _ := d.take(name, false, now)
		d.release(name, p, finding{verdict: verdictAlive}, now, 0)
	}
	if !d.dead("dead") {
		t.Error("forgotten half an hour after its probe was due")
	}
	if probe, ok, ps := d.take("dead", true, now); !probe || !ok || pausesText(ps) != "stop" {
		t.Errorf("who comes then: a probe %v, let in %v, pause %s", probe, ok, pausesText(ps))
	}
}

// A destination of this machine has slots of its own number, from the first on.
func TestLocalSlots(t *testing.T) {
	now := time.Unix(1700000000, 0)
	for _, tt := range []struct {
		name postrider.Dest
		want int
	}{{"local:a.example", 50}, {"mx:a.example", paceStart}} {
		d := newDests(20, 200, Plan{}.withDefaults())
		d.local = 50
		taken := 0
		for paused := false; !paused; taken++ {
			_, ok, ps := d.take(tt.name, false, now)
			if !ok {
				t.Fatalf("%s: no room after %d", tt.name, taken)
			}
			paused = len(ps) > 0
		}
		if taken != tt.want {
			t.Errorf("%s: %d attempts at a time, want %d", tt.name, taken, tt.want)
		}
	}
}

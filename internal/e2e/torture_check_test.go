package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A result is what became of the mail of a round. Copies are counted for each
// pair of a message and a recipient at the next hop: those with no copy more than
// one, with one more, with two, with three or more; by why there are more.
type result struct {
	Round   uint64  `json:"round"`
	Seed    uint64  `json:"seed"`
	Phase   string  `json:"phase"`
	Kills   int     `json:"kills"`
	Begun   int     `json:"begun"`        // transactions
	Acked   int     `json:"acknowledged"` // of those
	Arrived int     `json:"arrived"`      // pairs of message and recipient
	Unasked int     `json:"not_acknowledged_and_arrived"`
	Lost    int     `json:"lost"`
	Torn    int     `json:"torn"`
	ByKill  [4]int  `json:"extra_copies_by_kill"` // of 0, 1, 2, 3 or more
	ByDrop  [4]int  `json:"extra_copies_by_dropped_reply"`
	InHand  int     `json:"most_in_hand_at_a_kill"` // repeated after it
	Dropped int     `json:"dropped_after_the_dot"`
	Early   int     `json:"dropped_before_the_dot"`
	Untold  int     `json:"journal_wrong"` // steps of acknowledged messages that are not there once
	Seconds float64 `json:"seconds"`
}

func (r result) String() string {
	return fmt.Sprintf("%s: %d kills, %d begun, %d acknowledged, %d arrived, %d lost, %d torn; extra copies 0/1/2/3+ by kills %v, by dropped replies %v; "+
		"%d repeated after one kill at most; %d drops after the dot, %d before; %d arrived without acknowledgement; %d steps wrong in the journal",
		r.Phase, r.Kills, r.Begun, r.Acked, r.Arrived, r.Lost, r.Torn, r.ByKill, r.ByDrop, r.InHand, r.Dropped, r.Early, r.Unasked, r.Untold)
}

func (r *result) add(o result) {
	r.Kills += o.Kills
	r.Begun += o.Begun
	r.Acked += o.Acked
	r.Arrived += o.Arrived
	r.Unasked += o.Unasked
	r.Lost += o.Lost
	r.Torn += o.Torn
	for i := range r.ByKill {
		r.ByKill[i] += o.ByKill[i]
		r.ByDrop[i] += o.ByDrop[i]
	}
	r.InHand = max(r.InHand, o.InHand)
	r.Dropped += o.Dropped
	r.Early += o.Early
	r.Untold += o.Untold
	r.Seconds += o.Seconds
}

// check compares what was promised with what came, and fails the test where they
// do not agree.
func (x *torture) check() result {
	x.t.Helper()
	r := result{Round: uint64(x.round), Phase: x.phase.name, Kills: len(x.kills), Begun: x.begun, Acked: len(x.acked)}
	came := x.mailbox(&r)
	x.sink.mu.Lock()
	defer x.sink.mu.Unlock()
	r.Early = x.sink.before
	r.Torn += len(x.sink.torn)
	for _, what := range x.sink.torn {
		x.t.Errorf("the next hop: %s", what)
	}
	again := make(map[string]int) // after a kill, by it and domain
	for pair, copies := range x.sink.copies {
		came[pair] = true
		x.copies(&r, pair, copies, again)
	}
	r.Arrived = len(came)
	for _, n := range again {
		r.InHand = max(r.InHand, n)
	}
	if r.InHand > inHand {
		x.t.Errorf("%d messages of one destination came again after one kill, and no more than %d can be in hand", r.InHand, inHand)
	}
	for pair := range came {
		name, _, _ := strings.Cut(pair, " ")
		if _, ok := x.acked[name]; !ok {
			r.Unasked++
		}
	}
	for name, a := range x.acked {
		for _, to := range a.to {
			if !came[name+" "+to] {
				if r.Lost++; r.Lost > 10 {
					continue
				}
				x.t.Errorf("%s (%s) got its 250 and did not come to %s", name, a.id, to)
			}
		}
	}
	x.journal(&r)
	if strings.Contains(x.s.log.String(), "damaged") {
		x.t.Error("a killed process leaves what was written; yet damage is told")
	}
	return r
}

// inHand is how many parcels of one destination can be under way when the
// process dies: the limit of package queue.
const inHand = 20

// copies says why a message came more than once to a recipient: its sender did
// not hear that it was taken, or was killed between the beginning of one copy and
// that of the next.
func (x *torture) copies(r *result, pair string, copies []arrival, again map[string]int) {
	byKill, byDrop := 0, 0
	for i, c := range copies {
		if c.dropped {
			r.Dropped++
		}
		if i+1 == len(copies) {
			break
		}
		if c.dropped {
			byDrop++
			continue
		}
		kill := slices.IndexFunc(x.kills, func(k span) bool { return !k.to.Before(c.began) && !k.from.After(copies[i+1].began) })
		if kill < 0 {
			x.t.Errorf("%s: came twice, %v apart, and nothing explains it", pair, copies[i+1].began.Sub(c.began))
			continue
		}
		byKill++
		_, domain, _ := strings.Cut(pair, "@")
		again[strconv.Itoa(kill)+domain]++
	}
	r.ByKill[min(byKill, 3)]++
	r.ByDrop[min(byDrop, 3)]++
}

// mailbox reads the mailbox here, which knows a message that it has: there is
// never a second copy.
func (x *torture) mailbox(r *result) (came map[string]bool) {
	x.t.Helper()
	came = map[string]bool{}
	dir := filepath.Join(x.s.dir, "mail", "a.example", "local", "new")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			x.t.Fatal(err)
		}
		n, err := name(b)
		if err != nil {
			r.Torn++
			x.t.Errorf("the mailbox: %v", err)
			continue
		}
		pair := n + " local@a.example"
		if came[pair] {
			x.t.Errorf("%s is in the mailbox twice", n)
		}
		came[pair] = true
	}
	return came
}

// journal wants each step of each message once from "where". The journal follows
// the queue a moment later.
func (x *torture) journal(r *result) {
	x.t.Helper()
	wrong := map[int][]string{}
	deadline := time.Now().Add(10 * time.Second)
	for number := range x.phase.load.clients {
		for {
			wrong[number] = x.untold(number)
			if len(wrong[number]) == 0 || time.Now().After(deadline) {
				break
			}
			<-time.After(50 * time.Millisecond)
		}
		r.Untold += len(wrong[number])
	}
	told := 0
	for _, all := range wrong {
		for _, what := range all {
			if told++; told <= 10 {
				x.t.Errorf("where: %s", what)
			}
		}
	}
}

// untold lists what "where" tells wrong of the messages of a client.
func (x *torture) untold(number int) (wrong []string) {
	x.t.Helper()
	counts := map[string]int{}
	lines := bufio.NewScanner(strings.NewReader(x.s.cli("where", sender(number), "--json", "--limit", "10000")))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one step
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			x.t.Fatalf("where: %v in %s", err, lines.Text())
		}
		key := one.ID + " " + one.Event
		if one.Event == "delivered" {
			key += " " + one.To
		}
		counts[key]++
	}
	for name, a := range x.acked {
		if a.client != number {
			continue
		}
		want := []string{"accepted", "removed"}
		for _, to := range a.to {
			want = append(want, "delivered "+to)
		}
		for _, event := range want {
			if n := counts[a.id+" "+event]; n != 1 {
				wrong = append(wrong, fmt.Sprintf("%s (%s) has %d times %s, want once", name, a.id, n, event))
			}
		}
	}
	return wrong
}

// The environment of the campaign.
const (
	killsAsked = "POSTRIDER_KILLS"      // how many in all
	killsLog   = "POSTRIDER_KILLS_LOG"  // file that takes a line of JSON for each round; one that is there is gone on with
	killsSeed  = "POSTRIDER_KILLS_SEED" // 1 where it is not set
)

// killsRound is how many kills one server suffers in the campaign.
const killsRound = 25

func campaignAsked() bool { return os.Getenv(killsAsked) != "" }

// The campaign: as many kills as are asked for, in rounds that go through the
// phases. It is gone on with where the log ends.
func TestTortureCampaign(t *testing.T) {
	if !campaignAsked() {
		t.Skipf("%s says how many kills, and is not set", killsAsked)
	}
	asked, err := strconv.Atoi(os.Getenv(killsAsked))
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(1)
	if v := os.Getenv(killsSeed); v != "" {
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	sum, next := resume(t, seed)
	for sum.Kills < asked && !t.Failed() {
		p := phases[next%uint64(len(phases))]
		var r result
		t.Run(fmt.Sprintf("%d-%s", next, p.name), func(t *testing.T) {
			r = newTorture(t, p, seed, next).run(min(killsRound, asked-sum.Kills))
		})
		r.Round, r.Seed, r.Phase = next, seed, p.name
		note(t, r)
		sum.add(r)
		next++
		fmt.Printf("%s %4d kills, %7d acknowledged, %d lost, %d torn, extra copies by kills %v, by drops %v; round %d (%s) took %.1f s\n",
			time.Now().UTC().Format(time.TimeOnly), sum.Kills, sum.Acked, sum.Lost, sum.Torn, sum.ByKill, sum.ByDrop, r.Round, r.Phase, r.Seconds)
	}
	fmt.Println(sum)
}

// resume sums up the rounds of the log that are of this seed, and says which
// comes next.
func resume(t *testing.T, seed uint64) (sum result, next uint64) {
	t.Helper()
	sum.Phase = "all"
	b, err := os.ReadFile(os.Getenv(killsLog))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	for d.More() {
		var r result
		if err := d.Decode(&r); err != nil {
			t.Fatalf("%s: %v", os.Getenv(killsLog), err)
		}
		if r.Seed == seed {
			sum.add(r)
			next = max(next, r.Round+1)
		}
	}
	return sum, next
}

// note appends a round to the log, if there is one.
func note(t *testing.T, r result) {
	t.Helper()
	name := os.Getenv(killsLog)
	if name == "" {
		return
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := json.NewEncoder(f).Encode(r); err != nil {
		t.Fatal(err)
	}
}

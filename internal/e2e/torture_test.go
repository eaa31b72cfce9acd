package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A phase is what the server is at when it is killed.
type phase struct {
	name string
	load load
	few  int // kills where nothing more is asked for
	// strike brings the server there and kills it, once or more.
	strike func(x *torture)
}

// phases are struck in this order. What each waits for before it kills makes at
// least 3,000 acknowledged messages in all, with the few kills.
var phases = []phase{
	{"accept", load{clients: 16, size: 60_000, pieces: 6}, 5, (*torture).strikeAccept},
	{"commit", load{clients: 24, size: 600, local: 4}, 6, (*torture).strikeCommit},
	{"delivery", load{clients: 8, size: 4_000, lag: 5 * time.Millisecond}, 5, (*torture).strikeDelivery},
	{"compaction", load{clients: 8, size: 200_000, fixed: true, held: 8, local: 16}, 4, (*torture).strikeCompaction},
	{"recovery", load{clients: 8, size: 4_000}, 8, (*torture).strikeRecovery},
	{"journal", load{clients: 8, size: 1_000}, 4, (*torture).strikeJournal},
}

// A torture is one server that is killed again and again, with those who send to
// it and the next hop of its mail.
type torture struct {
	t     *testing.T
	phase phase
	rnd   *rand.Rand // of the goroutine that kills
	round int
	s     *server
	sink  *sink
	kills []span        // when each kill was
	start time.Duration // that the last one took, to its greeting

	content atomic.Int32  // clients in the middle of a content
	dots    chan struct{} // a client has sent its final dot

	mu    sync.Mutex
	begun int
	acked map[string]ack // by the name of the message
}

// A span is a stretch of time.
type span struct{ from, to time.Time }

// An ack is what a 250 promised.
type ack struct {
	id     string
	client int
	to     []string
}

// heldRoute keeps mail back in the spool until it is taken out of the
// configuration.
const heldRoute = "route \"held.example\" { via = \"hold\" }\n"

func newTorture(t *testing.T, p phase, seed, round uint64) *torture {
	t.Helper()
	w := newWorld(t)
	x := &torture{t: t, phase: p, rnd: rand.New(rand.NewPCG(seed, round)), round: int(round),
		dots: make(chan struct{}), acked: map[string]ack{}}
	x.sink = newSink(t, fmt.Sprintf("%s:%d", w.host("mx.b.example"), w.port), p.load.lag, rand.New(rand.NewPCG(seed, ^round)))
	w.zone.MX("b.example", 10, "mx.b.example").MX("held.example", 10, "mx.b.example")
	x.s = newServer(t, "a.example", heldRoute+w.relay())
	return x
}

// run kills at least so many times, lets everything arrive, and says what came.
func (x *torture) run(kills int) result {
	x.t.Helper()
	began := time.Now()
	x.s.start()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range x.phase.load.clients {
		clients.Go(func() { x.send(i, stop) })
	}
	for len(x.kills) < kills {
		x.phase.strike(x)
		again := time.Now()
		x.s.start()
		x.start = time.Since(again)
	}
	close(stop)
	clients.Wait()
	x.s.stop()
	x.s.edit(heldRoute, "")
	x.s.start()
	x.s.empty()
	r := x.check()
	x.s.stop()
	r.Seconds = time.Since(began).Seconds()
	return r
}

// kill notes when the server died.
func (x *torture) kill() {
	from := time.Now()
	x.s.kill()
	x.kills = append(x.kills, span{from, time.Now()})
}

// within lets a random part of d pass.
func (x *torture) within(d time.Duration) {
	<-time.After(time.Duration(x.rnd.Int64N(int64(d))))
}

// more waits for so many more acknowledged messages.
func (x *torture) more(n int) {
	x.t.Helper()
	before := x.promised()
	x.until("%d messages more are not accepted", func() bool { return x.promised() >= before+n }, n)
}

// until is eventually with a finer tick, for what lasts a moment.
func (x *torture) until(what string, ok func() bool, args ...any) {
	x.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			x.t.Fatalf("waited %v in vain: %s", patience, fmt.Sprintf(what, args...))
		}
		<-time.After(200 * time.Microsecond)
	}
}

// strikeAccept kills while clients are in the middle of their contents.
func (x *torture) strikeAccept() {
	x.more(30)
	x.until("nobody is in the middle of a message", func() bool { return x.content.Load() >= 4 })
	x.within(20 * time.Millisecond)
	x.kill()
}

// strikeCommit kills right after a client has sent its final dot, so that its
// message is being written, being synced, or just acknowledged.
func (x *torture) strikeCommit() {
	x.more(300)
	select {
	case <-x.dots:
	case <-time.After(patience):
		x.t.Fatal("no message comes to its end")
	}
	x.within(2 * time.Millisecond)
	x.kill()
}

// strikeDelivery kills while the next hop has taken messages and not yet answered.
func (x *torture) strikeDelivery() {
	x.more(150)
	x.until("the next hop gets nothing", func() bool { return x.sink.pending.Load() >= 3 })
	x.within(10 * time.Millisecond)
	x.kill()
}

// strikeCompaction kills when a segment has been turned, or when one has gone
// after what lived in it was moved.
func (x *torture) strikeCompaction() {
	x.more(60)
	oldest, newest := x.segments()
	turn := len(x.kills)%2 == 0
	x.until("no segment is turned or removed", func() bool {
		o, n := x.segments()
		return turn && n > newest || !turn && o > oldest
	})
	x.within(30 * time.Millisecond)
	x.kill()
}

// segments names the first and the last segment of the log.
func (x *torture) segments() (oldest, newest string) {
	names, err := filepath.Glob(filepath.Join(x.s.dir, "data", "spool", "seg", "*.seg"))
	if err != nil {
		x.t.Fatal(err)
	}
	if len(names) == 0 {
		return "", ""
	}
	return names[0], names[len(names)-1]
}

// strikeRecovery kills under load, and then three times as the server starts.
func (x *torture) strikeRecovery() {
	x.more(100)
	x.kill()
	for range 3 {
		x.s.spawn()
		x.within(max(40*time.Millisecond, x.start))
		x.kill()
	}
}

// strikeJournal kills when the journal has just grown.
func (x *torture) strikeJournal() {
	x.more(200)
	before := x.journalSize()
	x.until("the journal does not grow", func() bool { return x.journalSize() != before })
	x.within(3 * time.Millisecond)
	x.kill()
}

// journalSize is how many octets the journal has on the disk.
func (x *torture) journalSize() (octets int64) {
	entries, err := os.ReadDir(filepath.Join(x.s.dir, "data", "journal"))
	if err != nil {
		x.t.Fatal(err)
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".jnl") {
			octets += fi.Size()
		}
	}
	return octets
}

// Killed in each phase of its work and started again, the server loses nothing
// that it acknowledged, tears nothing, and sends nothing twice but what was in
// hand at a kill, or what the next hop took without an answer. The journal knows
// each message, and each step of it once.
func TestTorture(t *testing.T) {
	if campaignAsked() {
		t.Skip("the campaign runs instead")
	}
	sum, ran := result{Phase: "all"}, 0
	for i, p := range phases {
		t.Run(p.name, func(t *testing.T) {
			r := newTorture(t, p, rand.Uint64(), uint64(i)).run(raced(p.few, 1))
			t.Log(r)
			sum.add(r)
			ran++
		})
	}
	t.Log(sum)
	if ran == len(phases) && !raceEnabled && (sum.Kills < 30 || sum.Acked < 3000) {
		t.Errorf("%d kills and %d messages acknowledged are too few", sum.Kills, sum.Acked)
	}
}

// raced returns few under the race detector.
func raced(all, few int) int {
	if raceEnabled {
		return few
	}
	return all
}

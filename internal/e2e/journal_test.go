package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// Killed while the journal is written, "where" tells of each message that got its
// 250 each step once.
func TestJournalAfterKills(t *testing.T) {
	w := newWorld(t)
	w.peer("mx.b.example")
	w.zone.MX("b.example", 10, "mx.b.example")
	a := w.sender()
	l := &ledger{acked: map[string]bool{}}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 2 {
		clients.Go(func() { l.load(a.addr(), i, stop) })
	}
	for range full(30, 5) {
		before := l.promised()
		eventually(t, says("no message was accepted since the last start"), func() bool { return l.promised() > before })
		<-time.After(time.Duration(rand.IntN(50)) * time.Millisecond)
		a.kill()
		a.start()
	}
	close(stop)
	clients.Wait()
	a.empty()
	asked := 0
	for name := range l.acked {
		if asked++; asked > full(150, 30) {
			break
		}
		onceTold(t, a, name)
	}
	a.stop()
	for name := range l.acked {
		onceTold(t, a, name) // of a server that is down
		break
	}
	t.Logf("%d messages accepted, %d asked for", l.promised(), asked)
}

// onceTold wants each step of a message once. One that a kill cut off from its
// reply may be there again, under another ID.
func onceTold(t *testing.T, s *server, name string) {
	t.Helper()
	counts := map[string]int{}
	ids := map[string]bool{}
	var steps []step
	// The journal follows the queue a moment later.
	eventually(t, says("where does not know the end of %s", name), func() bool {
		steps = s.where(fmt.Sprintf("<%s@client.example>", name))
		return slices.ContainsFunc(steps, func(one step) bool { return one.Event == "removed" })
	})
	for _, one := range steps {
		ids[one.ID] = true
		key := one.ID + " " + one.Event
		if one.Event == "delivered" {
			key += " " + one.To
		}
		counts[key]++
	}
	for id := range ids {
		for _, event := range []string{"accepted", "delivered local@a.example", "delivered far@b.example", "removed"} {
			if n := counts[id+" "+event]; n != 1 {
				t.Errorf("where %s tells %d times %s of %s, want once: %+v", name, n, event, id, steps)
			}
		}
	}
	if len(ids) == 0 {
		t.Errorf("where knows nothing of %s", name)
	}
}

package e2e

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// loaders is how many clients send at the same time while the server is killed.
const loaders = 8

// A ledger is what the clients were promised.
type ledger struct {
	mu    sync.Mutex
	sent  int             // transactions begun
	acked map[string]bool // name of a message that got its 250
}

// load sends messages to a, one after the other, until stop is closed. Errors
// are part of the game: the server dies under it.
func (l *ledger) load(addr string, client int, stop <-chan struct{}) {
	rnd := rand.New(rand.NewPCG(uint64(client), 2))
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		name := fmt.Sprintf("load-%d-%d", client, n)
		size := rnd.IntN(8_000)
		if n%40 == 7 {
			size = 400_000 // has a file of its own in the spool
		}
		l.mu.Lock()
		l.sent++
		l.mu.Unlock()
		_, err := submit(addr, mail{"", []string{"local@a.example", "far@b.example"}, message(name, size)})
		if err != nil {
			select { // the server is away
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		l.mu.Lock()
		l.acked[name] = true
		l.mu.Unlock()
	}
}

func (l *ledger) promised() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// check wants everything that was promised, whole, and returns how many came
// more than once.
func (l *ledger) check(t *testing.T, where string, got [][]byte) (twice int) {
	t.Helper()
	times := map[string]int{}
	for _, b := range got {
		n, err := name(b)
		if err != nil {
			t.Errorf("%s: %v", where, err)
		}
		times[n]++
		if times[n] > 1 {
			twice++
		}
	}
	lost := 0
	for n := range l.acked {
		if times[n] == 0 {
			lost++
			if lost <= 10 {
				t.Errorf("%s: %s got its 250 and did not arrive", where, n)
			}
		}
	}
	t.Logf("%s: %d messages, %d of them more than once, %d lost", where, len(times), twice, lost)
	return twice
}

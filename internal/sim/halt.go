package sim

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A halts stops a machine in good order while it writes down what an attempt has
// come to.
type halts struct {
	now chan string // the boot that is to stop

	mu   sync.Mutex
	left int // settlements until then, and one; 0: it goes on
}

// arm lets the machine stop at the nth settlement from now.
func (h *halts) arm(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = n + 1
}

// settles is called when a settlement is about to be written.
func (h *halts) settles(boot string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left == 0 {
		return
	}
	if h.left--; h.left > 0 {
		return
	}
	select {
	case h.now <- boot:
	default:
	}
}

// moreStrikes draws when somebody's right to relay is taken away, and what is
// stopped while it settles. All come close to a letter.
func (p *Plan) moreStrikes(rng *rand.Rand) {
	for i, kind := range []string{"guest", "guest", "stop-in-settle", "stop-in-settle", "stop-in-settle"} {
		where := machineNames[rng.IntN(3)]
		if kind == "guest" {
			where = machineNames[rng.IntN(2)] // C relays for nobody
		}
		at := p.Letters[rng.IntN(len(p.Letters))].At + time.Duration(rng.Int64N(int64(200*time.Millisecond)))
		p.Strikes = append(p.Strikes, Strike{N: 1000 + i, At: at, Kind: kind, Where: where, Arg: rng.Uint64()})
	}
	slices.SortStableFunc(p.Strikes, func(a, b Strike) int { return int(a.At - b.At) })
}

package sim

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"time"
)

// A witness reads along on a connection and knows, for each letter that passes,
// whether its end was sent and whether an answer came back. It sees nothing
// under TLS.
type witness struct {
	n *Network

	mu     sync.Mutex
	tail   []byte // the last octets of the client, where a token or an end may be cut
	token  string // of the letter that is on its way; empty: there is none
	before string // of the one before: an attempt may have several transactions, and is settled when all are over
	dot    bool   // its end was sent
	heard  bool   // and some answer to that was read
	lmtp   bool   // there are several answers, and the client has all when it goes on
	counts int    // ends so far
}

// said takes what the client writes.
func (w *witness) said(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dot { // it goes on: it has read what it wanted
		w.before, w.token, w.dot, w.heard, w.tail = w.token, "", false, false, w.tail[:0]
	}
	all := append(w.tail, b...)
	if w.token == "" {
		w.token = tokenOf(all)
	}
	if w.token != "" && bytes.HasSuffix(all, []byte("\r\n.\r\n")) {
		w.dot = true
		w.counts++
	}
	w.tail = slices.Clone(all[max(0, len(all)-200):])
}

// answers takes what the server writes, and returns the letter whose end it is about
// to take, or to put off.
func (w *witness) answers(b []byte) (token string, taken bool, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dot && len(b) > 0 && (b[0] == '2' || b[0] == '4') {
		return w.token, b[0] == '2', w.counts
	}
	return "", false, 0
}

// hears notes that the client has read an answer.
func (w *witness) hears(h *Host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.dot {
		return
	}
	if !w.heard {
		h.answered(w.token)
	}
	w.heard = true
}

// ends is called when the client's side is closed, or lost with its machine.
func (w *witness) ends(lost bool) {
	w.mu.Lock()
	token, open, before := w.token, w.dot && (!w.heard || w.lmtp), w.before
	w.dot, w.before = false, ""
	w.mu.Unlock()
	if w.n.Uncertain == nil {
		return
	}
	if open {
		w.n.Uncertain(token)
	}
	if lost && before != "" {
		w.n.Uncertain(before)
	}
}

// An answer is one that a host has read, and may not have written down yet.
type answer struct {
	at    time.Time
	token string
}

// answeredMax is how many answers a host remembers.
const answeredMax = 4096

func (h *Host) answered(token string) {
	h.recent.Lock()
	defer h.recent.Unlock()
	h.answers = append(h.answers, answer{time.Now(), token})
	if len(h.answers) > answeredMax {
		h.answers = slices.Delete(h.answers, 0, answeredMax/2)
	}
}

// Forgets returns the letters whose answers the host has read since a time, and
// may forget with its memory.
func (h *Host) Forgets(since time.Time) []string {
	h.recent.Lock()
	defer h.recent.Unlock()
	var all []string
	for _, a := range h.answers {
		if !a.at.Before(since) {
			all = append(all, a.token)
		}
	}
	return all
}

// Busy reports whether the host has connections.
func (h *Host) Busy() bool {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	return len(h.conns) > 0
}

// Conns counts the connections of the host, accepted or not, and Listeners where it
// listens.
func (h *Host) Conns() int {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	return len(h.conns)
}

// Listeners counts the ports on which the host listens.
func (h *Host) Listeners() int {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	return len(h.listeners)
}

// Peaks returns how many connections there were at a time at most, by who dialed and
// whom.
func (n *Network) Peaks() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.peaks)
}

// Dialed counts the connections there are, by who dialed and whom.
func (n *Network) Dialed() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := map[string]int{}
	for _, h := range n.hosts {
		for c := range h.conns {
			if c.end == 0 {
				all[h.addr.String()+">"+c.remote.String()]++
			}
		}
	}
	return all
}

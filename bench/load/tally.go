// Package load is a source and a sink of mail for measuring servers: both do as
// little as they can for a message, so that what is measured is the server
// between them. The source sends as fast as answers come (a closed loop) or at a
// fixed rate (an open loop), the sink takes all, or misbehaves as told. They
// speak enough of SMTP for that and no more: the product's own client and server
// are smtpc and smtpd.
package load

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// A Tally is what a source has sent, or a sink has taken. Its JSON is the last
// line of "postrider bench" and "postrider sink".
type Tally struct {
	Messages int     `json:"messages"` // taken, by the sink or by the server
	Bytes    int64   `json:"bytes"`    // octets of their content, without the dots of transparency
	Seconds  float64 `json:"seconds"`  // from the first of them to the last
	Errors   int     `json:"errors"`   // messages that were not taken
	P50      float64 `json:"p50_ms"`   // of a source from the moment a message was due to its reply; of a sink from DATA to the reply
	P99      float64 `json:"p99_ms"`
	// Replies counts the errors by what was said, or by what became of the
	// connection; at most repliesMax different ones, and the rest together.
	Replies map[string]int `json:"replies,omitempty"`
}

// repliesMax is how many different errors are told apart.
const repliesMax = 20

// fail counts an error.
func (t *Tally) fail(what string, n int) {
	if t.Replies == nil {
		t.Replies = map[string]int{}
	}
	if _, known := t.Replies[what]; !known && len(t.Replies) >= repliesMax {
		what = "other"
	}
	t.Replies[what] += n
	t.Errors += n
}

// Worst is the error that came most often; "" where there is none.
func (t *Tally) Worst() string {
	worst := ""
	for what, n := range t.Replies {
		if m := t.Replies[worst]; n > m || n == m && what < worst {
			worst = what
		}
	}
	return worst
}

// Rate is messages a second; 0 where no time has passed.
func (t *Tally) Rate() float64 {
	if t.Seconds <= 0 {
		return 0
	}
	return float64(t.Messages) / t.Seconds
}

// A Histogram counts durations in buckets a thirty-second wide, so that any
// number of them takes the same memory. The zero value is empty.
type Histogram struct {
	counts [64 * fine]int64
	n      int64
	max    time.Duration
}

// fine is how many buckets there are to a power of two.
const fine = 32

// Add counts a duration, to the microsecond.
func (h *Histogram) Add(d time.Duration) {
	us := uint64(max(0, d.Microseconds()))
	h.counts[bucket(us)]++
	h.n++
	h.max = max(h.max, d)
}

// bucket is where a number of microseconds is counted: below fine each number
// has its own, above each power of two has fine of them.
func bucket(us uint64) int {
	if us < fine {
		return int(us)
	}
	shift := bits.Len64(us) - bits.Len64(fine-1) - 1
	return (shift+1)*fine + int(us>>shift) - fine
}

// ceiling is the largest number of microseconds in a bucket.
func ceiling(i int) uint64 {
	if i < fine {
		return uint64(i)
	}
	shift := i/fine - 1
	return uint64(i%fine+fine+1)<<shift - 1
}

// Merge adds what another has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// Max is the longest duration.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the duration that a share q of all does not exceed, in
// milliseconds; 0 where there are none.
func (h *Histogram) Quantile(q float64) float64 {
	rank := int64(math.Ceil(q * float64(h.n)))
	rank = min(max(rank, 1), h.n)
	for i, n := range h.counts {
		if rank -= n; n > 0 && rank <= 0 {
			return min(float64(ceiling(i))/1000, float64(h.max.Microseconds())/1000)
		}
	}
	return 0
}

// Sorted lists the errors, the most frequent first.
func (t *Tally) Sorted() []string {
	all := make([]string, 0, len(t.Replies))
	for what := range t.Replies {
		all = append(all, what)
	}
	slices.SortFunc(all, func(a, b string) int {
		if d := t.Replies[b] - t.Replies[a]; d != 0 {
			return d
		}
		if a < b {
			return -1
		}
		return 1
	})
	return all
}

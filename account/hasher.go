package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what is hashed.
const (
	hashesAtOnce = 2
	hashWaiters  = 32 // who waits for one of these; at 40 ms each the last waits under a second
)

// A hasher compares passwords with hashes, a few at once.
type hasher struct {
	dummy  hash // of a name that nobody has
	slots  chan struct{}
	places chan struct{} // of those who hash or wait
	count  atomic.Int64  // of what was hashed
}

func newHasher() *hasher {
	return &hasher{dummy: dummyHash(), slots: make(chan struct{}, hashesAtOnce), places: make(chan struct{}, hashesAtOnce+hashWaiters)}
}

// matches reports whether h is the hash of a prepared password; ok is false when
// too many wait, or ctx has ended before it was this one's turn.
func (h *hasher) matches(ctx context.Context, want hash, password string) (right, ok bool) {
	select {
	case h.places <- struct{}{}:
	default:
		return false, false
	}
	defer func() { <-h.places }()
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return false, false
	}
	defer func() { <-h.slots }()
	h.count.Add(1)
	return want.matches(password), true
}

// Bounds of the cache of successes.
const (
	cacheFor = 10 * time.Second // a mail program that opens five connections is hashed once
	cacheMax = 1024             // entries
)

// A cache knows for some seconds which passwords were right. It keeps neither
// passwords nor anything that could be guessed at without its key.
type cache struct {
	secret [32]byte
	mu     sync.Mutex
	until  map[[sha256.Size]byte]time.Time
}

func newCache() *cache {
	c := &cache{until: map[[sha256.Size]byte]time.Time{}}
	_, _ = rand.Read(c.secret[:]) // never fails
	return c
}

// key returns what stands for an account, its hash and a password: with a new
// hash the old password is forgotten.
func (c *cache) key(e *entry, password string) (key [sha256.Size]byte) {
	m := hmac.New(sha256.New, c.secret[:])
	for _, part := range [3]string{e.Address.String(), e.hash.String(), password} {
		m.Write([]byte(part))
		m.Write([]byte{0}) // in none of them
	}
	m.Sum(key[:0])
	return key
}

// has reports whether a key was added lately.
func (c *cache) has(key [sha256.Size]byte, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.until[key]
	return ok && now.Before(until) && until.Sub(now) <= cacheFor
}

// add keeps a key for cacheFor. When the cache is full of keys that still hold,
// it begins anew.
func (c *cache) add(key [sha256.Size]byte, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.until) >= cacheMax {
		for k, until := range c.until {
			if !now.Before(until) {
				delete(c.until, k)
			}
		}
	}
	if len(c.until) >= cacheMax {
		clear(c.until)
	}
	c.until[key] = now.Add(cacheFor)
}

package dns

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// A Cache is a Resolver that keeps the answers of another one for as long as
// they allow, and asks it once when many want the same answer at the same time.
// Errors are not kept.
type Cache struct {
	next  Resolver
	limit int
	size  int64
	now   func() time.Time

	mu      sync.Mutex // guards what follows; never held during a lookup
	entries map[question]*list.Element
	recent  *list.List // of *entry, the last used first
	octets  int64      // that the entries take
	flights map[question]*flight
}

// CacheOptions are the options of a Cache.
type CacheOptions struct {
	Limit int              // answers kept; zero: 100,000
	Size  int64            // octets that they take, about; zero: 16 MiB
	Now   func() time.Time // nil: time.Now
}

// Defaults of CacheOptions: 10,000 domains with their hosts and the addresses of these
// find room, and a stranger's long answers do not take more.
const (
	cacheLimitDefault = 100_000
	cacheSizeDefault  = 16 << 20
)

// A question is the key of an answer.
type question struct {
	name string
	t    Type
}

// An entry is an answer that is kept.
type entry struct {
	q       question
	answer  Answer
	expires time.Time
	size    int64
}

// entryOctets is what an entry takes beside its strings and records.
const entryOctets = 400

// sizeOf is about how many octets an entry takes.
func sizeOf(q question, a Answer) int64 {
	n := entryOctets + len(q.name) + len(a.Name) + 24*len(a.Addrs)
	for _, mx := range a.MX {
		n += 24 + len(mx.Host)
	}
	for _, text := range a.Text {
		n += 16 + len(text)
	}
	return int64(n)
}

// A flight is a lookup under way, and its result once done is closed.
type flight struct {
	done   chan struct{}
	answer Answer
	err    error
	// own: the lookup ended because the one who made it gave up, which says
	// nothing to the others.
	own bool
}

// NewCache returns a Cache in front of next.
func NewCache(next Resolver, o CacheOptions) *Cache {
	if o.Limit <= 0 {
		o.Limit = cacheLimitDefault
	}
	if o.Size <= 0 {
		o.Size = cacheSizeDefault
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Cache{next: next, limit: o.Limit, size: o.Size, now: o.Now,
		entries: map[question]*list.Element{}, recent: list.New(), flights: map[question]*flight{}}
}

// Lookup implements Resolver. The TTL of an answer is what is left of it.
func (c *Cache) Lookup(ctx context.Context, name string, t Type) (Answer, error) {
	q := question{canonical(name), t}
	for {
		a, f, leader := c.begin(q)
		if f == nil {
			return a, nil
		}
		if leader {
			return c.fly(ctx, q, f)
		}
		select {
		case <-ctx.Done():
			return Answer{}, context.Cause(ctx)
		case <-f.done:
		}
		if !f.own {
			return f.answer.clone(), f.err
		}
	}
}

// begin returns the answer that is kept, or else the lookup to wait for, which
// is the caller's to make if leader is true.
func (c *Cache) begin(q question) (a Answer, f *flight, leader bool) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.entries[q]; el != nil {
		e := el.Value.(*entry)
		if now.Before(e.expires) {
			c.recent.MoveToFront(el)
			a = e.answer.clone()
			a.TTL = min(a.TTL, e.expires.Sub(now))
			return a, nil, false
		}
		c.drop(el)
	}
	if f := c.flights[q]; f != nil {
		return Answer{}, f, false
	}
	f = &flight{done: make(chan struct{}), own: true}
	c.flights[q] = f
	return Answer{}, f, true
}

// fly makes the lookup of f, keeps its answer, and tells those who wait.
func (c *Cache) fly(ctx context.Context, q question, f *flight) (Answer, error) {
	defer func() { // also when the resolver panics: nobody waits for ever
		c.mu.Lock()
		delete(c.flights, q)
		c.mu.Unlock()
		close(f.done)
	}()
	f.answer, f.err = c.next.Lookup(ctx, q.name, q.t)
	f.own = f.err != nil && ctx.Err() != nil
	if f.err == nil && f.answer.TTL > 0 {
		c.keep(q, f.answer.clone())
	}
	return f.answer.clone(), f.err
}

// keep puts an answer into the cache and drops those used least recently.
func (c *Cache) keep(q question, a Answer) {
	a.TTL = min(a.TTL, ttlMax)
	e := &entry{q: q, answer: a, expires: c.now().Add(a.TTL), size: sizeOf(q, a)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.entries[q]; el != nil {
		c.drop(el)
	}
	c.entries[q] = c.recent.PushFront(e)
	c.octets += e.size
	for c.recent.Len() > c.limit || c.octets > c.size {
		c.drop(c.recent.Back())
	}
}

// drop removes an entry. The caller holds mu.
func (c *Cache) drop(el *list.Element) {
	c.recent.Remove(el)
	e := el.Value.(*entry)
	delete(c.entries, e.q)
	c.octets -= e.size
}

package smtpd

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Connections hand their buffers to each other, and never what is in them: what one has
// in hand when it takes a larger or a smaller buffer is what it has then, also where the
// one that it gave back is taken, and written to, the moment that it is there to be taken. It
// takes two processors to see one that is not.
func TestBuffersKeepConnectionsApart(t *testing.T) {
	const rounds = 10_000
	s := &Server{}
	var others sync.WaitGroup
	var over atomic.Bool
	defer others.Wait()
	defer over.Store(true)
	others.Go(func() {
		for !over.Load() { // what is taken does not come back, so that there is none but what the connection gives
			if b, ok := s.small.Get().(*[readSize]byte); ok {
				b[readSize-1], b[0] = '!', '!'
			}
			if b, ok := s.large.Get().(*[contentSize]byte); ok {
				b[readSize-1], b[0] = '!', '!'
			}
		}
	})
	c := &conn{server: s}
	c.sit()
	defer c.stand()
	mine := bytes.Repeat([]byte("NOOP\r\n"), readSize)[:readSize]
	for round := range rounds {
		for _, size := range []int{contentSize, readSize} {
			// The first in a pool is for this goroutine alone, and the one behind it for all.
			if size == contentSize {
				s.small.Put(new([readSize]byte))
			} else {
				s.large.Put(new([contentSize]byte))
			}
			c.r, c.w = 0, copy(c.buf, mine)
			c.resize(size)
			if got := c.buf[c.r:c.w]; !bytes.Equal(got, mine) {
				t.Fatalf("round %d: in a buffer of %d there is %.20q to %q", round, size, got, got[len(got)-1])
			}
		}
	}
}

// A desk goes from one connection to the next with nothing on it: no reply that one did not
// take is read by another, and nothing that one has said is remembered of another. It keeps
// no more room for replies than most need.
func TestDesksKeepConnectionsApart(t *testing.T) {
	for _, size := range []int{1, gatherMax, 2 * gatherMax, 2*gatherMax + 1, 100 * gatherMax} {
		c := &conn{server: &Server{}}
		c.sit()
		d := c.desk
		d.out = make([]byte, size)
		d.again, d.chunks, d.upgrade = []byte("QUIT"), &chunks{}, &tls.Config{}
		d.content, d.away, d.utf8, d.hopeless, d.chunky = true, true, true, true, true
		d.began, d.due, d.writeBy = time.Unix(1, 0), time.Unix(1, 0), time.Unix(1, 0)
		d.pace.left = time.Hour
		d.r, d.w = 1, 2
		c.stand()
		if room := cap(d.out); len(d.out) > 0 || room > 2*gatherMax {
			t.Errorf("of %d octets of replies %d are left, in room for %d", size, len(d.out), room)
		}
		if d.out = nil; !reflect.DeepEqual(*d, desk{}) || c.desk != nil {
			t.Errorf("what is left is %+v", *d)
		}
	}
}

package smtpd

import (
	"bytes"
	"sync"
	"sync/atomic"
	"testing"
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

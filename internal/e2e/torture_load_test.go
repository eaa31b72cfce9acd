package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// A load is what clients send during a phase.
type load struct {
	clients int
	size    int           // octets of a message, at most
	fixed   bool          // all are of that size
	pieces  int           // that a content is sent in, with pauses; 0: in one
	held    int           // one message in so many waits for its release too; 0: none
	local   int           // one in so many goes to a mailbox here too; 0: all
	lag     time.Duration // that the next hop takes to answer, at most
}

// send sends messages until stop is closed, in sessions as long as the server
// lives. Errors are part of the game: it dies under them.
func (x *torture) send(number int, stop <-chan struct{}) {
	rnd := rand.New(rand.NewPCG(uint64(number), uint64(x.round)))
	var c *client
	for n := 0; ; n++ {
		select {
		case <-stop:
			if c != nil {
				c.close()
			}
			return
		default:
		}
		var err error
		if c == nil {
			if c, err = greeted(x.s.addr()); err != nil {
				<-time.After(5 * time.Millisecond) // it is away
				continue
			}
		}
		name := fmt.Sprintf("r%d-%d-%d", x.round, number, n)
		to := x.recipients(n)
		x.mu.Lock()
		x.begun++
		x.mu.Unlock()
		id, err := x.transaction(c, rnd, number, name, to)
		if err != nil {
			c.close()
			c = nil
			continue
		}
		x.mu.Lock()
		x.acked[name] = ack{id: id, client: number, to: to}
		x.mu.Unlock()
	}
}

func (x *torture) promised() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.acked)
}

// recipients are those of the message n of a client.
func (x *torture) recipients(n int) []string {
	to := []string{"far@b.example"}
	if l := x.phase.load.local; l == 0 || n%l == 0 {
		to = append(to, "local@a.example")
	}
	if h := x.phase.load.held; h > 0 && n%h == 0 {
		to = append(to, "late@held.example")
	}
	return to
}

// sender is the reverse-path of a client. The journal is asked by it.
func sender(number int) string { return fmt.Sprintf("s%d@client.example", number) }

// greeted connects and says EHLO.
func greeted(addr string) (*client, error) {
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	if _, err := c.want(250, "EHLO client.example"); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// transaction sends one message, its commands in one piece (RFC 2920), and
// returns the ID of its 250.
func (x *torture) transaction(c *client, rnd *rand.Rand, number int, name string, to []string) (id string, err error) {
	lines := []string{"MAIL FROM:" + path(sender(number))}
	for _, t := range to {
		lines = append(lines, "RCPT TO:"+path(t))
	}
	if err := c.raw(strings.Join(lines, "\r\n") + "\r\nDATA\r\n"); err != nil {
		return "", err
	}
	for range lines {
		if r, err := c.read(); err != nil || r.code != 250 {
			return "", fmt.Errorf("%v, %w", r, err)
		}
	}
	if r, err := c.read(); err != nil || r.code != 354 {
		return "", fmt.Errorf("%v, %w", r, err)
	}
	size := x.phase.load.size
	if !x.phase.load.fixed {
		size = rnd.IntN(size)
		if rnd.IntN(100) == 0 {
			size = 400_000 // has a file of its own in the spool
		}
	}
	return x.finish(c, rnd, stuffed(message(name, size)))
}

// finish sends the content and reads the reply.
func (x *torture) finish(c *client, rnd *rand.Rand, b []byte) (id string, err error) {
	x.content.Add(1)
	for left := x.phase.load.pieces; left > 1 && err == nil; left-- {
		n := rnd.IntN(len(b) + 1)
		err = c.raw(string(b[:n]))
		b = b[n:]
		<-time.After(time.Duration(rnd.Int64N(int64(5 * time.Millisecond))))
	}
	if err == nil {
		err = c.raw(string(b))
	}
	x.content.Add(-1)
	if err != nil {
		return "", err
	}
	select {
	case x.dots <- struct{}{}:
	default:
	}
	r, err := c.read()
	if err != nil || r.code != 250 {
		return "", fmt.Errorf("after the content: %v, %w", r, err)
	}
	for _, word := range strings.Fields(r.text) {
		if len(word) == 20 {
			return word, nil
		}
	}
	return "", fmt.Errorf("no ID in %v", r)
}

// stuffed is a content as it is sent, with the final dot.
func stuffed(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\r\n."), []byte("\r\n.."))
	return append(b, ".\r\n"...)
}

package smtpc

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// Each reply has its whole time, whatever deadline was set for one before it, and not
// more.
func TestPacerTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		go func() {
			defer far.Close()
			r := bufio.NewReader(far)
			io.WriteString(far, "220 mx\r\n")
			for n := 0; ; n++ {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
				if n == 4 { // the last has no answer
					r.ReadString('\n')
					return
				}
				time.Sleep(3 * time.Minute)
				io.WriteString(far, "250 mx\r\n")
			}
		}()
		c, err := NewConn(t.Context(), near, Options{Hello: "client.example"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if err := c.Noop(t.Context()); err != nil {
				t.Fatalf("NOOP %d: %v", i, err)
			}
		}
		start := time.Now()
		err = c.Noop(t.Context())
		if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took != 5*time.Minute {
			t.Errorf("%v after %v, want a timeout after 5 minutes", err, took)
		}
	})
}

// So has each write; what had gone when an older deadline passed is not sent again.
func TestPacerWritesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		got := make(chan string, 1)
		go func() {
			b := make([]byte, 4)
			io.ReadFull(far, b) // at once
			time.Sleep(50 * time.Second)
			io.ReadFull(far, b[:2]) // the half of the second
			time.Sleep(30 * time.Second)
			io.ReadFull(far, b[2:])
			got <- string(b)
		}()
		p := newPacer(near)
		p.timeout = time.Minute
		if _, err := p.Write([]byte("1234")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Second)
		if n, err := p.Write([]byte("5678")); n != 4 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if s := <-got; s != "5678" {
			t.Errorf("%q came", s)
		}
		start := time.Now()
		_, err := p.Write([]byte("9"))
		if took := time.Since(start); !errors.Is(err, os.ErrDeadlineExceeded) || took != time.Minute {
			t.Errorf("%v after %v, want a timeout after a minute", err, took)
		}
	})
}

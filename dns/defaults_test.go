package dns

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// deaf is a Dialer whose servers never answer.
type deaf struct{ dials int }

func (d *deaf) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	d.dials++
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestDefaults: a server has five seconds for an answer, and is asked twice, before mail
// waits for want of one.
func TestDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, began := &deaf{}, time.Now()
		c := NewClient(Options{Servers: []string{"192.0.2.1:53", "192.0.2.2:53"}, Dialer: d})
		if a, err := c.Lookup(t.Context(), "a.test", TypeMX); !errors.Is(err, ErrTimeout) {
			t.Errorf("%+v, %v", a, err)
		}
		if took := time.Since(began); d.dials != 4 || took != 20*time.Second {
			t.Errorf("asked %d times in %v", d.dials, took)
		}
	})
}

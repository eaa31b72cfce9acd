package node

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/vfs"
)

// A reload of whose new listeners one cannot be opened leaves none of the others bound:
// nobody connects to where nothing answers, and once the address is free the same reload
// opens all of them.
func TestReloadOpensAllListenersOrNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *still
		s = startStill(t, vfs.NewMem(), func() (*config.Config, error) {
			next := withListener(s.cfg)
			for _, addr := range []string{"192.0.2.2:25", "192.0.2.3:25"} {
				l := next.Listeners[0]
				l.Name, l.Address = addr, addr
				next.Listeners = append(next.Listeners, l)
			}
			return next, nil
		})
		const taken = "192.0.2.3:25"
		network := &lobby{open: map[string]bool{taken: true}} // by another program
		s.env.Net = network
		for range 2 {
			if _, err := s.Reload(t.Context()); err == nil {
				t.Error("reloaded, and one address was taken")
			}
			if n := network.left(); n != 1 {
				t.Errorf("%d listeners are open after a reload that failed", n-1)
			}
		}
		network.mu.Lock()
		delete(network.open, taken)
		network.mu.Unlock()
		if _, err := s.Reload(t.Context()); err != nil || network.left() != 3 {
			t.Errorf("the address is free: %v, %d listeners", err, network.left())
		}
		if err := s.Stop(t.Context()); err != nil || network.left() != 0 {
			t.Errorf("stop: %v, %d listeners are open", err, network.left())
		}
	})
}

// A slowLobby is one whose listeners take their time to close.
type slowLobby struct{ *lobby }

func (n slowLobby) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := n.lobby.Listen(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return slowDoor{l}, nil
}

type slowDoor struct{ net.Listener }

func (d slowDoor) Close() error {
	err := d.Listener.Close()
	time.Sleep(time.Second)
	return err
}

// A listener that a reload takes away, or gives other terms, is no failure, however long
// its socket takes to close: the node goes on, with no word of it, until it is to stop.
func TestRetiredListenerIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *still
		var next *config.Config
		s = startStill(t, vfs.NewMem(), func() (*config.Config, error) { return next, nil })
		network := &lobby{open: map[string]bool{}}
		s.env.Net = slowLobby{network}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Wait(ctx) }()
		with := withListener(s.cfg)
		other := withListener(s.cfg)
		other.Limits.MessageSize /= 2
		for i, cfg := range []*config.Config{with, other, s.cfg, with, s.cfg} {
			next = cfg
			if _, err := s.Reload(t.Context()); err != nil {
				t.Errorf("reload %d: %v", i, err)
			}
			synctest.Wait()
			if n := network.left(); n != len(cfg.Listeners) || !s.ready.Load() || len(ended) > 0 {
				t.Errorf("reload %d: %d listeners of %d, ready %v, ended %v", i, n, len(cfg.Listeners), s.ready.Load(), len(ended) > 0)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

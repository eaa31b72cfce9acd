package node

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/config"
)

// Who asks for the quota of RFC 4865 6 seldom asks the spool, and gets no more than it.
func TestFutureIsCountedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spool, looks := map[string]int{"a": 2, "b": 1, "": 1}, 0
		n := &Node{env: Env{Now: time.Now}, futures: newFutures(func(time.Time) map[string]int {
			looks++
			return maps.Clone(spool)
		})}
		cfg := &config.Config{}
		cfg.Limits.FutureMessages = 5
		n.gen.Store(&generation{cfg: cfg})
		ask := func(account string, want bool, after int) {
			t.Helper()
			if ok, err := n.future(t.Context(), account); ok != want || err != nil || looks != after {
				t.Errorf("%s: %v, %v after %d looks, want %v after %d", account, ok, err, looks, want, after)
			}
		}
		for range 3 {
			ask("a", true, 1)
		}
		ask("b", true, 1)
		spool["a"] = 5
		for range 100 {
			ask("a", false, 2) // the first time in doubt: those that were let in may have come to nothing
		}
		ask("c", true, 2)
		time.Sleep(futureEvery)
		clear(spool)
		ask("a", true, 3)
		cfg.Limits.FutureMessages = 1
		ask("a", true, 4)                                                  // the one that was let in has come to nothing
		n.env.Now = func() time.Time { return time.Now().Add(-time.Hour) } // the clock was set back
		ask("b", true, 5)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		n.futures.turn <- struct{}{}
		if _, err := n.future(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

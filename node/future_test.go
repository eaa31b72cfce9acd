package node

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/config"
)

// heldBack is a spool of messages that wait for their release, by account.
type heldBack struct {
	postrider.Spool
	accounts []string
	looks    int
	err      error
}

func (h *heldBack) Scan(context.Context) iter.Seq2[*postrider.Message, error] {
	h.looks++
	return func(yield func(*postrider.Message, error) bool) {
		for _, a := range h.accounts {
			if !yield(&postrider.Message{Source: postrider.Source{Account: a}, Release: time.Now().Add(time.Hour)}, nil) {
				return
			}
		}
		if h.err != nil {
			yield(nil, h.err)
		}
	}
}

// To ask for the quota of RFC 4865 6 does not look through the spool each time, and
// lets nobody have more than it.
func TestFutureIsCountedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spool := &heldBack{accounts: []string{"a", "a", "b", ""}}
		n := &Node{env: Env{Now: time.Now}, spool: spool, futures: newFutures()}
		cfg := &config.Config{}
		cfg.Limits.FutureMessages = 5
		n.gen.Store(&generation{cfg: cfg})
		ask := func(account string, want bool, looks int) {
			t.Helper()
			if ok, err := n.future(t.Context(), account); ok != want || err != nil || spool.looks != looks {
				t.Errorf("%s: %v, %v after %d looks, want %v after %d", account, ok, err, spool.looks, want, looks)
			}
		}
		for range 3 {
			ask("a", true, 1)
		}
		ask("b", true, 1)
		spool.accounts = append(spool.accounts, "a", "a", "a")
		for range 100 {
			ask("a", false, 2) // the first time in doubt: those that were let in may have come to nothing
		}
		ask("c", true, 2)
		time.Sleep(futureEvery)
		spool.accounts = nil
		ask("a", true, 3)
		cfg.Limits.FutureMessages = 1
		ask("a", true, 4) // the one that was let in has come to nothing
		spool.err = errors.New("broken")
		if ok, err := n.future(t.Context(), "a"); ok || err != spool.err {
			t.Errorf("%v, %v with a spool that cannot be read", ok, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		n.futures.turn <- struct{}{}
		if _, err := n.future(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

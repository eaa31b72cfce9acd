package account

import (
	"testing"
	"time"

	"github.com/postrider/postrider/vfs"
)

// A clock that is set back, by the operator or when the machine has found the time at
// last, hides no change of the accounts from mail: who was added by another process has
// mail at once, and who was removed has none.
func TestAccountsWhenTheClockGoesBack(t *testing.T) {
	fsys := vfs.NewMem()
	now := time.Now()
	put(t, fsys, "accounts", quick("alice@our.example", "one"))
	s := open(t, fsys, Options{Now: func() time.Time { return now }})
	has := "alice@our.example"
	for _, step := range []struct {
		by   time.Duration // how the clock goes on
		put  string        // who alone has an account from then on
		seen bool
	}{
		{-time.Nanosecond, "robert@our.example", true},
		{-5 * time.Hour, "eve@our.example", true},
		{lookEvery, "dorothy@our.example", true},
		{-240 * time.Hour, "al@our.example", true},
		{time.Millisecond, "bartholomew@our.example", false}, // was looked at just now
		{-time.Minute, "zoe@our.example", true},
	} {
		now = now.Add(step.by)
		put(t, fsys, "accounts", quick(step.put, "one"))
		if s.Has(mustPath(step.put)) != step.seen || s.Has(mustPath(has)) == step.seen {
			t.Errorf("the clock went by %v: %s is there %v, and %s %v", step.by, step.put, s.Has(mustPath(step.put)), has, s.Has(mustPath(has)))
		}
		if step.seen {
			has = step.put
		}
	}
}

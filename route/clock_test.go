package route

import (
	"testing"
	"time"

	"github.com/postrider/postrider"
)

// A clock that is set back, by the operator or when the machine has found the time at
// last, hides no change of an alias file: it is taken at once, and the next ones within a
// second of the clock as it goes now.
func TestAliasesWhenTheClockGoesBack(t *testing.T) {
	files := newFiles(map[string]string{"/a": "sales: alice\n", "/b": ""})
	now := time.Unix(1_000_000, 0)
	table := aliasTable(files)
	table.Now = func() time.Time { return now }
	r := router(t, table)
	for _, step := range []struct {
		by         time.Duration // how the clock goes on
		text, want string
	}{
		{0, "", "alice@a.example"},
		{-time.Nanosecond, "sales: bob\n", "bob@a.example"},
		{-5 * time.Hour, "sales: carol, bob\n", "carol@a.example bob@a.example"},
		{lookEvery, "sales: carol\n", "carol@a.example"},
		{-240 * time.Hour, "sales: bob, alice\n", "bob@a.example alice@a.example"},
		{time.Millisecond, "sales: alice\n", "bob@a.example alice@a.example"}, // was looked at just now
		{lookEvery, "", "alice@a.example"},
	} {
		now = now.Add(step.by)
		if step.text != "" {
			files.write("/a", step.text, now)
		}
		got, err := r.Resolve(t.Context(), at(t, "sales@a.example"), postrider.Source{})
		if err != nil || paths(got.To) != step.want {
			t.Errorf("the clock went by %v: sales is %s, %v; want %s", step.by, paths(got.To), err, step.want)
		}
	}
}

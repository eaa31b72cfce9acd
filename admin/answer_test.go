package admin

import (
	"context"
	"io"
	"iter"
	"net/http"
	"testing"
	"testing/synctest"
)

// told counts what an answer holds, and returns the error that it ends with.
func told[T any](all iter.Seq2[T, error]) (n int, err error) {
	for _, err = range all {
		if err == nil {
			n++
		}
	}
	return n, err
}

// An answer that breaks off, as when the server dies, is never taken for a whole one: who
// asked gets what came, and then an error. Else an operator would see a short queue, and of an
// order fewer messages than it has destroyed.
func TestAnswerThatBreaksOff(t *testing.T) {
	asks := map[string]func(context.Context, Client) (int, error){
		"queue": func(ctx context.Context, c Client) (int, error) { return told(c.Queue(ctx, Filter{})) },
		"drop": func(ctx context.Context, c Client) (int, error) {
			return told(c.Do(ctx, Order{Verb: VerbDrop, Filter: Filter{To: "*"}}))
		},
		"stat":  func(ctx context.Context, c Client) (int, error) { return told(c.Stat(ctx, Filter{})) },
		"hosts": func(ctx context.Context, c Client) (int, error) { return told(c.Hosts(ctx)) },
		"where": func(ctx context.Context, c Client) (int, error) { return told(c.Where(ctx, "u@far.example", 0)) },
	}
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			text  string
			whole int // lines of it
			dies  bool
		}{
			{"{}\n{}\n", 2, false},
			{"", 0, true},
			{"{}\n{}\n", 2, true}, // between two lines
			{"{}\n{\"id\":", 1, true},
			{"{}\n{\"error\"", 1, true},
		} {
			c := wired(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, tt.text)
				_ = http.NewResponseController(w).Flush()
				if tt.dies {
					panic(http.ErrAbortHandler) // closes the connection
				}
			}))
			for name, ask := range asks {
				if n, err := ask(t.Context(), c); n != tt.whole || (err != nil) != tt.dies {
					t.Errorf("%s: %q breaks off %v: %d lines, %v", name, tt.text, tt.dies, n, err)
				}
			}
		}
	})
}

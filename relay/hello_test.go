package relay

import (
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider"
)

// A name that nobody else could look up is not said. The ends of a connection of these
// tests have no address; where they have one its literal stands there.
func TestHello(t *testing.T) {
	for name, want := range map[string]string{
		"mx.us.example": "EHLO mx.us.example", "us": "EHLO localhost", "localhost": "EHLO localhost",
	} {
		synctest.Test(t, func(t *testing.T) {
			w, p := single()
			r := w.relay(Options{Hello: name})
			r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org"))
			w.done(t, r)
			if len(p.commands) == 0 || p.commands[0] != want {
				t.Errorf("%s: %q, want %q", name, p.commands, want)
			}
		})
	}
}

// A name that many machines have is none to know ourselves by.
func TestNameOfMany(t *testing.T) {
	const name = "localhost.localdomain"
	synctest.Test(t, func(t *testing.T) {
		w, p := single()
		p.replies = map[string]string{"EHLO": "250 " + name}
		r := w.relay(Options{Hello: name})
		defer w.done(t, r)
		if o := r.Deliver(t.Context(), delivery(t, postrider.ViaMX, "b@example.org"))[0]; o.Result != postrider.ResultDelivered {
			t.Error(describe(o))
		}
	})
}

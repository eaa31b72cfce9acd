package queue

import (
	"testing"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Who asks hears when a dead destination is tried again.
func TestProbed(t *testing.T) {
	run(t, Limits{}, func(b *bench) {
		b.answer = func(smtp.Path) postrider.Outcome {
			return postrider.Outcome{Scope: postrider.ScopeDest, Reply: smtp.Reply{Code: 451, Text: "nobody there"}}
		}
		b.send("bob@x.example")
		b.until(time.Second)
		if at := b.queue.Probed("mx:x.example"); !at.After(b.start) {
			t.Errorf("x.example is dead, and is probed at %v", at)
		}
		if at := b.queue.Probed("mx:y.example"); !at.IsZero() {
			t.Errorf("y.example was never tried, and is probed at %v", at)
		}
	})
}

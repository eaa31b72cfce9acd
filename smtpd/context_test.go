package smtpd

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider/smtp"
)

// A witness is a recorder that keeps the context of the last session.
type witness struct {
	*recorder
	last context.Context
}

func (w *witness) Open(ctx context.Context, c Client) (Session, smtp.Reply) {
	w.last = ctx
	return w.recorder.Open(ctx, c)
}

// The context of a session ends with its connection, however that ends, while the server
// goes on: what somebody does for the session ends too, and the server keeps nothing of
// connections that were.
func TestContextEndsWithTheConnection(t *testing.T) {
	enough := smtp.Reply{Code: 421, Status: smtp.Status{Class: 4, Subject: 7}, Text: "enough"}
	for _, tt := range []struct {
		name string
		open smtp.Reply
		end  func(p *peer) // behind the greeting
	}{
		{name: "QUIT", end: func(p *peer) { p.say("QUIT"); p.expect("221") }},
		{name: "QUIT amid a transaction", end: func(p *peer) { p.transaction(); p.say("QUIT"); p.expect("221") }},
		{name: "the session has enough", end: func(p *peer) { p.say("EHLO bye"); p.expect("421 4.7.0") }},
		{name: "the session panics", end: func(p *peer) { p.say("EHLO panic"); p.expect("421 4.3.0") }},
		{name: "HTTP", end: func(p *peer) { p.say("GET / HTTP/1.1"); p.expect("421 4.7.0") }},
		{name: "no greeting", open: enough, end: func(*peer) {}},
		{name: "silence", end: func(p *peer) { p.expect("421 4.4.2") }},
		{name: "the client has gone", end: func(p *peer) { p.Close() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &witness{recorder: &recorder{open: tt.open}}
				r := run(t, t.Context(), &Server{Handler: w})
				defer r.stop()
				p := r.dial("192.0.2.1:1")
				if tt.open.IsZero() {
					p.expect("220")
					if synctest.Wait(); w.last.Err() != nil {
						t.Error("the context has ended before it")
					}
				} else {
					p.expect("421")
				}
				tt.end(p)
				p.ended()
				if synctest.Wait(); w.last.Err() == nil {
					t.Error("the context has not ended")
				}
			})
		})
	}
}

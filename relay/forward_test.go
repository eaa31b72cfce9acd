package relay

import "testing"

// TestOtherAddress: RFC 5321 3.4: what a peer says of a recipient with another
// address. 7.4: nothing changes by it where we send.
func TestOtherAddress(t *testing.T) {
	three := []string{"b@example.org", "c@example.org", "d@example.org"}
	first := []string{mx1}
	play(t, []story{
		{
			name: "251 is taken, and 551 a failure whose words the sender hears", to: three, dials: first,
			world: answers(map[string]string{"RCPT TO:<b@example.org>": "251 2.1.5 will forward to <b@new.example>",
				"RCPT TO:<c@example.org>": "551 5.1.6 please try <c@new.example>", "RCPT TO:<d@example.org>": "551 please try <d@new.example>"}, nil),
			want: []string{delivered + " (mx1.example)", "failed/recipient 551 5.1.6 please try <c@new.example> (mx1.example)",
				"failed/recipient 551 0.0.0 please try <d@new.example> (mx1.example)"},
		}, {
			name: "251 alone is somebody to send to", to: three[:1], dials: first,
			world: answers(map[string]string{"RCPT": "251 2.1.5 will forward to <b@new.example>"}, nil),
			want:  []string{delivered + " (mx1.example)"},
		}, {
			name: "551 alone leaves nobody", to: three[:1], dials: first,
			world: answers(map[string]string{"RCPT": "551 5.1.6 please try <b@new.example>"}, nil),
			want:  []string{"failed/recipient 551 5.1.6 please try <b@new.example> (mx1.example)"},
		}, {
			name: "RFC 7504 4: 556 to RCPT is final", to: three[:1], dials: first,
			world: answers(map[string]string{"RCPT": "556 5.1.10 Domain does not accept mail"}, nil),
			want:  []string{"failed/recipient 556 5.1.10 Domain does not accept mail (mx1.example)"},
		},
	})
}

package relay

import "testing"

// RFC 6531 3.4: a client that knows that a message needs nothing of the extension
// "SHOULD NOT supply the SMTPUTF8 parameter".
func TestUTF8IsNotAskedForNothing(t *testing.T) {
	send(t, []sending{
		{name: "ASCII", exts: []string{"SMTPUTF8", "8BITMIME"}, want: []string{taken}, mail: "MAIL FROM:<a@example.net>"},
		{name: "a recipient", exts: []string{"SMTPUTF8", "8BITMIME"}, to: []string{"ü@example.org"}, want: []string{taken}, mail: "MAIL FROM:<a@example.net> SMTPUTF8"},
	})
}

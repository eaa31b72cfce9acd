package config

import (
	"strings"
	"testing"
)

// RFC 6531 3.7.1: the client "MUST send only ASCII [...]
// domains in the EHLO command", and so must the server in its answer.
func TestHostname(t *testing.T) {
	for name, want := range map[string]string{
		"mx1.example.org": "", "mx1.xn--bcher-kva.example": "", "mx1.bücher.example": "is not ASCII", "mx 1": "is no host name",
	} {
		_, found := Load("x.hcl", []byte("hostname = \""+name+"\"\nlistener \"mx\" { address = \":25\" }"), nil, testFiles())
		if (want != "") != (len(found) == 1) || want != "" && !strings.Contains(found.Error(), want) {
			t.Errorf("%s: %v, want %q", name, found, want)
		}
	}
}

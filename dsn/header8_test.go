package dsn

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/smtp"
)

// RFC 6533 6.3: of message/global-headers, "the 8-bit content transfer encoding SHOULD be
// used", "Whenever possible": to a sender that has UTF-8 itself.
func TestReturnedHeader8Bit(t *testing.T) {
	m, _ := composed(t, Report{
		ID: "x", ReportingMTA: "mx.example.org", To: smtp.Path{Local: "jörg", Domain: "b.example"}, UTF8: true, Original: strings.NewReader("Subject: ü\r\n\r\nö\r\n"),
		Recipients: []Recipient{{Final: smtp.Path{Local: "c", Domain: "d.example"}, Action: Failed}},
	})
	if want := "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: ü\r\n"; !strings.Contains(string(m.Content), want) {
		t.Errorf("%q is not in\n%s", want, m.Content)
	}
}

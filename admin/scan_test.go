package admin

import (
	"strconv"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// What is read of a queue is bounded by the domain that a filter names, and only by that.
func TestFilterDomain(t *testing.T) {
	for _, tt := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, ""}, {Filter{Domain: "a.example"}, "a.example"}, {Filter{To: "x@a.example"}, "a.example"}, {Filter{To: "*@a.example"}, "a.example"},
		{Filter{To: "*"}, ""}, {Filter{To: "x@*.example"}, ""}, {Filter{To: "postmaster"}, ""}, {Filter{From: "x@a.example"}, ""},
		{Filter{To: "x@a.example", Domain: "b.example"}, "b.example"},
	} {
		if got := tt.f.domain(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.f, got, tt.want)
		}
	}
}

// A message to a great many names some of them where it was accepted.
func TestManyRecipients(t *testing.T) {
	ev := postrider.Event{Kind: postrider.EventAccepted, ID: "x"}
	for i := range tosShown + 5 {
		ev.Tos = append(ev.Tos, smtp.Path{Local: strconv.Itoa(i), Domain: "x.example"})
	}
	s, ok := stepOf(&ev)
	if want := ", 99@x.example and 5 more"; !ok || !strings.HasPrefix(s.To, "0@x.example, 1@x.example, ") || !strings.HasSuffix(s.To, want) {
		t.Errorf("%q", s.To)
	}
}

package admin

import "testing"

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

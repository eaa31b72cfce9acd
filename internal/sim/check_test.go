package sim

import (
	"strings"
	"testing"
)

// Nobody hears of mail whose report the operator has dropped. Of what had been held that
// is no silence of ours only where it was let go and a machine said that it was too old.
func TestReportDropped(t *testing.T) {
	const to = "z1@held.example"
	for _, tc := range []struct {
		name                    string
		dropped, unheld, tooOld bool
		want                    string
	}{
		{"all three", true, true, true, ""},
		{"the report was not dropped", false, true, true, "acked_is_kept"},
		{"it was never let go", true, false, true, "acked_is_kept"},
		{"no machine gave it up", true, true, false, "acked_is_kept"},
	} {
		s := &Site{}
		s.init()
		s.unheld, s.reported[to], s.dropped["sender@a.example"] = tc.unheld, tc.tooOld, tc.dropped
		e := &Entry{Letter: &Letter{To: []string{to}}, Acked: map[string]int{to: 1}}
		err := s.checkRcpt("token", to, e, &End{}, &Tally{})
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

package admin

import (
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postrider/postrider/smtp"
)

// handIn hands a content in with these parameters, and returns what the program hears. take
// stands for who takes it.
func handIn(take func(Letter) (smtp.Reply, int), query string, content io.Reader, expect string) (code int, s Submitted) {
	o := Options{Submit: func(_ context.Context, l Letter) (smtp.Reply, int) { return take(l) }}
	r := httptest.NewRequest("POST", "/api/v1/submit?"+query, content)
	if expect != "" {
		r.Header.Set("Expect", expect)
	}
	w := httptest.NewRecorder()
	Submission(o).ServeHTTP(w, r)
	_ = json.Unmarshal(w.Body.Bytes(), &s)
	return w.Code, s
}

// A letter that names nobody, or somebody who cannot be, is no letter, and nobody takes it:
// in a transaction its recipients would be fewer than the program has named.
func TestWrongLetters(t *testing.T) {
	taken := 0
	take := func(Letter) (smtp.Reply, int) { taken++; return smtp.OK, -1 }
	for _, query := range []string{"", "from=a@b", "to=", "to=c@d&to=", "to=<c@d>", "to=c", "from=a&to=c@d", "from=a@b@c&to=c@d"} {
		if code, _ := handIn(take, query, strings.NewReader("x"), ""); code != 400 || taken > 0 {
			t.Errorf("%q: %d, taken %d times", query, code, taken)
		}
	}
	for _, query := range []string{"to=c@d", "from=&to=c@d", "from=a@b&to=c@d&to=Postmaster"} {
		if code, s := handIn(take, query, strings.NewReader("x"), ""); code != 200 || s.Code != 250 {
			t.Errorf("%q: %d, %+v", query, code, s)
		}
	}
}

// Who takes a letter and says nothing of it has not taken it: the program hears, as it
// would over SMTP, that it is to come again.
func TestNothingSaidOfALetter(t *testing.T) {
	_, s := handIn(func(Letter) (smtp.Reply, int) { return smtp.Reply{}, -1 }, "to=c@d", strings.NewReader("x"), "")
	if s.Code != 451 || !strings.HasPrefix(s.Reply, "451 4.3.0") || s.To != "" {
		t.Errorf("%+v", s)
	}
	_, s = handIn(func(Letter) (smtp.Reply, int) { return smtp.Reply{}, 1 }, "to=c@d&to=e@f", strings.NewReader("x"), "")
	if s.Code != 451 || s.To != "e@f" {
		t.Errorf("%+v", s)
	}
}

// A program that is still writing what nobody wants hears why: what it writes is read away.
// One that waits to be told to write is not told to.
func TestRefusedLetterIsReadAway(t *testing.T) {
	refuse := func(Letter) (smtp.Reply, int) { return smtp.Reply{Code: 550, Text: "no"}, 0 }
	for expect, want := range map[string]int{"": 0, "100-continue": 100_000} {
		content := strings.NewReader(strings.Repeat("x", 100_000))
		if _, s := handIn(refuse, "to=c@d", content, expect); s.Code != 550 || s.To != "c@d" || content.Len() != want {
			t.Errorf("expecting %q: %+v, %d octets are left, want %d", expect, s, content.Len(), want)
		}
	}
	half := func(l Letter) (smtp.Reply, int) {
		_, _ = io.CopyN(io.Discard, l.Content, 10)
		return smtp.Reply{Code: 552, Text: "too large"}, -1
	}
	content := strings.NewReader(strings.Repeat("x", 100_000))
	if _, s := handIn(half, "to=c@d", content, "100-continue"); s.Code != 552 || content.Len() != 0 {
		t.Errorf("%+v, %d octets are left", s, content.Len())
	}
}

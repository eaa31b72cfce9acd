package conformance

import (
	"fmt"
	"strings"

	"github.com/postrider/postrider/smtp"
)

// What is watched in every reply of every dialogue.
const (
	watchForm     = "form"      // code, and hyphen or space
	watchCRLF     = "crlf"      // the end of the line
	watchRange    = "range"     // first and second digit
	watchSameCode = "same-code" // in all lines
	watchText     = "text"      // printable ASCII
	watchBare     = "bare"      // a code without text
	watchLength   = "length"
	watchStatus   = "status" // there is an enhanced status
	watchClass    = "class"  // and it agrees with the code
)

// A watch remembers the first reply that each watcher finds fault with.
type watch struct {
	seen   map[string]int // replies looked at
	faults map[string]int
	first  map[string]string
}

func newWatch() *watch {
	return &watch{seen: map[string]int{}, faults: map[string]int{}, first: map[string]string{}}
}

func (w *watch) note(d *dialogue, what, line string) {
	w.faults[what]++
	if w.faults[what] == 1 {
		w.first[what] = "in " + d.c.Name + ": " + printable(line, lineShown)
	}
}

// result is what a watcher has to say at the end.
func (w *watch) result(c Case) Result {
	r := Result{Name: c.Name, RFC: c.RFC, Level: c.Level, Says: c.Says, Verdict: Pass}
	switch n := w.faults[c.watch]; {
	case n > 0:
		r.Verdict, r.Why = Fail, fmt.Sprintf("%d of the replies, first %s", n, w.first[c.watch])
	case w.seen[c.watch] == 0:
		r.Verdict, r.Why = Skipped, "no reply that it applies to was heard"
	}
	return r
}

// line looks at one line of a reply and takes it apart; ok is false if that is
// impossible.
func (w *watch) line(d *dialogue, line string) (code int, more bool, text string, ok bool) {
	for _, what := range []string{watchForm, watchCRLF, watchRange, watchSameCode, watchText, watchBare, watchLength} {
		w.seen[what]++
	}
	if len(line) > smtp.ReplyMax {
		w.note(d, watchLength, line)
	}
	s, crlf := strings.CutSuffix(line, "\r\n")
	if !crlf {
		w.note(d, watchCRLF, line)
		s = strings.TrimRight(line, "\r\n")
	}
	if len(s) < 3 || strings.Trim(s[:3], "0123456789") != "" || len(s) > 3 && s[3] != ' ' && s[3] != '-' {
		w.note(d, watchForm, line)
		return 0, false, "", false
	}
	code = int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
	if s[0] < '2' || s[0] > '5' || s[1] > '5' {
		w.note(d, watchRange, line)
	}
	if len(s) <= 4 {
		if code != 334 { // RFC 4954 4: a challenge of no data has no text
			w.note(d, watchBare, line)
		}
		return code, len(s) == 4 && s[3] == '-', "", true
	}
	for _, c := range []byte(s[4:]) {
		if c != '\t' && (c < ' ' || c > '~') {
			w.note(d, watchText, line)
			break
		}
	}
	return code, s[3] == '-', s[4:], true
}

// reply looks at a whole reply. RFC 2034 4 excepts "initial greetings and any
// response to HELO or EHLO".
func (w *watch) reply(d *dialogue, r reply) {
	if !d.status || d.first || d.hello || r.code/100 == 3 {
		return
	}
	w.seen[watchStatus]++
	for _, line := range r.lines {
		st, ok := statusOf(line)
		if !ok {
			w.note(d, watchStatus, fmt.Sprintf("%d %s", r.code, line))
			return
		}
		w.seen[watchClass]++
		if int(st.Class) != r.code/100 {
			w.note(d, watchClass, fmt.Sprintf("%d %s", r.code, line))
			return
		}
	}
}

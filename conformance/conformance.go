// Package conformance asks any SMTP or LMTP server, over the wire, whether it
// keeps what the RFCs ask of a server. The requirements are data: the files in
// cases hold one dialogue for each, with the sentence that it proves. The client
// here is a raw one that knows no more of SMTP than how a reply looks, so that it
// can send what no client would, octet by octet. Connections are handed in.
package conformance

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// A Level is how much an RFC insists (RFC 2119).
type Level string

// The levels.
const (
	Must   Level = "MUST"
	Should Level = "SHOULD"
	May    Level = "MAY"
)

// A Verdict is what a dialogue has shown.
type Verdict string

// The verdicts. Skipped says nothing of the server: the requirement does not
// apply to it, or could not be tried.
const (
	Pass    Verdict = "pass"
	Fail    Verdict = "fail"
	Skipped Verdict = "skipped"
)

// A Case is one requirement and the dialogue that shows whether it is kept.
type Case struct {
	Name  string // unique
	RFC   string // such as "RFC 5321 4.1.4"
	Level Level
	Says  string // what is asked for, in one sentence

	steps []step
	each  string // what {each} stands for
	watch string // not a dialogue of its own: what this watcher saw in all of them
	slow  bool
	lmtp  bool // for LMTP only
	smtp  bool // for SMTP only
}

// A Result is what became of one Case.
type Result struct {
	Name    string  `json:"name"`
	RFC     string  `json:"rfc"`
	Level   Level   `json:"level"`
	Verdict Verdict `json:"result"`
	Why     string  `json:"why,omitempty"` // one line of printable ASCII
	Says    string  `json:"says"`
	// Heard is the dialogue of a Case that failed: lines that begin with "C: " or
	// "S: ", in printable ASCII, long ones cut, and not more than a screenful.
	Heard []string `json:"heard,omitempty"`
}

// A Target is the server that is asked, and as whom.
type Target struct {
	// Dial connects to it.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS is how to shake hands. Nil: any certificate will do.
	TLS *tls.Config
	// StartTLS goes over to TLS in each dialogue before anything else.
	StartTLS bool
	LMTP     bool
	// Rcpt is an address that the server accepts mail for; the mailbox gets some
	// hundred small messages. "": what needs a recipient is skipped.
	Rcpt string
	// From is the reverse-path. "": Rcpt, or the null path.
	From string
	// Hello is the name for EHLO. "": the address literal of our end.
	Hello string
	// Mailbox returns the messages in the mailbox of Rcpt that hold a text, whatever
	// their line ends. Nil: what arrives cannot be seen, and what asks for it is skipped.
	Mailbox func(text string) ([][]byte, error)
	// Timeout is how long to wait for one reply. 0: 10 seconds.
	Timeout time.Duration
	// Pause is what separates two packets. 0: a millisecond.
	Pause time.Duration
	// Slow also tries what takes minutes.
	Slow bool
}

// Bounds of a run.
const (
	timeoutDefault = 10 * time.Second
	pauseDefault   = time.Millisecond
	// pastMax is the largest message that is sent to find out what happens past a
	// limit of the server.
	pastMax = 64 << 20
)

// A Summary counts the results.
type Summary struct {
	Pass, Skipped        int
	FailMust, FailShould int
}

// Add counts a result.
func (s *Summary) Add(r Result) {
	switch {
	case r.Verdict == Pass:
		s.Pass++
	case r.Verdict == Skipped:
		s.Skipped++
	case r.Level == Must:
		s.FailMust++
	default:
		s.FailShould++
	}
}

// Run tries the cases one after the other, each on a connection of its own, and
// tells each result as it is known; those of watchers come last. An error is one
// of connecting, and what is left is not tried.
func Run(ctx context.Context, t Target, cases []Case, tell func(Result)) error {
	w := newWatch()
	var last []Case
	for _, c := range cases {
		if c.watch != "" {
			last = append(last, c)
			continue
		}
		r, err := try(ctx, &t, c, w)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		tell(r)
	}
	for _, c := range last {
		tell(w.result(c))
	}
	return nil
}

// Select returns the cases of which the name, or the start of it up to a "/" or
// a "-", is in only. No names: all cases.
func Select(cases []Case, only []string) ([]Case, error) {
	if len(only) == 0 {
		return cases, nil
	}
	var some []Case
	found := make([]bool, len(only))
	for _, c := range cases {
		chosen := false
		for i, o := range only {
			rest, ok := strings.CutPrefix(c.Name, o)
			if ok && (rest == "" || rest[0] == '/' || rest[0] == '-') {
				chosen, found[i] = true, true
			}
		}
		if chosen {
			some = append(some, c)
		}
	}
	for i, ok := range found {
		if !ok {
			return nil, fmt.Errorf("no requirement has the name %s", printable(only[i], lineShown))
		}
	}
	return some, nil
}

// try holds the dialogue of one case.
func try(ctx context.Context, t *Target, c Case, w *watch) (Result, error) {
	r := Result{Name: c.Name, RFC: c.RFC, Level: c.Level, Says: c.Says, Verdict: Skipped}
	switch {
	case c.slow && !t.Slow:
		r.Why = "takes minutes"
		return r, nil
	case c.lmtp && !t.LMTP:
		r.Why = "is of LMTP"
		return r, nil
	case c.smtp && t.LMTP:
		r.Why = "is of SMTP"
		return r, nil
	}
	d := &dialogue{ctx: ctx, t: t, c: &c, watch: w}
	defer d.close()
	var end *end
	for _, s := range c.steps {
		if end = s.run(d); end != nil {
			break
		}
	}
	if d.dialErr != nil {
		return r, d.dialErr
	}
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	r.Verdict = Pass
	if end != nil {
		r.Verdict, r.Why = end.verdict, printable(end.why, lineShown)
	}
	switch {
	case r.Verdict == Fail && c.Level == May:
		r.Verdict, r.Why = Skipped, "is not done, and need not be: "+r.Why
	case r.Verdict == Fail:
		r.Heard = d.log.lines()
	}
	return r, nil
}

// An end is why a dialogue goes no further.
type end struct {
	verdict Verdict
	why     string
}

func failed(format string, args ...any) *end  { return &end{Fail, fmt.Sprintf(format, args...)} }
func skipped(format string, args ...any) *end { return &end{Skipped, fmt.Sprintf(format, args...)} }

// done ends a dialogue that needs no more to pass.
var done = &end{verdict: Pass}

// errClosed is that the server has closed the connection, or reset it.
var errClosed = errors.New("the connection is closed")

var errNoReply = errors.New("what comes is no reply")

package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/postrider/postrider/smtp"
)

// A Letter is a message that a program on this machine hands in. It goes to all
// its recipients, or, if one of them is refused, to none.
type Letter struct {
	From    smtp.Path
	To      []smtp.Path
	Content io.Reader // with CRLF, as SMTP has it
	Size    int64     // octets of Content; 0: not known
	UTF8    bool      // the header holds what needs SMTPUTF8
}

// Submitted is what came of a Letter.
type Submitted struct {
	Code  int    `json:"code"` // of SMTP: 2yz, and it is durable; 4yz: later; 5yz: never
	Reply string `json:"reply"`
	To    string `json:"to,omitempty"` // who was refused; empty: the message, or its sender
}

// submitTime is how long a program may take to hand its letter in.
const submitTime = 2 * time.Minute

// drainMax is how much of a letter that is refused is read and thrown away, in
// octets.
const drainMax = 64 << 20

// counted counts the octets that are read.
type counted struct {
	in io.Reader
	n  int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

// Submission returns the handler of the socket where programs of every user hand
// mail in, and of nothing else.
func Submission(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/submit", o.submit)
	return mux
}

// submit takes a letter in.
func (o Options) submit(w http.ResponseWriter, r *http.Request) {
	if o.Submit == nil {
		answer(w, http.StatusNotImplemented, fault{"this server takes no mail here"})
		return
	}
	letter, err := parseLetter(r.URL.Query())
	if err != nil {
		answer(w, http.StatusBadRequest, fault{err.Error()})
		return
	}
	// A large content on a slow disk takes longer than a question.
	if c, until := http.NewResponseController(w), time.Now().Add(submitTime); c.SetReadDeadline(until) == nil {
		_ = c.SetWriteDeadline(until.Add(submitTime))
	}
	body := &counted{in: r.Body}
	letter.Content, letter.Size = body, max(0, r.ContentLength)
	reply, refused := o.Submit(r.Context(), letter)
	if body.n > 0 || r.Header.Get("Expect") == "" {
		// Who is still writing would lose the answer with the connection.
		_, _ = io.CopyN(io.Discard, r.Body, drainMax)
	}
	reply = reply.Normal()
	s := Submitted{Code: reply.Code, Reply: ReplyText(reply)}
	if refused >= 0 {
		s.To = letter.To[refused].String()
	}
	answer(w, http.StatusOK, s)
}

func parseLetter(v url.Values) (Letter, error) {
	l := Letter{UTF8: v.Get("utf8") == "true"}
	if from := v.Get("from"); from != "" {
		p, err := smtp.ParsePath(from)
		if err != nil {
			return l, fmt.Errorf("from: %q: %w", from, err)
		}
		l.From = p
	}
	for _, to := range v["to"] {
		p, err := smtp.ParsePath(to)
		if err == nil && p.IsNull() {
			err = errors.New("a recipient cannot be empty")
		}
		if err != nil {
			return l, fmt.Errorf("to: %q: %w", to, err)
		}
		l.To = append(l.To, p)
	}
	if len(l.To) == 0 {
		return l, errors.New("to: no recipient")
	}
	return l, nil
}

// Submit hands a letter in.
func (c Client) Submit(ctx context.Context, l Letter) (Submitted, error) {
	v := url.Values{"from": {l.From.String()}}
	for _, to := range l.To {
		v.Add("to", to.String())
	}
	if l.UTF8 {
		v.Set("utf8", "true")
	}
	var s Submitted
	body, err := c.send(ctx, http.MethodPost, "/api/v1/submit", v, l.Content, l.Size)
	if err != nil {
		return s, err
	}
	return s, decode(body, &s)
}

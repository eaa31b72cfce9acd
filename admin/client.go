package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"

	"github.com/postrider/postrider"
)

// lineMax bounds a line of an answer: a message with a great many recipients.
const lineMax = 256 << 20

// A Client asks a running server over its control socket.
type Client struct {
	// Transport reaches the socket; the host of the requests is of no meaning.
	Transport http.RoundTripper
}

// Queue yields the messages that f chooses, oldest first.
func (c Client) Queue(ctx context.Context, f Filter) iter.Seq2[Message, error] {
	return lines[Message](ctx, c, http.MethodGet, "/api/v1/queue", f.Values())
}

// Do does what o says, and yields what it touched: durable already, unless o is
// a dry run.
func (c Client) Do(ctx context.Context, o Order) iter.Seq2[Touched, error] {
	return lines[Touched](ctx, c, http.MethodPost, "/api/v1/queue/"+string(o.Verb), o.values())
}

// Stat yields what waits for each destination, of the recipients that f chooses.
func (c Client) Stat(ctx context.Context, f Filter) iter.Seq2[DestStat, error] {
	return lines[DestStat](ctx, c, http.MethodGet, "/api/v1/queue/stat", f.Values())
}

// Hosts yields the hosts that get less than they could, or nothing now.
func (c Client) Hosts(ctx context.Context) iter.Seq2[HostPace, error] {
	return lines[HostPace](ctx, c, http.MethodGet, "/api/v1/hosts", nil)
}

// lines yields an answer that has an object, or an error, in each line.
func lines[T any](ctx context.Context, c Client, method, path string, v url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		body, err := c.call(ctx, method, path, v)
		if err != nil {
			yield(none, err)
			return
		}
		defer body.Close()
		in := bufio.NewScanner(body)
		in.Buffer(nil, lineMax)
		for in.Scan() {
			line, err := parseLine[T](in.Bytes())
			if !yield(line, err) || err != nil {
				return
			}
		}
		if err := in.Err(); err != nil {
			yield(none, fmt.Errorf("admin: answer: %w", err))
		}
	}
}

// parseLine is the object of a line, or the error that is told in its place.
func parseLine[T any](text []byte) (line T, err error) {
	if bytes.HasPrefix(text, faultStart) {
		var f fault
		if err := json.Unmarshal(text, &f); err != nil {
			return line, fmt.Errorf("admin: answer: %w", err)
		}
		return line, errors.New(f.Error)
	}
	if err := json.Unmarshal(text, &line); err != nil {
		return line, fmt.Errorf("admin: answer: %w", err)
	}
	return line, nil
}

// Message returns one message; postrider.ErrNotFound when there is none.
func (c Client) Message(ctx context.Context, id postrider.ID) (Message, error) {
	var m Message
	return m, c.fetch(ctx, http.MethodGet, "/api/v1/queue/"+url.PathEscape(string(id)), nil, &m)
}

// Reload makes the server apply its configuration. ErrConfig: that is wrong, and
// the server goes on as before.
func (c Client) Reload(ctx context.Context) (Reloaded, error) {
	var r Reloaded
	return r, c.fetch(ctx, http.MethodPost, "/api/v1/reload", nil, &r)
}

// A toldError is an error of the server, in its words.
type toldError struct {
	text string
	is   error
}

func (e toldError) Error() string { return e.text }
func (e toldError) Unwrap() error { return e.is }

func (c Client) fetch(ctx context.Context, method, path string, v url.Values, to any) error {
	body, err := c.call(ctx, method, path, v)
	if err != nil {
		return err
	}
	return decode(body, to)
}

func decode(body io.ReadCloser, to any) error {
	defer body.Close()
	if err := json.NewDecoder(body).Decode(to); err != nil {
		return fmt.Errorf("admin: answer: %w", err)
	}
	return nil
}

func (c Client) call(ctx context.Context, method, path string, v url.Values) (io.ReadCloser, error) {
	return c.send(ctx, method, path, v, nil, 0)
}

// send asks with a content of so many octets; 0: not known.
func (c Client) send(ctx context.Context, method, path string, v url.Values, content io.Reader, size int64) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: "control", Path: path, RawQuery: v.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if size > 0 {
		req.ContentLength = size
	}
	if content != nil { // what is refused without it need not be sent: RFC 9110 10.1.1
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := c.Transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("admin: ask the server: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var f fault
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&f); err != nil || f.Error == "" {
		f.Error = resp.Status
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s: %w", f.Error, postrider.ErrNotFound)
	case http.StatusUnprocessableEntity:
		return nil, toldError{f.Error, ErrConfig}
	}
	return nil, errors.New(f.Error)
}

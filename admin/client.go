package admin

import (
	"bufio"
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
	return func(yield func(Message, error) bool) {
		body, err := c.call(ctx, http.MethodGet, "/api/v1/queue", f.Values())
		if err != nil {
			yield(Message{}, err)
			return
		}
		defer body.Close()
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, lineMax)
		for lines.Scan() {
			var line struct {
				Message
				fault
			}
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				yield(Message{}, fmt.Errorf("admin: answer: %w", err))
				return
			}
			if line.Error != "" {
				yield(Message{}, errors.New(line.Error))
				return
			}
			if !yield(line.Message, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Message{}, fmt.Errorf("admin: answer: %w", err))
		}
	}
}

// Message returns one message; postrider.ErrNotFound when there is none.
func (c Client) Message(ctx context.Context, id postrider.ID) (Message, error) {
	var m Message
	return m, c.fetch(ctx, http.MethodGet, "/api/v1/queue/"+url.PathEscape(string(id)), nil, &m)
}

// Retry makes the messages that f chooses due now.
func (c Client) Retry(ctx context.Context, f Filter) (Retried, error) {
	var r Retried
	return r, c.fetch(ctx, http.MethodPost, "/api/v1/queue/retry", f.Values(), &r)
}

func (c Client) fetch(ctx context.Context, method, path string, v url.Values, to any) error {
	body, err := c.call(ctx, method, path, v)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(to); err != nil {
		return fmt.Errorf("admin: answer: %w", err)
	}
	return nil
}

func (c Client) call(ctx context.Context, method, path string, v url.Values) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: "control", Path: path, RawQuery: v.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
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
	if resp.StatusCode == http.StatusNotFound {
		return nil, fmt.Errorf("%s: %w", f.Error, postrider.ErrNotFound)
	}
	return nil, errors.New(f.Error)
}

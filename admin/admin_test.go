package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// shelf is a Spool of fixed messages that takes amendments.
type shelf struct {
	postrider.Spool
	messages []*postrider.Message
	scanErr  error
	amended  []postrider.Amendment
	gone     postrider.ID // settled since it was scanned
	broken   postrider.ID // cannot be read
}

func (s *shelf) Scan(context.Context) iter.Seq2[*postrider.Message, error] {
	return func(yield func(*postrider.Message, error) bool) {
		for _, m := range s.messages {
			var err error
			if m.ID == s.broken {
				m, err = &postrider.Message{ID: m.ID}, errors.New("message "+string(m.ID)+": bad sector")
			}
			if !yield(m, err) {
				return
			}
		}
		if s.scanErr != nil {
			yield(nil, s.scanErr)
		}
	}
}

func (s *shelf) Open(_ context.Context, id postrider.ID) (postrider.Content, error) {
	for _, m := range s.messages {
		if m.ID == id && id == s.broken {
			return nil, errors.New("message " + string(id) + ": bad sector")
		}
		if m.ID == id {
			return content{m: m}, nil
		}
	}
	return nil, postrider.ErrNotFound
}

func (s *shelf) Commit(_ context.Context, b postrider.Batch) error {
	for _, a := range b.Amend {
		if a.ID == s.gone {
			return postrider.ErrNotFound
		}
	}
	s.amended = append(s.amended, b.Amend...)
	return nil
}

type content struct {
	postrider.Content
	m *postrider.Message
}

func (c content) Message() *postrider.Message { return c.m }
func (c content) Close() error                { return nil }

func path(s string) smtp.Path {
	local, domain, _ := strings.Cut(s, "@")
	return smtp.Path{Local: local, Domain: domain}
}

func dest(to smtp.Path) postrider.Dest {
	if to.Domain == "held.example" {
		return postrider.DestHold
	}
	return postrider.Dest("mx:" + to.Domain)
}

func queue() *shelf {
	greylisted := smtp.Reply{Code: 450, Status: smtp.Status{Class: 4, Subject: 2}, Text: "Greylisted,\ncome \x1b[31mback"}
	return &shelf{messages: []*postrider.Message{
		{ID: "aaa1", From: path("alice@example.org"), Size: 100, Arrived: now.Add(-2 * time.Hour), Recipients: []postrider.Recipient{
			{To: path("bob@Far.example"), Tries: 2, Due: now.Add(time.Minute), Reply: greylisted},
			{To: path("carl@far.example"), State: postrider.Delivered, Tries: 1, Reply: smtp.OK},
		}},
		{ID: "aaa2", Size: 200, Arrived: now.Add(-time.Hour), Recipients: []postrider.Recipient{
			{To: path("dora@held.example"), Due: now},
		}},
		{ID: "bbb3", From: path("eve@example.org"), Size: 300, Arrived: now.Add(-time.Minute), Recipients: []postrider.Recipient{
			{To: path("fred@far.example"), Due: now},
			{To: path("gina@near.example"), Due: now},
		}},
	}}
}

func options(s *shelf) Options {
	return Options{
		Spool:   s,
		Dest:    dest,
		Active:  func() map[postrider.ID][]int { return map[postrider.ID][]int{"bbb3": {1}} },
		Ready:   func() bool { return true },
		Metrics: NewMetrics(),
		Now:     func() time.Time { return now },
	}
}

// serve answers requests with a handler, without a network.
type serve struct{ http.Handler }

func (s serve) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result(), nil
}

func ids(t *testing.T, seq iter.Seq2[Message, error]) string {
	t.Helper()
	var all []string
	for m, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(m.ID))
	}
	return strings.Join(all, " ")
}

func TestFilters(t *testing.T) {
	c := Client{serve{Control(options(queue()))}}
	for _, tt := range []struct {
		filter Filter
		want   string
	}{
		{Filter{}, "aaa1 aaa2 bbb3"},
		{Filter{ID: "aaa"}, "aaa1 aaa2"},
		{Filter{ID: "aaa2"}, "aaa2"},
		{Filter{From: "<>"}, "aaa2"},
		{Filter{From: "*@EXAMPLE.org"}, "aaa1 bbb3"},
		{Filter{From: "example.org"}, ""},
		{Filter{To: "bob@far.example"}, "aaa1"},
		{Filter{To: "*@far.*"}, "aaa1 bbb3"},
		{Filter{Domain: "far.example"}, "aaa1 bbb3"},
		{Filter{Domain: "far.example", State: StateDeferred}, "aaa1"},
		{Filter{Domain: "near.example", State: StateQueued}, ""}, // gina is active
		{Filter{State: StateActive}, "bbb3"},
		{Filter{State: StateHeld}, "aaa2"},
		{Filter{State: StateDelivered}, "aaa1"},
		{Filter{Older: time.Hour}, "aaa1 aaa2"},
		{Filter{Reason: "greyLISTED"}, "aaa1"},
		{Filter{Reason: "greylisted", To: "carl*"}, ""}, // not one and the same recipient
	} {
		if got := ids(t, c.Queue(t.Context(), tt.filter)); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.filter, got, tt.want)
		}
		back, err := ParseFilter(tt.filter.Values())
		if err != nil || back != tt.filter {
			t.Errorf("%+v came back as %+v, %v", tt.filter, back, err)
		}
	}
}

func TestWrongFilters(t *testing.T) {
	h := Control(options(queue()))
	for _, q := range []string{"state=waiting", "tо=x", "older=5", "older=-5m", "to=a&to=b", "all=1"} {
		for _, c := range []struct{ method, path string }{{"GET", "/api/v1/queue"}, {"POST", "/api/v1/queue/retry"}} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(c.method, c.path+"?"+q, nil))
			var f fault
			if err := json.Unmarshal(w.Body.Bytes(), &f); w.Code != 400 || err != nil || f.Error == "" {
				t.Errorf("%s %s?%s: %d %s", c.method, c.path, q, w.Code, w.Body)
			}
		}
	}
}

// The names are the contract with every program that reads them.
func TestShape(t *testing.T) {
	w := httptest.NewRecorder()
	Control(options(queue())).ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/queue/aaa1", nil))
	var got any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"id": "aaa1", "from": "alice@example.org", "size": 100.0, "arrived": "2026-11-22T10:00:00Z", "state": "deferred",
		"recipients": []any{
			map[string]any{"to": "bob@Far.example", "state": "deferred", "dest": "mx:Far.example", "tries": 2.0,
				"next": "2026-11-22T12:01:00Z", "reply": "450 4.2.0 Greylisted, come ?[31mback"},
			map[string]any{"to": "carl@far.example", "state": "delivered", "dest": "mx:far.example", "tries": 1.0,
				"next": nil, "reply": "250 2.0.0 OK"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestShow(t *testing.T) {
	c := Client{serve{Control(options(queue()))}}
	m, err := c.Message(t.Context(), "bbb3")
	if err != nil || m.ID != "bbb3" || m.State != StateActive {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := c.Message(t.Context(), "../queue"); !errors.Is(err, postrider.ErrNotFound) {
		t.Errorf("no such message: %v", err)
	}
}

// A queue that cannot be read to its end is an error, and not a short queue.
func TestBrokenScan(t *testing.T) {
	s := queue()
	s.scanErr = errors.New("disk on fire")
	c := Client{serve{Control(options(s))}}
	var last error
	for _, err := range c.Queue(t.Context(), Filter{}) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "disk on fire") {
		t.Errorf("list: %v", last)
	}
	last = nil
	for _, err := range c.Do(t.Context(), Order{Verb: VerbRetry}) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "disk on fire") {
		t.Errorf("retry: %v", last)
	}
	last = nil
	for _, err := range c.Stat(t.Context(), Filter{}) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "disk on fire") {
		t.Errorf("stat: %v", last)
	}
}

func get(h http.Handler, path string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func TestHealth(t *testing.T) {
	o := options(queue())
	if code, _ := get(Public(o), "/healthz"); code != 200 {
		t.Errorf("accepting: %d", code)
	}
	o.Ready = func() bool { return false }
	if code, _ := get(Public(o), "/healthz"); code != 503 {
		t.Errorf("not accepting: %d", code)
	}
}

// The TCP address tells nothing of any message, and changes nothing.
func TestPublicHasNoAPI(t *testing.T) {
	h := Public(options(queue()))
	for _, p := range []string{"/api/v1/queue", "/api/v1/queue/aaa1", "/"} {
		if code, _ := get(h, p); code != 404 {
			t.Errorf("%s: %d", p, code)
		}
	}
}

func TestMetrics(t *testing.T) {
	o := options(queue())
	m, looks := o.Metrics, 0
	m.Watch(func() QueueStat {
		looks++
		return QueueStat{Queued: 1, Active: 2, Deferred: 3, Held: 4, Oldest: now.Add(-2 * time.Hour)}
	}, o.Now)
	m.Event(&postrider.Event{Kind: postrider.EventAccepted, Source: postrider.Source{Listener: "mx"}})
	m.Event(&postrider.Event{Kind: postrider.EventAccepted}) // a report of ours
	m.Event(&postrider.Event{Kind: postrider.EventRecipient, State: postrider.Delivered})
	m.Event(&postrider.Event{Kind: postrider.EventRecipient})
	m.Event(&postrider.Event{Kind: postrider.EventRecipient})
	m.Event(&postrider.Event{Kind: postrider.EventRefused, Reply: smtp.Reply{Code: 535}})
	m.Event(&postrider.Event{Kind: postrider.EventRefused, Reply: smtp.Reply{Code: 454}})
	m.Event(&postrider.Event{Kind: postrider.EventRefused, Reply: smtp.Reply{Code: 550}, Tos: []smtp.Path{path("bob@far.example")}})
	m.Listener("quiet")
	m.Connected("mx")
	m.Connected("mx")()
	m.Committed(3 * time.Millisecond)
	m.Answered(30 * time.Millisecond)
	_, page := get(Public(o), "/metrics")
	for _, line := range []string{
		"postrider_accepted_total 1",
		`postrider_attempts_total{result="delivered"} 1`,
		`postrider_attempts_total{result="deferred"} 2`,
		`postrider_attempts_total{result="failed"} 0`,
		`postrider_refused_total{what="login"} 2`,
		`postrider_refused_total{what="mail"} 1`,
		`postrider_connections{listener="mx"} 1`,
		`postrider_connections{listener="quiet"} 0`,
		`postrider_queue_recipients{state="queued"} 1`,
		`postrider_queue_recipients{state="active"} 2`,
		`postrider_queue_recipients{state="deferred"} 3`,
		`postrider_queue_recipients{state="held"} 4`,
		"postrider_queue_oldest_seconds 7200",
		"postrider_commit_seconds_count 1",
		"postrider_accept_seconds_count 1",
	} {
		if !strings.Contains(page, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	get(Public(o), "/metrics")
	if looks != 1 {
		t.Errorf("%d looks at the queue for two readers in one instant", looks)
	}
}

// The beginning and the end of a pattern are two parts of what it matches, and never the
// same octets twice.
func TestGlobDoesNotOverlap(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"a*a", "a", false}, {"a*a", "aa", true}, {"a*a", "aba", true}, {"ab*ba", "aba", false}, {"ab*ba", "abba", true},
		{"bob@*@bob", "bob@bob", false}, {"*a*a*", "a", false}, {"*a*a*", "aa", true}, {"**", "", true}, {"a**a", "a", false},
	} {
		if got := glob(c.pattern, c.s); got != c.want {
			t.Errorf("glob(%q, %q) is %v", c.pattern, c.s, got)
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("*@example.org", "alice@example.org")
	f.Add("a*b*c", "abc")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if !glob(strings.ReplaceAll(s, "*", ""), strings.ReplaceAll(s, "*", "")) {
			t.Errorf("%q is not itself", s)
		}
		if glob(pattern, s) && !glob("*"+pattern+"*", s) {
			t.Errorf("%q matches %q, and with stars does not", pattern, s)
		}
	})
}

// What a client sends never stops the server, and its answer is always JSON.
func FuzzParseFilter(f *testing.F) {
	f.Add("to=a&older=5m")
	f.Fuzz(func(t *testing.T, query string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		filter, err := ParseFilter(v)
		if err != nil {
			return
		}
		if again, err := ParseFilter(filter.Values()); err != nil || again != filter {
			t.Errorf("%+v came back as %+v, %v", filter, again, err)
		}
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/api/v1/queue", nil)
		r.URL.RawQuery = query
		Control(options(queue())).ServeHTTP(w, r)
		for _, line := range bytes.Split(bytes.TrimSpace(w.Body.Bytes()), []byte("\n")) {
			if len(line) > 0 && !json.Valid(line) {
				t.Errorf("%s", line)
			}
		}
		io.Copy(io.Discard, w.Body)
	})
}

// The socket of every user submits, and knows nothing else.
func TestSubmission(t *testing.T) {
	o := options(queue())
	o.Journal = stories()
	var got Letter
	o.Submit = func(_ context.Context, l Letter) (smtp.Reply, int) {
		got = l
		return smtp.Reply{Code: 452}, -1
	}
	h := Submission(o)
	for _, page := range []string{"/healthz", "/metrics", "/api/v1/queue", "/api/v1/queue/aaa1", "/api/v1/queue/stat", "/api/v1/where?q=aaa1"} {
		if code, body := get(h, page); code != 404 {
			t.Errorf("%s: %d %s", page, code, body)
		}
	}
	for _, size := range []int64{0, 3} {
		done, err := Client{serve{h}}.Submit(t.Context(), Letter{To: []smtp.Path{path("bob@far.example")}, Content: io.MultiReader(strings.NewReader("x\r\n")), Size: size})
		if err != nil || done.Code != 452 || got.Size != size {
			t.Errorf("%+v, %v, size %d", done, err, got.Size)
		}
	}
}

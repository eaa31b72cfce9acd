// Package admin is how people and programs look at a running server: health and
// metrics over HTTP, and the queue over a control socket that only the owner of
// the data directory can open. Its Client is the other end of that socket.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// Options make the handlers.
type Options struct {
	Spool  postrider.Spool
	Dest   func(to smtp.Path) postrider.Dest // where a recipient waits
	Active func() map[postrider.ID][]int     // recipients under way; nil: unknown
	Probed func(postrider.Dest) time.Time    // when a destination that does not answer is tried again; nil: unknown
	// Hurry ends the waits of dead destinations, so that what is retried or
	// released is tried now and not when they are looked at next; nil: nobody waits.
	Hurry func(ctx context.Context, dests []postrider.Dest) error
	// Paces are the destinations that have fewer attempts at a time than may be, or none
	// now, and why. Nil: nobody knows.
	Paces func() map[postrider.Dest]Pace
	// Hosts are the hosts of which the same is true. Nil: nobody knows.
	Hosts func() []HostPace
	// Domains yields the messages of the spool with a recipient in one of the domains that
	// match chooses, oldest first, and reads no others; nil: all are read.
	Domains func(ctx context.Context, match func(domain string) bool) iter.Seq2[*postrider.Message, error]
	// Tally is what waits for each destination, the fullest first, where nothing is
	// chosen; nil: every message is looked at.
	Tally func() []DestStat
	// Reload applies the configuration as it is now, and tells what of it needs a
	// restart. A mistake in it is ErrConfig. Nil: it cannot be done.
	Reload func(ctx context.Context) ([]string, error)
	// Submit takes mail of a program on this machine in, and returns what it would
	// hear over SMTP, and the index of the recipient that was refused, or -1. Nil:
	// nobody does.
	Submit  func(ctx context.Context, l Letter) (smtp.Reply, int)
	Journal Journal     // what became of messages; nil: what is in the queue alone
	Ready   func() bool // whether mail is accepted
	Metrics *Metrics
	Now     func() time.Time // the wall clock
}

// Public returns the handler of /healthz and /metrics, which tell nothing of any
// message and want no token.
func Public(o Options) http.Handler {
	mux := http.NewServeMux()
	o.public(mux)
	return mux
}

// Control returns the handler of the control socket: Public, and /api/v1/. Who
// can open the socket may do all of it.
func Control(o Options) http.Handler {
	mux := http.NewServeMux()
	o.public(mux)
	mux.HandleFunc("GET /api/v1/queue", o.list)
	mux.HandleFunc("GET /api/v1/queue/{id}", o.show)
	mux.HandleFunc("GET /api/v1/queue/stat", o.stat)
	mux.HandleFunc("POST /api/v1/queue/{verb}", o.do)
	mux.HandleFunc("GET /api/v1/hosts", o.hosts)
	mux.HandleFunc("POST /api/v1/reload", o.reload)
	mux.HandleFunc("GET /api/v1/where", o.where)
	mux.HandleFunc("POST /api/v1/submit", o.submit)
	return mux
}

// writeTime is how long a client may take to read what it is told.
const writeTime = 2 * time.Minute

// NewServer returns a server for h with every timeout set: one that is slow
// gives way.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      writeTime,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

func (o Options) public(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if o.Ready != nil && !o.Ready() {
			w.WriteHeader(http.StatusServiceUnavailable)
			w.Write([]byte("not accepting mail\n"))
			return
		}
		w.Write([]byte("ok\n"))
	})
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics.handler())
	}
}

// fault is the body of every answer that is not 2xx.
type fault struct {
	Error string `json:"error"`
}

// faultStart is what a line that is a fault begins with, and no other.
var faultStart = []byte(`{"error":`)

// patient gives the client writeTime from now on, whatever time it took to know what it
// is to be told.
func patient(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
}

// A pen writes an answer of one object a line.
type pen struct {
	w   http.ResponseWriter
	enc *json.Encoder
}

func newPen(w http.ResponseWriter) pen {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return pen{w, json.NewEncoder(w)}
}

// line writes one. After an error the client went away, or does not read.
func (p pen) line(v any) error {
	patient(p.w)
	return p.enc.Encode(v)
}

func answer(w http.ResponseWriter, code int, v any) {
	patient(w)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v) // an error here is a client that went away
}

func (o Options) active() map[postrider.ID][]int {
	if o.Active == nil {
		return nil
	}
	return o.Active()
}

// list writes one message a line, as it finds them: however long the queue is,
// one message is in memory. An error in the middle is a line of its own.
func (o Options) list(w http.ResponseWriter, r *http.Request) {
	f, err := ParseFilter(r.URL.Query())
	if err != nil {
		answer(w, http.StatusBadRequest, fault{err.Error()})
		return
	}
	out := newPen(w)
	defer patient(w) // for what is not sent yet
	active, now := o.active(), o.Now()
	var bad unread
	for m := range bad.rest(o.scan(r.Context(), f)) {
		if v := View(m, o.Dest, active[m.ID], now); f.Match(v, now) && out.line(v) != nil {
			return
		}
	}
	if err := bad.err(); err != nil {
		out.line(fault{err.Error()})
	}
}

func (o Options) show(w http.ResponseWriter, r *http.Request) {
	id := postrider.ID(r.PathValue("id"))
	c, err := o.Spool.Open(r.Context(), id)
	switch {
	case errors.Is(err, postrider.ErrNotFound):
		answer(w, http.StatusNotFound, fault{"no message " + string(id) + " in the queue"})
		return
	case err != nil:
		answer(w, http.StatusInternalServerError, fault{err.Error()})
		return
	}
	defer c.Close()
	answer(w, http.StatusOK, View(c.Message(), o.Dest, o.active()[id], o.Now()))
}

// ErrConfig is a mistake in the configuration: what ran before goes on.
var ErrConfig = errors.New("the configuration is wrong")

// Reloaded is the answer to a reload.
type Reloaded struct {
	// Later are the keys whose change takes effect at the next start.
	Later []string `json:"later"`
}

func (o Options) reload(w http.ResponseWriter, r *http.Request) {
	if o.Reload == nil {
		answer(w, http.StatusNotImplemented, fault{"this server has nothing to reload"})
		return
	}
	switch later, err := o.Reload(r.Context()); {
	case errors.Is(err, ErrConfig):
		answer(w, http.StatusUnprocessableEntity, fault{err.Error()})
	case err != nil:
		answer(w, http.StatusInternalServerError, fault{err.Error()})
	default:
		answer(w, http.StatusOK, Reloaded{append([]string{}, later...)})
	}
}

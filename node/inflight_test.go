package node

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/dns"
)

// A slowPeer takes one message at a time, up to the final dot; there it waits
// for what it is to answer.
type slowPeer struct {
	net.Listener
	at     chan struct{} // it has a message
	answer chan string
}

func newSlowPeer(t *testing.T) *slowPeer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &slowPeer{l, make(chan struct{}), make(chan string)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.serve(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return p
}

func (p *slowPeer) serve(conn net.Conn) {
	in := bufio.NewScanner(conn)
	fmt.Fprint(conn, "220 slow.example\r\n")
	for data := false; in.Scan(); {
		switch line := in.Text(); {
		case data && line == ".":
			p.at <- struct{}{}
			data = false
			fmt.Fprintf(conn, "%s\r\n", <-p.answer)
		case data:
		case line == "DATA":
			data = true
			fmt.Fprint(conn, "354 go on\r\n")
		case line == "QUIT":
			fmt.Fprint(conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "250 ok\r\n")
		}
	}
}

// control is a client of the control socket.
func (w *world) control() admin.Client {
	return admin.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(w.dir, ControlSocket))
	}}}
}

// order carries an order out and returns when it holds; empty: it touches nobody.
func (w *world) order(v admin.Verb) (when string) {
	w.t.Helper()
	for touched, err := range w.control().Do(w.t.Context(), admin.Order{Verb: v, Filter: admin.Filter{To: "bob@far.example"}}) {
		if err != nil {
			w.t.Fatal(err)
		}
		when = touched.Recipients[0].When
	}
	return when
}

// state is what a message in the queue is called; empty: there is none.
func (w *world) state() (state string) {
	w.t.Helper()
	for m, err := range w.control().Queue(w.t.Context(), admin.Filter{To: "bob@far.example"}) {
		if err != nil {
			w.t.Fatal(err)
		}
		state = m.State
	}
	return state
}

// Each verb while the parcel is under way: it holds when the attempt has come
// back without having delivered, and not when it has.
func TestVerbsInFlight(t *testing.T) {
	for _, tt := range []struct {
		verb     admin.Verb
		when     string // that it holds
		deferred string // the state after a 4yz
	}{
		{admin.VerbRetry, "", admin.StateDeferred},
		{admin.VerbHold, admin.WhenAfterAttempt, admin.StateHeld},
		{admin.VerbRelease, "", admin.StateDeferred},
		{admin.VerbBounce, admin.WhenAfterAttempt, ""},
		{admin.VerbDrop, admin.WhenAfterAttempt, ""},
	} {
		for _, answer := range []string{"451 4.2.0 later", "250 2.0.0 taken"} {
			t.Run(fmt.Sprint(tt.verb, " ", answer[:3]), func(t *testing.T) {
				p := newSlowPeer(t)
				peer := addrPort(p.Addr())
				cfg := base(t.TempDir())
				cfg.Routes[0].To = postrider.Route{Via: postrider.ViaSMTP, Host: peer.Addr().String(), Port: peer.Port(), Private: true, TLS: postrider.TLSNone}
				w := start(t, cfg, dns.NewZone())
				if r := send(t, w.Addr("mx"), "alice@localhost", "Subject: x\r\n\r\nx\r\n", "bob@far.example"); !r.Positive() {
					t.Fatal(r)
				}
				<-p.at
				if got := w.state(); got != admin.StateActive {
					t.Errorf("under way, it is %q", got)
				}
				if got := w.order(tt.verb); got != tt.when {
					t.Errorf("it holds %q, want %q", got, tt.when)
				}
				p.answer <- answer
				w.wait(map[string]string{"msg": "recipient", "to": "<bob@far.example>"})
				if strings.HasPrefix(answer, "250") {
					w.wait(map[string]string{"msg": "removed"})
					if got := w.state(); got != "" {
						t.Errorf("delivered, and it is %q", got)
					}
					return
				}
				if tt.deferred != "" {
					if got := w.state(); got != tt.deferred {
						t.Errorf("deferred, it is %q, want %q", got, tt.deferred)
					}
					return
				}
				told := tt.verb == admin.VerbBounce
				if told {
					w.wait(map[string]string{"msg": "recipient", "to": "<alice@localhost>", "status": "delivered"})
				}
				if got := w.state(); got != "" {
					t.Errorf("given up, and it is %q", got)
				}
				if box := folder(t, w.dir, "localhost", "alice"); (len(box) == 1) != told {
					t.Errorf("the sender has %d reports", len(box))
				}
			})
		}
	}
}

// Where less room is left than new mail must leave, the sender is put off, by the
// size that it announces.
func TestNoRoom(t *testing.T) {
	cfg := base(t.TempDir())
	cfg.Limits.MinFree = 1 << 60
	w := start(t, cfg, dns.NewZone())
	c := talk(t, w.Addr("mx"))
	c.say("EHLO x.example", "250")
	c.say("MAIL FROM:<s@x.example> SIZE=1000", "452 4.3.1")
	c.say("QUIT", "221")
}

// Held by its route, mail leaves when the operator says so.
func TestReleasePastTheRoute(t *testing.T) {
	p := newSlowPeer(t)
	peer := addrPort(p.Addr())
	cfg := base(t.TempDir())
	cfg.Routes[0].To = postrider.Route{Via: postrider.ViaHold, Port: peer.Port(), Private: true, TLS: postrider.TLSNone}
	zone := dns.NewZone().MX("far.example", 10, "mx.far.example").A("mx.far.example", "127.0.0.1")
	w := start(t, cfg, zone)
	if r := send(t, w.Addr("mx"), "alice@localhost", "Subject: x\r\n\r\nx\r\n", "bob@far.example"); !r.Positive() {
		t.Fatal(r)
	}
	if got := w.state(); got != admin.StateHeld {
		t.Errorf("it is %q", got)
	}
	if got := w.order(admin.VerbRelease); got != admin.WhenNow {
		t.Errorf("it holds %q", got)
	}
	<-p.at
	p.answer <- "250 2.0.0 taken"
	w.wait(map[string]string{"msg": "recipient", "to": "<bob@far.example>", "status": "delivered"})
}

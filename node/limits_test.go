package node

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/admin"
)

// busy is a host that is always too busy.
func busy(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "421 4.3.2 too busy for \x1b[1myou\r\n")
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func (w *world) stats() map[string]admin.DestStat {
	w.t.Helper()
	all := map[string]admin.DestStat{}
	for d, err := range w.control().Stat(w.t.Context(), admin.Filter{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		all[string(d.Dest)] = d
	}
	return all
}

func (w *world) hostPaces() map[string]admin.HostPace {
	w.t.Helper()
	all := map[string]admin.HostPace{}
	for h, err := range w.control().Hosts(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		all[h.Host] = h
	}
	return all
}

// The limits of a route hold from the configuration to the wire: mail waits for a rate,
// and says so, and goes when a reload gives it another; a busy host is told of.
func TestRouteLimits(t *testing.T) {
	dir := t.TempDir()
	cfg := base(t.TempDir())
	cfg.Hostname, cfg.Domains[0].Name, cfg.Domains[0].Mailboxes = "mx.b.example", "b.example", []string{"bob"}
	b := start(t, cfg, nil)
	far, slow := b.Addr("mx").String(), busy(t)
	text := func(rate string) string {
		return conf(dir, fmt.Sprintf(`listener "mx" {
  address    = "127.0.0.1:0"
  relay_from = ["127.0.0.1"]
}
route "b.example" {
  via  = "smtp://%s"
  tls  = "none"
  rate = %q
}
route "busy.example" {
  via         = "smtp://%s"
  connections = 3
}
`, far, rate, slow))
	}
	w, f := reloadable(t, text("1/1d"))
	began := time.Now()
	for _, to := range []string{"bob@b.example", "x@busy.example"} {
		if r := send(t, w.Addr("mx"), "s@x.example", content, to); !r.Positive() {
			t.Fatal(r)
		}
	}
	w.wait(map[string]string{"msg": "recipient", "to": "<x@busy.example>", "status": "deferred"})
	var pace *admin.Pace
	for late := time.Now().Add(patience); pace == nil && time.Now().Before(late); {
		pace = w.stats()["smtp:"+far].Pace
	}
	if pace == nil || pace.Rate != "1/1d" || pace.Reason != "" || pace.Most != 20 || pace.Next.Before(began.Add(24*time.Hour-time.Minute)) || pace.Next.After(time.Now().Add(24*time.Hour)) {
		t.Errorf("what waits for its rate: %+v", pace)
	}
	h := w.hostPaces()[slow]
	if h.Most != 3 || h.Limit != 1 || h.Reason != "421 4.3.2 too busy for ?[1myou" || h.Since.Before(began.Add(-time.Minute)) || h.Rate != "" {
		t.Errorf("the busy host: %+v of %+v", h, w.hostPaces())
	}
	if p := w.stats()["smtp:"+slow].Pace; p == nil || p.Most != 3 || p.Probe.IsZero() || !strings.Contains(p.Reason, "too busy") {
		t.Errorf("the busy destination: %+v", p)
	}
	f.write(text("1000/1s"))
	if _, err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wait(map[string]string{"msg": "recipient", "to": "<bob@b.example>", "status": "delivered"})
}

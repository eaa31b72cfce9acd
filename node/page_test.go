package node

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
)

// A page that ends answers what it was asked before, until its time is over.
func TestPageEnds(t *testing.T) {
	for _, patient := range []bool{true, false} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		asked, answer := make(chan bool), make(chan bool)
		p := newPage("test", l, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/quick" {
				return
			}
			close(asked)
			select {
			case <-answer:
				io.WriteString(w, "all of it")
			case <-r.Context().Done():
			}
		})})
		served := make(chan error, 1)
		go func() { served <- p.server.Serve(l) }()
		client := &http.Client{Transport: &http.Transport{}}
		if r, err := client.Get("http://" + l.Addr().String() + "/quick"); err != nil { // and the connection stays
			t.Fatal(err)
		} else {
			r.Body.Close()
		}
		got := make(chan string, 1)
		go func() {
			r, err := http.Get("http://" + l.Addr().String() + "/slow")
			if err != nil {
				got <- "cut"
				return
			}
			defer r.Body.Close()
			all, err := io.ReadAll(r.Body)
			if err != nil {
				all = []byte("cut")
			}
			got <- string(all)
		}()
		<-asked
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan bool)
		go func() {
			defer close(ended)
			p.end(ctx)
		}()
		if err := <-served; err != http.ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
		want := "all of it"
		if patient {
			select {
			case <-ended:
				t.Error("it ended before the answer")
			default:
			}
			close(answer)
		} else {
			want = "cut"
			cancel()
		}
		if text := <-got; text != want {
			t.Errorf("patient %v: the answer is %q", patient, text)
		}
		<-ended
		cancel()
	}
}

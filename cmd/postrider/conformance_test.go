package main

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/postrider/postrider/conformance"
)

func TestConformanceUsage(t *testing.T) {
	for _, tt := range []struct{ name, args, want string }{
		{"no server", "", "missing flags: --server"},
		{"no port", "--server mx", "write HOST:PORT"},
		{"recipient", "--server 127.0.0.1:1 --rcpt a@b@c", "--rcpt a@b@c"},
		{"sender", "--server 127.0.0.1:1 --from a@b@c", "--from a@b@c"},
		{"name", "--server 127.0.0.1:1 --only nothing", "no requirement has the name nothing"},
		{"timeout", "--server 127.0.0.1:1 --timeout -1s", "--timeout"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, mistakes bytes.Buffer
			code := run(t.Context(), append([]string{"conformance"}, strings.Fields(tt.args)...), strings.NewReader(""), &out, &mistakes)
			if code != exitUsage || !strings.Contains(mistakes.String(), tt.want) {
				t.Errorf("status %d, %q, want %d and %q", code, mistakes.String(), exitUsage, tt.want)
			}
		})
	}
}

// A server that says what is no reply fails, and is quoted so that no terminal
// is moved by it.
func TestConformanceOfNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("\x1b[31mhi\r\n"))
			_ = c.Close()
		}
	}()
	defer func() {
		l.Close()
		<-ended
	}()
	for _, args := range [][]string{{}, {"--json"}} {
		var out, mistakes bytes.Buffer
		args = append([]string{"conformance", "--server", l.Addr().String(), "--only", "greeting", "--only", "ehlo"}, args...)
		code := run(t.Context(), args, strings.NewReader(""), &out, &mistakes)
		if code != exitFailed || mistakes.Len() > 0 {
			t.Errorf("status %d, want %d: %s", code, exitFailed, mistakes.String())
		}
		text := out.String()
		if strings.Contains(text, "\x1b") {
			t.Errorf("the words of the server move the terminal: %q", text)
		}
		if len(args) == 7 {
			if !strings.Contains(text, `S: \x1b[31mhi`) || !strings.Contains(text, "1 of MUST and 0 of SHOULD fail") {
				t.Errorf("the table is\n%s", text)
			}
			continue
		}
		var r conformance.Result
		if err := json.NewDecoder(&out).Decode(&r); err != nil || r.Name != "greeting" || r.Verdict != conformance.Fail || len(r.Heard) == 0 {
			t.Errorf("the first result is %+v, %v", r, err)
		}
	}
}

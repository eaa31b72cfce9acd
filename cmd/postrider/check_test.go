package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// check --spool tells of a message whose record has rotted, though nothing but the
// log knew of it, and says so by its exit code; before that, all is well, also
// beside a server that runs.
func TestCheckTellsOfTheSpool(t *testing.T) {
	conf := site(t, "hold")
	p, addr := serve(t, conf)
	for _, to := range []string{"first@far.example", "second@far.example", "third@far.example"} {
		if code, out, errs := command(t, "Subject: x\r\n\r\nx\r\n", "send", "--server", addr, "--from", "alice@example.org", "--to", to); code != 0 {
			t.Fatalf("send: %d, %s%s", code, out, errs)
		}
	}
	check := func(want int, says string) {
		t.Helper()
		code, out, errs := command(t, "", "check", "--spool", "--config", conf)
		if code != want || !regexp.MustCompile(says).MatchString(out+errs) || strings.Contains(out, "copy is kept") {
			t.Errorf("%d, want %d with %q: %s%s", code, want, says, out, errs)
		}
	}
	check(0, `^3 messages, \S+, read whole\.\n$`)
	if code := p.stop(); code != 0 {
		t.Errorf("serve ends with %d: %s", code, p.stderr)
	}
	check(0, `^3 messages, \S+, read whole\.\n$`)
	segments, _ := filepath.Glob(filepath.Join(filepath.Dir(conf), "data/spool/seg/*.seg"))
	if len(segments) != 1 {
		t.Fatalf("%d segments", len(segments))
	}
	log, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	log[bytes.Index(log, []byte("second"))] ^= 0x20
	if err := os.WriteFile(segments[0], log, 0o600); err != nil {
		t.Fatal(err)
	}
	check(1, `(?s)^2 messages, \S+, read whole\.\nwrong: spool: 0000000001\.seg is damaged: .*1 thing is wrong with the spool`)
}

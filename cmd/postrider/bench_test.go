package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/postrider/postrider/bench/load"
)

// What bench says was taken is what the sink says it has, to the octet.
func TestBench(t *testing.T) {
	for _, flags := range []string{"", "--reuse", "--reuse --pipeline --rcpts 3 --to r%d@b.example --spread 10", "--rate 5000 --reuse", "--reuse --bdat --rcpts 3"} {
		p := begin(t, "sink", "--listen", "127.0.0.1:0", "--json")
		addr := p.stderr.wait(t, `listens on (\S+)`)
		args := append([]string{"bench", "--json", "--server", addr, "--messages", "50", "--size", "1KiB", "--sessions", "4"}, strings.Fields(flags)...)
		code, out, errs := command(t, "", args...)
		if code != 0 {
			t.Fatalf("%s: %d, %s", flags, code, errs)
		}
		p.stop()
		var sent, got load.Tally
		for text, sum := range map[string]*load.Tally{out: &sent, p.stdout.String(): &got} {
			if err := json.Unmarshal([]byte(text), sum); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
		}
		if sent.Messages != 50 || sent.Errors != 0 || got.Messages != 50 || got.Bytes != sent.Bytes || sent.Seconds <= 0 || sent.P99 < sent.P50 {
			t.Errorf("%s: bench says %+v, the sink %+v", flags, sent, got)
		}
	}
}

// What is not taken makes the exit code 1, and is told by what was said.
func TestBenchTellsWhatWasNotTaken(t *testing.T) {
	p := begin(t, "sink", "--listen", "127.0.0.1:0", "--refuse", "1")
	addr := p.stderr.wait(t, `listens on (\S+)`)
	code, out, errs := command(t, "", "bench", "--server", addr, "--messages", "5")
	if code != 1 || !strings.Contains(out, "0 messages") || !strings.Contains(out, "5  451 4.7.1") || !strings.Contains(errs, "5 of 5 messages were not taken") {
		t.Errorf("%d, %s%s", code, out, errs)
	}
	p.stop()
	if out := p.stdout.String(); !strings.Contains(out, "5  451 to RCPT") {
		t.Errorf("the sink says %s", out)
	}
	if code, _, errs := command(t, "", "bench", "--server", addr); code != 1 || !strings.Contains(errs, "is the server at "+addr+" up") {
		t.Errorf("nobody there: %d, %s", code, errs)
	}
}

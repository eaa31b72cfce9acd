package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/config"
)

// Users hand in mail under TLS and with their password, and under their own
// address alone.
func TestSubmission(t *testing.T) {
	conf := site(t, "hold")
	extend(t, conf, "listener \"submission\" {\n  address = \"127.0.0.1:0\"\n  role = \"submission\"\n}\n")
	if code, out, errs := command(t, "pass word\n", "user", "add", "alice@example.org", "--config", conf); code != 0 {
		t.Fatal(out, errs)
	}
	p := begin(t, "serve", "--config", conf)
	addr := p.stdout.wait(t, `submission +(127\.0\.0\.1:\d+)`)
	mail := func(want int, says string, args ...string) {
		t.Helper()
		args = append([]string{"send", "--config", conf, "--server", addr, "--to", "bob@far.example"}, args...)
		code, out, errs := command(t, "Subject: x\n\nx\n", args...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("%q: %d, want %d with %q: %s%s", args, code, want, says, out, errs)
		}
		if strings.Contains(out+errs, "pass word") {
			t.Errorf("%q tells the password: %s%s", args, out, errs)
		}
	}
	mail(2, "POSTRIDER_PASSWORD", "--from", "alice@example.org", "--user", "alice@example.org")
	t.Setenv("POSTRIDER_PASSWORD", "pass word")
	mail(1, "530", "--from", "alice@example.org")
	mail(0, "250", "--from", "alice@example.org", "--user", "alice@example.org", "-v")
	mail(1, "--send-as", "--from", "bob@example.org", "--user", "alice@example.org")
	t.Setenv("POSTRIDER_PASSWORD", "another")
	mail(1, "535", "--from", "alice@example.org", "--user", "alice@example.org")
	if strings.Contains(p.stderr.String(), "pass word") {
		t.Errorf("the log tells the password: %s", p.stderr)
	}
}

// builtin starts a server without a configuration, but on free ports.
func builtin(t *testing.T, dir string) *process {
	t.Helper()
	return launch(t, func(ctx context.Context, p *process) int {
		cfg := config.Builtin(dir)
		for i := range cfg.Listeners {
			cfg.Listeners[i].Address = "127.0.0.1:0"
		}
		cfg.Admin.Address = "127.0.0.1:0"
		a := &app{ctx: ctx, stdin: strings.NewReader(""), stdout: p.stdout, stderr: p.stderr, cli: &cli{DataDir: dir}}
		return a.exitCode(a.serve(found{Config: cfg}))
	})
}

// Without a configuration there is an account to try, whose password is told
// once.
func TestDemoAccount(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	t.Chdir(t.TempDir())
	p := builtin(t, dir)
	addr := p.stdout.wait(t, `submission +(127\.0\.0\.1:\d+)`)
	t.Setenv("POSTRIDER_PASSWORD", p.stdout.wait(t, `account +demo@localhost, password (\S+)`))
	code, out, errs := command(t, "x\n", "send", "--data-dir", dir, "--server", addr, "--user", demoAccount, "--from", demoAccount, "--to", "a@far.example")
	if code != 0 || !strings.Contains(out, "250") {
		t.Errorf("send: %d, %s%s", code, out, errs)
	}
	p.stdout.wait(t, `queue release --data-dir `)
	p.stop()
	p = builtin(t, dir)
	p.stdout.wait(t, `account +demo@localhost, its (password was told) at the first start`)
}

//go:build unix

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/postrider/postrider/smtpc"
)

// A second signal does not wait for what the first one waits for.
func TestSecondSignal(t *testing.T) {
	conf := site(t, "hold")
	out, log := newScreen(), newScreen()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "serve", "--config", conf)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = out, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := out.wait(t, `SMTP +(127\.0\.0\.1:\d+)`)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c, err := smtpc.NewConn(ctx, conn, smtpc.Options{Hello: "client.example"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := conn.Write([]byte("MAIL FROM:<>\r\n")); err != nil { // a transaction is open, and the server waits for it
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 100)); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for { // until it listens no more
		probe, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		probe.Close()
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		t.Errorf("it ended with %v", err)
	}
	if strings.Contains(log.String(), "msg=stopped") {
		t.Error("it waited for the session")
	}
}

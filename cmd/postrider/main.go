// Command postrider is the mail server and the tool to look after it: serve
// runs a node, and the other commands check a configuration, send a message,
// look at the queue, or stand in for a server that takes all mail.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-told
		signal.Stop(told) // a second signal does not wait for what the first one begins
		cancel()
	}()
	var code int
	switch name := filepath.Base(os.Args[0]); name {
	case "sendmail", "mailq", "newaliases":
		code = runAs(ctx, name, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	default:
		code = run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	}
	os.Exit(code)
}

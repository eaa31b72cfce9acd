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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal does not wait for what the first one began.
	context.AfterFunc(ctx, stop)
	var code int
	switch name := filepath.Base(os.Args[0]); name {
	case "sendmail", "mailq", "newaliases":
		code = runAs(ctx, name, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	default:
		code = run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	}
	stop()
	os.Exit(code)
}

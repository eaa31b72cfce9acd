package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/node"
)

type serveCmd struct{}

// Run serves until SIGINT or SIGTERM, then lets sessions and attempts come to
// their end.
func (serveCmd) Run(a *app) error {
	cfg, err := a.loadConfig(true)
	if err != nil {
		return err
	}
	fmt.Fprint(a.stderr, cfg.warnings)
	env := node.System(cfg.Config)
	env.Log = a.logger()
	n, err := node.New(cfg.Config, env)
	if err != nil {
		return usageError{err}
	}
	if err := n.Start(a.ctx); err != nil {
		return err
	}
	if !a.cli.JSON {
		welcome(a.stdout, cfg, n)
	}
	err = n.Wait(a.ctx)
	env.Log.Info("stopped")
	return err
}

// logger writes to standard error: lines of key=value, or JSON.
func (a *app) logger() *slog.Logger {
	if a.cli.JSON {
		return slog.New(slog.NewJSONHandler(a.stderr, nil))
	}
	return slog.New(slog.NewTextHandler(a.stderr, nil))
}

// welcome tells in short what runs, and how to send it a first message.
func welcome(w io.Writer, cfg found, n *node.Node) {
	var b strings.Builder
	from := cfg.file
	if from == "" {
		from = "none: the built-in one, for this machine alone"
	}
	fmt.Fprintf(&b, "Postrider is running as %s.\n\n", cfg.Hostname)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("configuration", "%s", from)
	for _, l := range cfg.Listeners {
		row("SMTP", "%s%s", n.Addr(l.Name), relays(l))
	}
	if at := n.AdminAddr(); at != nil {
		row("health", "http://%s/healthz", at)
		row("metrics", "http://%s/metrics", at)
	}
	for _, d := range cfg.Domains {
		row("mail for", "%s %s", d.Name, lands(cfg.Config, d))
	}
	others := "goes to the hosts that DNS names for them"
	if i := slices.IndexFunc(cfg.Routes, func(r config.Route) bool { return r.Pattern == "*" }); i >= 0 {
		others = goes(cfg.Config, cfg.Routes[i].To)
	}
	row("other domains", "%s", others)
	row("data", "%s", cfg.DataDir)
	b.WriteString(firstMessage(cfg.Config, n))
	b.WriteString("\n")
	io.WriteString(w, b.String())
}

func relays(l config.Listener) string {
	if len(l.RelayFrom) == 0 {
		return ", takes mail for the domains below"
	}
	nets := make([]string, len(l.RelayFrom))
	for i, p := range l.RelayFrom {
		nets[i] = p.String()
	}
	return ", takes mail for the domains below, and for all domains from " + strings.Join(nets, ", ")
}

// lands says where the mail of a domain of ours goes.
func lands(cfg *config.Config, d config.Domain) string {
	who := "(" + strings.Join(d.Mailboxes, ", ") + ")"
	switch {
	case slices.Contains(d.Mailboxes, "*"):
		who = "(any name)"
	case len(d.Mailboxes) == 0:
		who = "(nobody yet)"
	case len(d.Mailboxes) > 5:
		who = fmt.Sprintf("(%d mailboxes)", len(d.Mailboxes))
	}
	return who + " " + goes(cfg, d.Deliver)
}

func goes(cfg *config.Config, to postrider.Route) string {
	switch to.Via {
	case postrider.ViaMaildir:
		dir := to.Dir
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(cfg.DataDir, dir)
		}
		return "lands in " + dir + "/new"
	case postrider.ViaSMTP:
		return fmt.Sprintf("goes to %s port %d", to.Host, to.Port)
	case postrider.ViaHold:
		return "is held: nothing of it leaves this machine"
	case postrider.ViaError:
		return fmt.Sprintf("is refused: %d %s", to.Reply.Code, to.Reply.Text)
	case postrider.ViaDiscard:
		return "is thrown away"
	}
	return "goes to the hosts that DNS names for them"
}

// firstMessage is what to paste into another terminal; empty when no domain
// takes mail.
func firstMessage(cfg *config.Config, n *node.Node) string {
	rcpt := ""
	for _, d := range cfg.Domains {
		for _, user := range d.Mailboxes {
			if user == "*" {
				user = "you"
			}
			if rcpt == "" {
				rcpt = user + "@" + d.Name
			}
		}
	}
	if rcpt == "" || len(cfg.Listeners) == 0 {
		return ""
	}
	server := reachable(n.Addr(cfg.Listeners[0].Name).String())
	var b strings.Builder
	b.WriteString("\nA first message, from another terminal (whichever you have):\n\n")
	fmt.Fprintf(&b, "  echo Hello | go run ./cmd/postrider send --from me@example.org --to %s --subject Hello --server %s\n", rcpt, server)
	fmt.Fprintf(&b, "  swaks --server %s --from me@example.org --to %s\n", server, rcpt)
	fmt.Fprintf(&b, "  printf 'Subject: Hello\\r\\n\\r\\nHello\\r\\n' | curl -sS smtp://%s --mail-from me@example.org --mail-rcpt %s -T -\n", server, rcpt)
	fmt.Fprintf(&b, "\nWhat waits: go run ./cmd/postrider queue ls --data-dir %s\nStop with Ctrl-C.\n", cfg.DataDir)
	return b.String()
}

// reachable is an address of a listener as a client on this machine dials it.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/node"
	"github.com/postrider/postrider/smtp"
)

type serveCmd struct{}

// Run serves until SIGINT or SIGTERM, then lets sessions and attempts come to
// their end.
func (serveCmd) Run(a *app) error {
	cfg, err := a.loadConfig(true)
	if err != nil {
		return err
	}
	return a.serve(cfg)
}

func (a *app) serve(cfg found) error {
	fmt.Fprint(a.stderr, cfg.warnings)
	env := node.System(cfg.Config)
	env.Memory = node.TakeMemory(cfg.Limits.Memory)
	defer node.TakeGarbage()()
	env.Lines = node.NewLines(a.stderr)
	env.Log = a.logger(env.Lines)
	if cfg.file != "" {
		env.Load = func() (*config.Config, error) { return a.reread(cfg.file) }
	}
	n, err := node.New(cfg.Config, env)
	if err != nil {
		return usageError{err}
	}
	if err := n.Start(a.ctx); err != nil {
		if errors.Is(err, context.Canceled) && a.ctx.Err() != nil {
			return nil // told to stop before it ran
		}
		return err
	}
	if err := a.greet(cfg, n); err != nil {
		end, cancel := context.WithCancel(a.ctx)
		cancel()
		return errors.Join(err, n.Wait(end))
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ended := make(chan struct{})
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for {
			select {
			case <-hup:
				n.Reload(a.ctx) // the log tells what came of it
			case <-ended:
				return
			}
		}
	})
	err = n.Wait(a.ctx)
	close(ended)
	reloads.Wait()
	env.Log.Info("stopped")
	return err
}

// demoAccount is who may send mail when there is no configuration.
const demoAccount = "demo@localhost"

// greet tells what runs. Without a configuration there is an account to try it
// with, whose password is told once, at the first start.
func (a *app) greet(cfg found, n *node.Node) error {
	password := ""
	if cfg.file == "" && len(n.Accounts().List()) == 0 {
		password = randomPassword()
		if err := n.Accounts().Add(demoAccount, password); err != nil {
			return err
		}
	}
	switch {
	case !a.cli.JSON:
		welcome(a.stdout, cfg, n, password)
	case password != "":
		return a.printJSON(map[string]string{"account": demoAccount, "password": password})
	}
	return nil
}

// logger writes lines of key=value, or JSON.
func (a *app) logger(out io.Writer) *slog.Logger {
	if a.cli.JSON {
		return slog.New(slog.NewJSONHandler(out, nil))
	}
	return slog.New(slog.NewTextHandler(out, nil))
}

// welcome tells in short what runs, and how to send it a first message.
func welcome(w io.Writer, cfg found, n *node.Node, password string) {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "Postrider serves as %s.\n\n", cfg.Hostname)
	if cfg.file == "" {
		row("configuration", "none: the built-in one, for this machine alone")
	} else {
		row("configuration", "%s", cfg.file)
	}
	for _, l := range cfg.Listeners {
		row(speaks(l), "%s%s", n.Addr(l.Name), relays(l))
	}
	if cfg.file == "" {
		said := "its password was told at the first start; \"postrider user passwd " + demoAccount + "\" gives it another"
		if password != "" {
			said = "password " + password + " (told this once)"
		}
		row("account", "%s, %s", demoAccount, said)
	}
	if at := n.AdminAddr(); at != nil {
		row("health", "http://%s/healthz", at)
		row("metrics", "http://%s/metrics", at)
	}
	for _, d := range cfg.Domains[:min(len(cfg.Domains), domainsShown)] {
		row("mail for", "%s %s: %s", d.Name, who(d), goes(cfg.Config, d.Name, d.Deliver))
	}
	if more := len(cfg.Domains) - domainsShown; more > 0 {
		row("", "and %d domains more", more)
	}
	others := postrider.Route{Via: postrider.ViaMX}
	if i := slices.IndexFunc(cfg.Routes, func(r config.Route) bool { return r.Pattern == "*" }); i >= 0 {
		others = cfg.Routes[i].To
	}
	row("other domains", "%s", goes(cfg.Config, "DOMAIN", others))
	if others.Via == postrider.ViaHold {
		row("", "one message leaves with: %s queue release%s ID", self(), cfg.flags())
		row("", "all of them, with a configuration that says: route \"*\" { via = \"mx\" }")
	}
	row("data", "%s", cfg.DataDir)
	b.WriteString(firstMessage(cfg, n))
	b.WriteString("\n")
	io.WriteString(w, b.String())
}

// domainsShown is how many domains are told of at the start.
const domainsShown = 10

// speaks is what a listener speaks.
func speaks(l config.Listener) string {
	name := map[config.Role]string{config.RoleMX: "SMTP", config.RoleSubmission: "submission", config.RoleLMTP: "LMTP"}[l.Role]
	if l.TLS == config.TLSImplicit {
		name += ", TLS"
	}
	return name
}

func relays(l config.Listener) string {
	if l.Role == config.RoleSubmission {
		return ", takes mail for all domains from accounts, after AUTH under TLS"
	}
	if len(l.RelayFrom) == 0 {
		return ", takes mail for the domains below"
	}
	nets := make([]string, len(l.RelayFrom))
	for i, p := range l.RelayFrom {
		nets[i] = p.String()
	}
	return ", takes mail for the domains below, and for all domains from " + strings.Join(nets, ", ")
}

// who has mail in a domain of ours.
func who(d config.Domain) string {
	switch {
	case slices.Contains(d.Mailboxes, "*"):
		return "(any name)"
	case len(d.Mailboxes) == 0:
		return "(nobody yet)"
	case len(d.Mailboxes) > 5:
		return fmt.Sprintf("(%d mailboxes)", len(d.Mailboxes))
	}
	return "(" + strings.Join(d.Mailboxes, ", ") + ")"
}

// goes says where mail goes.
func goes(cfg *config.Config, domain string, to postrider.Route) string {
	switch to.Via {
	case postrider.ViaMaildir:
		dir := to.Dir
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(cfg.DataDir, dir)
		}
		return "lands in " + strings.NewReplacer("{domain}", domain, "{user}", "USER").Replace(dir) + "/new"
	case postrider.ViaSMTP:
		return fmt.Sprintf("goes to %s port %d", to.Host, to.Port)
	case postrider.ViaLMTP:
		if to.Socket != "" {
			return "goes to the LMTP socket " + to.Socket
		}
		return fmt.Sprintf("goes over LMTP to %s port %d", to.Host, to.Port)
	case postrider.ViaHold:
		return "held, nothing of it leaves this machine"
	case postrider.ViaError:
		return fmt.Sprintf("refused with %d %s", to.Reply.Code, to.Reply.Text)
	case postrider.ViaDiscard:
		return "thrown away"
	}
	return "goes to the hosts that DNS names for it"
}

// firstMessage is what to paste into another terminal; empty when no domain
// takes mail.
func firstMessage(cfg found, n *node.Node) string {
	rcpt := ""
	for _, d := range cfg.Domains {
		if len(d.Mailboxes) > 0 && rcpt == "" {
			user := d.Mailboxes[0]
			if user == "*" {
				user = "you"
			}
			rcpt = smtp.QuoteLocal(user) + "@" + d.Name
		}
	}
	if rcpt == "" {
		return ""
	}
	server := ""
	for _, l := range cfg.Listeners {
		if l.Role == config.RoleMX && l.TLS != config.TLSImplicit && server == "" {
			server = reachable(n.Addr(l.Name).String())
		}
	}
	if server == "" {
		return ""
	}
	return fmt.Sprintf(`
A first message, from another terminal, whichever you have:

  echo Hello | %[1]s send --server %[2]s --from me@example.org --to %[3]s --subject Hello
  swaks --server %[2]s --from me@example.org --to %[3]s
  printf 'Subject: Hello\r\n\r\nHello\r\n' | curl smtp://%[2]s --mail-from me@example.org --mail-rcpt %[3]s -T -

What waits: %[1]s queue ls%[4]s
Stop it with Ctrl-C.
`, self(), server, rcpt, cfg.flags())
}

// flags are what another command must be given to find the same server.
func (cfg found) flags() string {
	switch {
	case cfg.file != "":
		return " --config " + cfg.file
	case cfg.DataDir != config.DefaultDataDir:
		return " --data-dir " + cfg.DataDir
	}
	return ""
}

// self is how this program is called: "go run" builds it into a folder that is
// gone afterwards.
func self() string {
	if name, err := os.Executable(); err == nil && strings.Contains(name, "go-build") {
		return "go run ./cmd/postrider"
	}
	return "postrider"
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

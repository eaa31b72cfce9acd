package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/node"
)

// filters choose messages; every command of the queue has the same.
type filters struct {
	To     string `help:"Recipient; * stands for anything." placeholder:"ADDRESS"`
	From   string `help:"Reverse-path; * stands for anything, <> for the null path." placeholder:"ADDRESS"`
	Domain string `help:"Domain of a recipient." placeholder:"DOMAIN"`
	State  string `help:"queued, active, deferred, held, delivered or failed." placeholder:"STATE"`
	Older  string `help:"Arrived longer ago than this, such as 30m or 2d." placeholder:"DURATION"`
	ID     string `help:"Message, or how its ID begins." placeholder:"ID"`
	Reason string `help:"Part of what was replied last." placeholder:"TEXT"`
}

func (f filters) filter() (admin.Filter, error) {
	out := admin.Filter{To: f.To, From: f.From, Domain: f.Domain, State: f.State, ID: f.ID, Reason: f.Reason}
	if f.Older != "" {
		d, err := config.ParseDuration(f.Older)
		if err != nil {
			return out, usagef("--older %s: write a number with a unit, such as 30s, 5m, 4h, 5d", f.Older)
		}
		out.Older = d
	}
	if err := out.Check(); err != nil {
		return out, usageError{err}
	}
	return out, nil
}

type queueLsCmd struct {
	Filters filters `embed:""`
}

// Run lists what the filters choose, oldest first.
func (c queueLsCmd) Run(a *app) error {
	f, err := c.Filters.filter()
	if err != nil {
		return err
	}
	messages, err := a.messages(f)
	if err != nil {
		return err
	}
	out := a.table()
	count := 0
	for m, err := range messages {
		if err != nil {
			out.Flush()
			return fmt.Errorf("read the queue: %w", err)
		}
		count++
		if a.cli.JSON {
			if err := a.printJSON(m); err != nil {
				return err
			}
			continue
		}
		listed(out, m)
		if err := out.Flush(); err != nil {
			return err
		}
	}
	if count == 0 && !a.cli.JSON {
		a.printf("No messages.\n")
	}
	return nil
}

// listed writes a message as queue ls shows it.
func listed(out table, m admin.Message) {
	from := strings.Map(visible, m.From)
	if from == "" {
		from = "<>"
	}
	fmt.Fprintf(out, "%s  %s  %s  %s  %s\n", m.ID, m.Arrived.Local().Format(time.DateTime), config.FormatSize(m.Size), m.State, from)
	for _, r := range m.Recipients {
		next := ""
		if r.Next != nil {
			next = "next " + r.Next.Local().Format(time.DateTime)
		}
		fmt.Fprintf(out, "    %s\t%s\t%s\ttries %d\t%s\n", strings.Map(visible, r.To), r.State, strings.Map(visible, string(r.Dest)), r.Tries, next)
		if r.Reply != "" {
			fmt.Fprintf(out, "        %s\n", r.Reply)
		}
	}
}

type queueShowCmd struct {
	ID string `arg:"" help:"Message."`
}

// Run shows one message.
func (c queueShowCmd) Run(a *app) error {
	messages, err := a.messages(admin.Filter{ID: c.ID})
	if err != nil {
		return err
	}
	var one []admin.Message
	for m, err := range messages {
		if err != nil {
			return fmt.Errorf("read the queue: %w", err)
		}
		if string(m.ID) == c.ID {
			one = []admin.Message{m}
			break
		}
		one = append(one, m)
	}
	switch {
	case len(one) == 0:
		return fmt.Errorf("no message %s in the queue: it was settled and forgotten, or never was", c.ID)
	case len(one) > 1:
		return fmt.Errorf("%d messages begin with %s: write more of the ID", len(one), c.ID)
	}
	if a.cli.JSON {
		return a.printJSON(one[0])
	}
	out := a.table()
	listed(out, one[0])
	return out.Flush()
}

// messages asks the server, or reads the spool itself when no server runs.
func (a *app) messages(f admin.Filter) (iter.Seq2[admin.Message, error], error) {
	cfg, err := a.loadConfig(false)
	if err != nil {
		return nil, err
	}
	if client, up := controlClient(a.ctx, cfg.Config); up {
		return client.Queue(a.ctx, f), nil
	}
	return func(yield func(admin.Message, error) bool) {
		now := time.Now()
		for m, err := range node.ReadQueue(a.ctx, cfg.Config, node.System(cfg.Config).FS) {
			if err == nil && !f.Match(m, now) {
				continue
			}
			if !yield(m, err) {
				return
			}
		}
	}, nil
}

// controlClient reaches the control socket; false when nobody listens there.
func controlClient(ctx context.Context, cfg *config.Config) (admin.Client, bool) {
	return socketClient(ctx, filepath.Join(cfg.DataDir, node.ControlSocket), "be the user who runs the server")
}

// submitClient reaches the socket where programs hand mail in; false when nobody
// listens there.
func submitClient(ctx context.Context, cfg *config.Config) (admin.Client, bool) {
	return socketClient(ctx, cfg.SubmitPath(), `be the user who runs the server, or let all users in with a configuration that says: submit_socket = "/run/postrider/submit.sock"`)
}

// socketClient reaches a socket; advice is for those who may not open it.
func socketClient(ctx context.Context, name, advice string) (admin.Client, bool) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return admin.Client{}, false
	}
	if err == nil {
		conn.Close()
	}
	return admin.Client{Transport: &http.Transport{
		DisableKeepAlives:     true,
		ExpectContinueTimeout: time.Minute,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := d.DialContext(ctx, "unix", name)
			if errors.Is(err, fs.ErrPermission) {
				return nil, fmt.Errorf("%w: %s", err, advice)
			}
			return conn, err
		},
	}}, true
}

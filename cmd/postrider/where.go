package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/journal"
	"github.com/postrider/postrider/node"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/spool"
)

type whereCmd struct {
	Query string `arg:"" name:"what" help:"A message's ID, its Message-ID, or the address of its sender or of a recipient."`
	Limit int    `help:"How many messages, the newest." default:"100"`
}

// Run tells what became of messages, and what happens next to them.
func (c whereCmd) Run(a *app) error {
	if strings.Trim(c.Query, "<> \t") == "" || c.Limit < 1 {
		return usagef("where what? Name an ID, an address or a Message-ID")
	}
	cfg, err := a.loadConfig(false)
	if err != nil {
		return err
	}
	steps := a.readWhere(cfg.Config, c.Query, c.Limit)
	if client, up := controlClient(a.ctx, cfg.Config); up {
		steps = client.Where(a.ctx, c.Query, c.Limit)
	}
	t := teller{a: a, now: time.Now()}
	for s, err := range steps {
		if err != nil {
			return err
		}
		if a.cli.JSON {
			err = a.printJSON(s)
		} else {
			t.tell(s)
		}
		if err != nil {
			return err
		}
	}
	if t.messages == 0 && !a.cli.JSON {
		a.printf("Nothing is known of %s.\n", strings.Map(visible, c.Query))
	}
	return nil
}

// readWhere reads journal and spool of a server that does not run, and changes
// nothing. The end of the log, which the journal has not yet, comes from there.
func (a *app) readWhere(cfg *config.Config, query string, limit int) iter.Seq2[admin.Step, error] {
	return func(yield func(admin.Step, error) bool) {
		fsys := node.System(cfg).FS
		search := admin.Search{Now: time.Now(), Dest: offlineDest(cfg)}
		j, err := journal.Open(a.ctx, journal.Options{FS: fsys, Dir: filepath.Join(cfg.DataDir, "journal"), Spellings: node.Spellings, ReadOnly: true})
		if err != nil {
			yield(admin.Step{}, err)
			return
		}
		defer j.Close()
		search.Journal = j
		dir := filepath.Join(cfg.DataDir, "spool")
		if _, err := fsys.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			s, err := spool.Open(a.ctx, spool.Options{FS: fsys, Dir: dir, ReadOnly: true})
			if err == nil {
				defer s.Close(context.WithoutCancel(a.ctx))
				search.Spool = s
				err = j.Run(a.ctx, s.Batches(a.ctx, "journal"))
			}
			if err != nil {
				yield(admin.Step{}, err)
				return
			}
		}
		for s, err := range search.Steps(a.ctx, query, limit) {
			if !yield(s, err) {
				return
			}
		}
	}
}

// offlineDest says where a recipient waits; nowhere that we know when the routes
// cannot be read.
func offlineDest(cfg *config.Config) func(smtp.Path) postrider.Dest {
	router, err := route.New(cfg.Table())
	if err != nil {
		return func(smtp.Path) postrider.Dest { return "" }
	}
	return func(to smtp.Path) postrider.Dest { return router.Route(to).Dest }
}

// A teller tells steps in words, message by message.
type teller struct {
	a        *app
	now      time.Time
	id       postrider.ID // of the message that is told of
	messages int
}

func (t *teller) tell(s admin.Step) {
	if t.messages == 0 || s.ID != t.id || s.ID == "" {
		if t.messages > 0 {
			t.a.printf("\n")
		}
		t.id = s.ID
		t.messages++
		t.a.printf("%s\n", strings.Map(visible, heading(s)))
	}
	at := s.Time.Local().Format(time.DateTime)
	if s.Event == admin.StepNext {
		at = "now" + strings.Repeat(" ", len(time.DateTime)-3)
	}
	t.a.printf("  %s  %s\n", at, strings.Map(visible, t.words(s)))
}

func heading(s admin.Step) string {
	if s.Event == admin.StepLogin {
		return "Login refused, as " + cmp.Or(s.Account, "a name that is no address")
	}
	if s.ID == "" {
		return "Refused, from " + s.From
	}
	head := "Message " + string(s.ID)
	if s.Event == admin.StepAccepted {
		head += " from " + s.From
	}
	if s.Header != "" {
		head += ", Message-ID <" + s.Header + ">"
	}
	return head
}

// words says a step in a sentence.
func (t *teller) words(s admin.Step) string {
	who := cmp.Or(s.To, "a recipient that cannot be read")
	switch s.Event {
	case admin.StepAccepted:
		return accepted(s)
	case admin.StepRefused:
		return fmt.Sprintf("refused for %s%s%s", orAll(s.To), by(", to ", s.Peer), said(s.Reply))
	case admin.StepLogin:
		return fmt.Sprintf("login refused%s%s", by(", to ", s.Peer), said(s.Reply))
	case admin.StepDelivered:
		return fmt.Sprintf("%s: delivered%s%s", s.To, by(" to ", s.Peer), said(s.Reply))
	case admin.StepFailed:
		return fmt.Sprintf("%s: failed for good%s%s", s.To, by(", says ", s.Peer), said(s.Reply))
	case admin.StepDeferred:
		return fmt.Sprintf("%s: attempt %d put off%s%s%s", s.To, s.Tries, by(" by ", s.Peer), said(s.Reply), t.then("; to be tried again ", s.Next))
	case admin.StepRetried:
		return who + ": an operator wants it tried" + t.then(" ", s.Next)
	case admin.StepHeld:
		return who + ": an operator holds it: no attempt, and no expiry, until it is released"
	case admin.StepReleased:
		return who + ": an operator has released it"
	case admin.StepBounced:
		return who + ": an operator has given it up" + said(s.Reply)
	case admin.StepDropped:
		return who + ": an operator has given it up, and nobody is told"
	case admin.StepBounceOrdered:
		return who + ": an operator wants it given up, if the attempt that is under way does not end it" + said(s.Reply)
	case admin.StepDropOrdered:
		return who + ": an operator wants it given up, and nobody told, if the attempt that is under way does not end it"
	case admin.StepReported:
		if s.Report == "" {
			return "nothing is owed to the sender"
		}
		return "the sender is told, in message " + string(s.Report)
	case admin.StepRemoved:
		return "done: every recipient is settled, and the queue has forgotten the message"
	case admin.StepNext:
		return s.To + ": " + t.next(s)
	}
	return s.Event // of a newer server
}

func accepted(s admin.Step) string {
	how := ""
	if s.Account != "" && s.Peer != "" {
		how += ", authenticated as " + s.Account
	}
	if s.TLS != "" {
		how += ", over " + s.TLS
	}
	where := "made here"
	if s.Account != "" {
		where = "handed in on this machine by " + s.Account
	}
	if s.Peer != "" {
		where = "accepted from " + s.Peer
	}
	return fmt.Sprintf("%s%s, %s, for %s", where, how, config.FormatSize(s.Size), orAll(s.To))
}

// next says what happens next to a recipient.
func (t *teller) next(s admin.Step) string {
	switch s.State {
	case admin.StateActive:
		return "an attempt is under way"
	case admin.StateHeld:
		return "held, by an operator or by its route: it waits until it is released"
	}
	if s.Next == nil {
		return "it waits"
	}
	if !s.Next.After(t.now) {
		return "due now: it is tried when its destination takes mail"
	}
	if s.Reply == admin.SendersOrder {
		return "it waits by order of the sender" + t.then(", and is sent ", s.Next)
	}
	return "it waits" + t.then(", and is tried next ", s.Next)
}

// then says when something comes.
func (t *teller) then(before string, next *time.Time) string {
	if next == nil {
		return ""
	}
	text := before + "at " + next.Local().Format(time.DateTime)
	if wait := next.Sub(t.now).Round(time.Second); wait > 0 {
		text += " (in " + wait.String() + ")"
	}
	return text
}

func by(before, who string) string {
	if who == "" {
		return ""
	}
	return before + who
}

func said(reply string) string {
	if reply == "" {
		return ""
	}
	return ": " + reply
}

func orAll(to string) string {
	if to == "" {
		return "everybody"
	}
	return to
}

package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/node"
)

// verb is what the commands that steer the queue have in common.
type verb struct {
	Filters filters  `embed:""`
	IDs     []string `arg:"" optional:"" name:"id" help:"Messages, or how their ID begins; else what the filters choose."`
	DryRun  bool     `help:"Say what would be touched, and touch nothing."`
}

type queueRetryCmd struct {
	Verb verb `embed:""`
}

type queueHoldCmd struct {
	Verb verb `embed:""`
}

type queueReleaseCmd struct {
	Verb verb `embed:""`
}

type queueBounceCmd struct {
	Verb    verb   `embed:""`
	Message string `help:"What the sender is told." placeholder:"TEXT"`
	Yes     bool   `help:"Do it, also to more than one message."`
}

type queueDropCmd struct {
	Verb verb `embed:""`
	Yes  bool `help:"Do it, also to more than one message."`
}

// Run makes waiting messages due now.
func (c queueRetryCmd) Run(a *app) error {
	return c.Verb.order(a, admin.Order{Verb: admin.VerbRetry}, true)
}

// Run keeps messages back.
func (c queueHoldCmd) Run(a *app) error {
	return c.Verb.order(a, admin.Order{Verb: admin.VerbHold}, true)
}

// Run lets messages go.
func (c queueReleaseCmd) Run(a *app) error {
	return c.Verb.order(a, admin.Order{Verb: admin.VerbRelease}, true)
}

// Run gives messages up, and lets the sender know.
func (c queueBounceCmd) Run(a *app) error {
	return c.Verb.order(a, admin.Order{Verb: admin.VerbBounce, Text: c.Message}, c.Yes)
}

// Run gives messages up.
func (c queueDropCmd) Run(a *app) error {
	return c.Verb.order(a, admin.Order{Verb: admin.VerbDrop}, c.Yes)
}

// orders are o for the filters, or for each message that is named.
func (v verb) orders(o admin.Order) ([]admin.Order, error) {
	f, err := v.Filters.filter()
	if err != nil {
		return nil, err
	}
	o.Filter, o.DryRun = f, v.DryRun
	all := []admin.Order{o}
	if len(v.IDs) > 0 {
		if f.ID != "" {
			return nil, usagef("--id and an ID beside it: write one of them")
		}
		all = nil
		for _, id := range v.IDs {
			o.Filter.ID = id
			all = append(all, o)
		}
	}
	for _, o := range all {
		if err := o.Check(); err != nil {
			return nil, usageError{err}
		}
	}
	return all, nil
}

// order does what is ordered. Without yes it does it to one message that is
// named, and else says what it would do.
func (v verb) order(a *app, o admin.Order, yes bool) error {
	todo, err := v.orders(o)
	if err != nil {
		return err
	}
	cfg, err := a.loadConfig(false)
	if err != nil {
		return err
	}
	client, up := controlClient(a.ctx, cfg.Config)
	if !up {
		return fmt.Errorf("no server runs on %s: start it with \"postrider serve\"", cfg.DataDir)
	}
	if yes || v.DryRun {
		return v.finish(a, client, todo)
	}
	dry := make([]admin.Order, len(todo))
	for i := range todo {
		dry[i] = todo[i]
		dry[i].DryRun = true
	}
	if len(v.IDs) == 1 || v.Filters.ID != "" {
		var last admin.Touched
		sum, err := v.carry(a, client, dry, func(t admin.Touched) error { last = t; return nil })
		if err != nil {
			return err
		}
		if sum.messages == 1 {
			todo[0].Filter.ID = string(last.ID) // no other that begins alike since
		}
		if sum.messages <= 1 {
			return v.finish(a, client, todo)
		}
	}
	if err := v.finish(a, client, dry); err != nil {
		return err
	}
	return usagef("nothing was done: add --yes to %s these", o.Verb)
}

// touchedSum counts what orders have touched.
type touchedSum struct{ messages, recipients int }

// carry has orders carried out, tells of each message, and at the end of all.
func (v verb) carry(a *app, client admin.Client, todo []admin.Order, tell func(admin.Touched) error) (touchedSum, error) {
	var sum touchedSum
	var missing []string
	for _, o := range todo {
		before := sum.messages
		for t, err := range client.Do(a.ctx, o) {
			if err != nil {
				return sum, err
			}
			sum.messages++
			sum.recipients += len(t.Recipients)
			if err := tell(t); err != nil {
				return sum, err
			}
		}
		if sum.messages == before && len(v.IDs) > 0 {
			missing = append(missing, o.Filter.ID)
		}
	}
	if len(missing) > 0 {
		return sum, fmt.Errorf("nothing in the queue to %s under %s", todo[0].Verb, strings.Join(missing, ", "))
	}
	return sum, nil
}

// finish has orders carried out, and counts at the end.
func (v verb) finish(a *app, client admin.Client, todo []admin.Order) error {
	sum, err := v.carry(a, client, todo, a.touched)
	if err == nil && !a.cli.JSON {
		would := ""
		if todo[0].DryRun {
			would = "; nothing was done"
		}
		a.printf("%s: %s, %s%s.\n", todo[0].Verb, plural(sum.messages, "message", "messages"), plural(sum.recipients, "recipient", "recipients"), would)
	}
	return err
}

// rcptsShown is how many recipients of one message are told of.
const rcptsShown = 20

// touched tells of one message.
func (a *app) touched(t admin.Touched) error {
	if a.cli.JSON {
		return a.printJSON(t)
	}
	from := strings.Map(visible, t.From)
	if from == "" {
		from = "<>"
	}
	out := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "%s  from %s\n", t.ID, from)
	for _, r := range t.Recipients[:min(len(t.Recipients), rcptsShown)] {
		fmt.Fprintf(out, "    %s\twas %s\t%s\n", strings.Map(visible, r.To), r.State, became(t, r))
	}
	if more := len(t.Recipients) - rcptsShown; more > 0 {
		fmt.Fprintf(out, "    and %d recipients more\n", more)
	}
	return out.Flush()
}

// became says what was done to a recipient, or would be.
func became(t admin.Touched, r admin.TouchedRcpt) string {
	said := map[admin.Verb]string{
		admin.VerbRetry: "due now", admin.VerbHold: "held", admin.VerbRelease: "released, and due now",
		admin.VerbBounce: "given up; the sender is told", admin.VerbDrop: "given up; nobody is told",
	}[t.Do]
	if t.Do == admin.VerbBounce && t.From == "" {
		said = "given up; there is no sender to be told"
	}
	if r.When == admin.WhenAfterAttempt {
		said += ", after the attempt that is under way, unless that delivers it"
	}
	if t.DryRun {
		said = "would be " + said
	}
	return said
}

type queueStatCmd struct {
	Filters filters `embed:""`
}

// Run counts what waits, by destination and state.
func (c queueStatCmd) Run(a *app) error {
	f, err := c.Filters.filter()
	if err != nil {
		return err
	}
	stats, err := a.stats(f)
	if err != nil {
		return fmt.Errorf("read the queue: %w", err)
	}
	if a.cli.JSON {
		for _, d := range stats {
			if err := a.printJSON(d); err != nil {
				return err
			}
		}
		return nil
	}
	if len(stats) == 0 {
		a.printf("Nobody waits for mail.\n")
		return nil
	}
	out := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(out, "DESTINATION\tQUEUED\tACTIVE\tDEFERRED\tHELD\tOLDEST\tLAST REPLY\n")
	sum := admin.DestStat{Dest: "in all", Oldest: stats[0].Oldest}
	for _, d := range stats {
		statLine(out, d)
		for _, r := range d.Reasons[min(len(d.Reasons), 1):] {
			fmt.Fprintf(out, "\t\t\t\t\t\t%d x %s\n", r.Recipients, r.Reply)
		}
		if d.Pace != nil {
			fmt.Fprintf(out, "\t\t\t\t\t\t%s\n", paceOf(d.Pace))
		}
		sum.Queued, sum.Active, sum.Deferred, sum.Held = sum.Queued+d.Queued, sum.Active+d.Active, sum.Deferred+d.Deferred, sum.Held+d.Held
		if d.Oldest.Before(sum.Oldest) {
			sum.Oldest = d.Oldest
		}
	}
	if len(stats) > 1 {
		statLine(out, sum)
	}
	return out.Flush()
}

// paceOf says why a destination has fewer attempts at a time than it may have.
func paceOf(p *admin.Pace) string {
	said := fmt.Sprintf("%d at a time", p.Limit)
	if !p.Probe.IsZero() {
		said = "tried again at " + p.Probe.Local().Format(time.TimeOnly)
	}
	return said + " since " + p.Since.Local().Format(time.TimeOnly) + ": " + strings.Map(visible, p.Reason)
}

func statLine(out *tabwriter.Writer, d admin.DestStat) {
	reason := ""
	if len(d.Reasons) > 0 {
		reason = fmt.Sprintf("%d x %s", d.Reasons[0].Recipients, d.Reasons[0].Reply)
	}
	fmt.Fprintf(out, "%s%s\t%d\t%d\t%d\t%d\t%s\t%s\n", strings.Map(visible, string(d.Dest)), domainsOf(d), d.Queued, d.Active, d.Deferred, d.Held,
		d.Oldest.Local().Format(time.DateTime), reason)
}

// domainsOf says which domains wait for a destination that does not name its own.
func domainsOf(d admin.DestStat) string {
	names := make([]string, 0, len(d.Domains)+1)
	for _, s := range d.Domains {
		names = append(names, strings.Map(visible, s.Domain))
	}
	if d.MoreDomains > 0 {
		names = append(names, fmt.Sprintf("and %d more", d.MoreDomains))
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// stats asks the server, or reads the spool itself when no server runs.
func (a *app) stats(f admin.Filter) ([]admin.DestStat, error) {
	cfg, err := a.loadConfig(false)
	if err != nil {
		return nil, err
	}
	if client, up := controlClient(a.ctx, cfg.Config); up {
		var all []admin.DestStat
		for d, err := range client.Stat(a.ctx, f) {
			if err != nil {
				return nil, err
			}
			all = append(all, d)
		}
		return all, nil
	}
	t, now := admin.NewTally(), time.Now()
	var failed []error
	for m, err := range node.ReadQueue(a.ctx, cfg.Config, node.System(cfg.Config).FS) {
		if err != nil {
			failed = append(failed, err)
			continue
		}
		t.Add(m, f, now)
	}
	return t.Stats(), errors.Join(failed...)
}

// plural is a number of things in words.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

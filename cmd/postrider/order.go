package main

import (
	"fmt"
	"strings"

	"github.com/postrider/postrider/admin"
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
	out := a.table()
	if len(t.Recipients) == 0 {
		fmt.Fprintf(out, "%s  cannot be read: whose it is nobody can say\n", t.ID)
		return out.Flush()
	}
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

// plural is a number of things in words.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

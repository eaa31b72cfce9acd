package main

import (
	"bufio"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/admin"
	"github.com/postrider/postrider/node"
)

type queueStatCmd struct {
	Filters filters `embed:""`
}

// Run counts what waits, by destination and state.
func (c queueStatCmd) Run(a *app) error {
	f, err := c.Filters.filter()
	if err != nil {
		return err
	}
	stats, hosts, err := a.stats(f)
	if err != nil {
		return fmt.Errorf("read the queue: %w", err)
	}
	if a.cli.JSON {
		out := bufio.NewWriter(a.stdout)
		for _, d := range stats {
			if err := writeJSON(out, d); err != nil {
				return err
			}
		}
		for _, h := range hosts {
			if err := writeJSON(out, h); err != nil {
				return err
			}
		}
		return out.Flush()
	}
	if err := a.statTable(stats); err != nil {
		return err
	}
	return a.hostTable(hosts)
}

// statTable shows what waits for each destination.
func (a *app) statTable(stats []admin.DestStat) error {
	if len(stats) == 0 {
		a.printf("Nobody waits for mail.\n")
		return nil
	}
	out := a.table()
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

// hostsShown is how many hosts people are shown; programs are told of all.
const hostsShown = 20

// hostTable shows the hosts that get less than they could.
func (a *app) hostTable(hosts []admin.HostPace) error {
	if len(hosts) == 0 {
		return nil
	}
	out := a.table()
	fmt.Fprint(out, "\nHOST\tGETS LESS\n")
	for _, h := range hosts[:min(len(hosts), hostsShown)] {
		fmt.Fprintf(out, "%s\t%s\n", strings.Map(visible, h.Host), paceOf(&h.Pace))
	}
	if more := len(hosts) - hostsShown; more > 0 {
		fmt.Fprintf(out, "and %d more\n", more)
	}
	return out.Flush()
}

// gathered is all of a listing, or why there is not all of it.
func gathered[T any](listing iter.Seq2[T, error]) (all []T, err error) {
	for one, err := range listing {
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// paceOf says why a destination or a host has fewer at a time than it may have, or none
// now.
func paceOf(p *admin.Pace) string {
	var said []string
	if p.Reason != "" {
		how := fmt.Sprintf("%d of %d at a time, %d now", p.Limit, p.Most, p.Running)
		if !p.Probe.IsZero() {
			how = "tried again at " + p.Probe.Local().Format(time.TimeOnly)
		}
		said = append(said, how+", since "+p.Since.Local().Format(time.TimeOnly)+": "+strings.Map(visible, p.Reason))
	}
	if !p.Next.IsZero() {
		said = append(said, "rate "+p.Rate+": the next at "+p.Next.Local().Format(time.TimeOnly))
	}
	return strings.Join(said, "; ")
}

func statLine(out table, d admin.DestStat) {
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

// stats asks the server, or reads the spool itself when no server runs. The hosts are
// those of all mail, and so are told where nothing is chosen.
func (a *app) stats(f admin.Filter) ([]admin.DestStat, []admin.HostPace, error) {
	cfg, err := a.loadConfig(false)
	if err != nil {
		return nil, nil, err
	}
	if client, up := controlClient(a.ctx, cfg.Config); up {
		var hosts []admin.HostPace
		var hostsErr error
		var beside sync.WaitGroup // each of the two may be ten thousand lines
		if f == (admin.Filter{}) {
			beside.Go(func() { hosts, hostsErr = gathered(client.Hosts(a.ctx)) })
		}
		all, err := gathered(client.Stat(a.ctx, f))
		beside.Wait()
		if err := errors.Join(err, hostsErr); err != nil {
			return nil, nil, err
		}
		return all, hosts, nil
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
	return t.Stats(), nil, errors.Join(failed...)
}

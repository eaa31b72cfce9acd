// Command run measures Postrider beside the other servers that are there, and
// prints one table: medians of interleaved rounds, their ranges, ratios, and
// whether what docs/performance.md promises is reached.
//
//	go run ./bench/run [-rounds 5] [-json] [-long] [-scale 1] [-docs] [scenario...]
//
// Without scenarios it runs those that take minutes together; with -long also
// those that take hours. "go run ./bench/run -list" names them. The other servers
// are Debian packages that ".ci/run packages" has unpacked; one that is not there
// is left out, and so are its ratios.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Options are what the command line says.
type options struct {
	rounds int
	json   bool
	long   bool
	list   bool
	docs   bool
	scale  float64
	dir    string
	binary string
	peers  string
	as     string
}

func parse(args []string) (o options, names []string, err error) {
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.IntVar(&o.rounds, "rounds", 5, "rounds of each, in turn")
	f.BoolVar(&o.json, "json", false, "print JSON, an object a line")
	f.BoolVar(&o.long, "long", false, "also what takes hours")
	f.BoolVar(&o.list, "list", false, "name the scenarios")
	f.BoolVar(&o.docs, "docs", false, "write the table into docs/performance.md, and the pictures and the raw results below docs/figures")
	f.Float64Var(&o.scale, "scale", 1, "of messages in each run: 0.1 for a quick look")
	f.StringVar(&o.dir, "dir", "/var/tmp", "a folder on the disk that is measured")
	f.StringVar(&o.binary, "postrider", "", "the binary to measure; else it is built")
	f.StringVar(&o.peers, "peers", "", "where other servers are unpacked; else $POSTRIDER_PEERS, or /var/tmp/postrider-peers")
	f.StringVar(&o.as, "note", "", "a word on the conditions, printed with them, such as \"beside other work\"")
	if err := f.Parse(args); err != nil {
		return o, nil, err
	}
	if o.rounds < 1 || o.scale <= 0 {
		return o, nil, errors.New("-rounds and -scale are more than nothing")
	}
	for _, name := range f.Args() {
		if !slices.ContainsFunc(scenarios(), func(s scenario) bool { return s.name == name }) {
			return o, nil, fmt.Errorf("no scenario %q; there are: %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	return o, f.Args(), nil
}

func main() {
	if is, err := child(os.Args[1:]); is {
		if err != nil {
			fmt.Fprintln(os.Stderr, "run:", err)
			os.Exit(1)
		}
		return
	}
	o, names, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(2)
	}
	if o.list {
		list(os.Stdout)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, names); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

// child plays a part in a process of its own, where the arguments name one.
func child(args []string) (is bool, err error) {
	switch {
	case len(args) == 3 && args[0] == slowDiskArg:
		return true, serveSlowDisk(args[1], args[2])
	case len(args) == 2 && args[0] == sinkArg:
		return true, serveSink(args[1])
	}
	return false, nil
}

func list(w io.Writer) {
	for _, s := range scenarios() {
		long := ""
		if s.long {
			long = " (-long)"
		}
		fmt.Fprintf(w, "%-14s %s%s\n", s.name, s.about, long)
	}
}

// run runs the scenarios in turn. One that fails is told, and the others run.
func run(ctx context.Context, o options, names []string) error {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	report := report{Conditions: b.conditions()}
	fmt.Fprintf(os.Stderr, "%s\n", report.Conditions)
	var failed []error
	start := time.Now()
	for _, s := range scenarios() {
		if len(names) > 0 && !slices.Contains(names, s.name) || len(names) == 0 && s.long && !o.long {
			continue
		}
		began := time.Now()
		b.say("%s: %s", s.name, s.about)
		b.lost = map[string]bool{}
		rows, err := s.run(b)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
			b.say("%s: %v", s.name, err)
			if ctx.Err() != nil {
				break
			}
		}
		b.say("%s: took %v", s.name, time.Since(began).Round(time.Second))
		for i := range rows {
			rows[i].Scenario = s.name
		}
		report.Rows = append(report.Rows, rows...)
		if o.json {
			for _, r := range rows {
				if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
					return err
				}
			}
		}
	}
	b.say("all: took %v", time.Since(start).Round(time.Second))
	report.Curves = b.curves
	if !o.json {
		fmt.Print(report.String())
	}
	if o.docs {
		failed = append(failed, report.writeDocs())
	}
	return errors.Join(failed...)
}

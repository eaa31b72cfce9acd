// Command library measures the packages smtpd and smtpc beside
// github.com/emersion/go-smtp: what a message of 4 KiB to one recipient costs a
// server and a client, pipelined and not. Rounds of both are run in turn, and
// medians are printed with their ratio.
//
//	go run ./bench/library [-rounds 5] [-messages 20000] [-json]
//
// "alone" is the library over a connection in memory: no kernel, so that its own
// work is seen, and its allocations. "loopback" is a process of its own over TCP,
// and its CPU time is what the system counts for it, user and kernel.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"text/tabwriter"
)

// A figure is what a message costs.
type figure struct {
	CPU    float64 `json:"cpu_us"` // microseconds of CPU
	Allocs float64 `json:"allocs"` // of memory; not measured on loopback
	Bytes  float64 `json:"bytes"`
}

// A result is a row of the table: medians, and the ratio of ours to the other's.
type result struct {
	What   string            `json:"what"`
	Median map[string]figure `json:"median"`
	CPU    float64           `json:"cpu_ratio"`
	Allocs float64           `json:"allocs_ratio,omitempty"`
}

// A case is something to measure.
type kase struct {
	what    string
	measure func(l library, n int) (figure, error)
	allocs  bool
}

var cases = []kase{
	{"server alone, pipelined", func(l library, n int) (figure, error) { return serverAlone(l, n, true) }, true},
	{"server alone, step by step", func(l library, n int) (figure, error) { return serverAlone(l, n, false) }, true},
	{"client alone, PIPELINING offered", func(l library, n int) (figure, error) { return clientAlone(l, n, true) }, true},
	{"client alone, not offered", func(l library, n int) (figure, error) { return clientAlone(l, n, false) }, true},
	{"server on loopback, pipelined", func(l library, n int) (figure, error) { return serverProcess(l, n, true) }, false},
	{"server on loopback, step by step", func(l library, n int) (figure, error) { return serverProcess(l, n, false) }, false},
	{"client on loopback, PIPELINING offered", func(l library, n int) (figure, error) { return clientProcess(l, n, true) }, false},
	{"client on loopback, not offered", func(l library, n int) (figure, error) { return clientProcess(l, n, false) }, false},
}

func main() {
	rounds := flag.Int("rounds", 5, "rounds of each, in turn")
	messages := flag.Int("messages", 20000, "messages in a round")
	asJSON := flag.Bool("json", false, "print JSON, an object a line")
	flag.Parse()
	err := error(nil)
	switch args := flag.Args(); {
	case len(args) > 0:
		err = child(context.Background(), args)
	case *rounds < 1 || *messages < sessions:
		err = fmt.Errorf("-rounds is at least 1, -messages at least %d", sessions)
	default:
		err = run(*rounds, *messages, *asJSON)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "library:", err)
		os.Exit(1)
	}
}

func run(rounds, messages int, asJSON bool) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if !asJSON {
		fmt.Printf("%s, %s/%s, %d CPUs, %d rounds of %d messages of %d octets\n", runtime.Version(), runtime.GOOS, runtime.GOARCH,
			runtime.NumCPU(), rounds, messages, len(content))
		fmt.Fprintln(w, "WHAT\tPOSTRIDER us\tGO-SMTP us\tRATIO\tPOSTRIDER allocs\tGO-SMTP allocs\tRATIO")
	}
	for _, k := range cases {
		r, err := k.run(rounds, messages)
		if err != nil {
			return fmt.Errorf("%s: %w", k.what, err)
		}
		if asJSON {
			if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
				return err
			}
			continue
		}
		ours, theirs := r.Median["postrider"], r.Median["go-smtp"]
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%.2f", k.what, ours.CPU, theirs.CPU, r.CPU)
		if k.allocs {
			fmt.Fprintf(w, "\t%.1f (%.0f B)\t%.1f (%.0f B)\t%.2f", ours.Allocs, ours.Bytes, theirs.Allocs, theirs.Bytes, r.Allocs)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// run measures the libraries in turn and returns their medians.
func (k kase) run(rounds, messages int) (result, error) {
	all := map[string][]figure{}
	for range rounds {
		for _, l := range libraries {
			f, err := k.measure(l, messages)
			if err != nil {
				return result{}, fmt.Errorf("%s: %w", l.name, err)
			}
			all[l.name] = append(all[l.name], f)
		}
	}
	r := result{What: k.what, Median: map[string]figure{}}
	for name, list := range all {
		r.Median[name] = figure{
			median(list, func(f figure) float64 { return f.CPU }),
			median(list, func(f figure) float64 { return f.Allocs }),
			median(list, func(f figure) float64 { return f.Bytes }),
		}
	}
	ours, theirs := r.Median["postrider"], r.Median["go-smtp"]
	if r.CPU = ours.CPU / theirs.CPU; k.allocs {
		r.Allocs = ours.Allocs / theirs.Allocs
	}
	return r, nil
}

func median(list []figure, of func(figure) float64) float64 {
	var v []float64
	for _, f := range list {
		v = append(v, of(f))
	}
	slices.Sort(v)
	return v[len(v)/2]
}

// libraryOf finds a library by its name.
func libraryOf(name string) (library, error) {
	for _, l := range libraries {
		if l.name == name {
			return l, nil
		}
	}
	return library{}, fmt.Errorf("no library %q", name)
}

// child is the process under test: "serve LIBRARY", or "send LIBRARY ADDR N".
func child(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("%q is no part to play", args)
	}
	l, err := libraryOf(args[1])
	switch {
	case err != nil:
		return err
	case args[0] == "serve":
		return serveChild(ctx, l)
	case args[0] == "send" && len(args) == 4:
		n, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return sendChild(ctx, l, args[2], n)
	}
	return fmt.Errorf("%q is no part to play", args)
}

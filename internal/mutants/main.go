// Command mutants measures the tests by defects that were put into the code on
// purpose. Each of the list, in defects/*.txt, is one small wrong edit that the
// unit tests of its package do not see. For each the finders run, one after the
// other, until one fails: the crash tests of its package, whole sites in the
// simulator, and the real binary under kill -9. It prints which found what, at
// which seed and in what time, and fails where one is not found.
//
// The tree is never changed: a defect is laid over its file with the -overlay of
// the go command.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/edit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// A settings is what the command line says.
type settings struct {
	only    string
	list    bool
	units   bool
	control bool
	trust   bool
	workers int
	seeds   int
	with    string
	limit   time.Duration
	results string
	json    string
}

func parseFlags() settings {
	var s settings
	flag.StringVar(&s.only, "only", "", "run the defects whose name this regular expression matches")
	flag.BoolVar(&s.list, "list", false, "list the defects, and run nothing")
	flag.BoolVar(&s.units, "units", false, "check only that each defect builds and passes the unit tests")
	flag.BoolVar(&s.control, "control", true, "first run what may find them on the code as it is")
	flag.BoolVar(&s.trust, "trust", false, "do not run unit tests again that -results knows to pass")
	flag.IntVar(&s.workers, "workers", 2, "defects at a time")
	flag.IntVar(&s.seeds, "seeds", 300, "seeds of the simulator for each defect")
	flag.StringVar(&s.with, "with", "crash,sim,torture", "what may find them")
	flag.DurationVar(&s.limit, "limit", 10*time.Minute, "the longest that one finder may take")
	flag.StringVar(&s.results, "results", "", "keep results in this file, and do not run again what is found there")
	flag.StringVar(&s.json, "json", "", "write the results to this file as JSON")
	flag.Parse()
	return s
}

// run does what the command line says. It is not ok where a defect does not
// count, or is not found.
func run(ctx context.Context) (ok bool, err error) {
	set := parseFlags()
	match, err := regexp.Compile(set.only)
	if err != nil {
		return false, err
	}
	all, err := defects()
	if err != nil {
		return false, err
	}
	var todo []defect
	for _, d := range all {
		if match.MatchString(d.Name) {
			todo = append(todo, d)
		}
	}
	if set.list {
		for _, d := range todo {
			fmt.Printf("%-34s %-12s %-24s %s\n", d.Name, d.Needs, d.File, d.What)
		}
		return true, nil
	}
	root, err := edit.ModuleRoot(ctx)
	if err != nil {
		return false, err
	}
	temp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(temp)
	old, err := readResults(set.results)
	if err != nil {
		return false, err
	}
	r := &runner{settings: set, root: root, temp: temp}
	if set.control && !set.units {
		if err := r.control(ctx, todo); err != nil {
			return false, err
		}
	}
	results := r.all(ctx, todo, old)
	if set.json != "" {
		if err := writeResults(set.json, results); err != nil {
			return false, err
		}
	}
	fmt.Print(table(results))
	return foundAll(results, len(todo), set.units), ctx.Err()
}

// all runs the defects, several at a time, and returns what came of each in
// their order.
func (r *runner) all(ctx context.Context, todo []defect, old map[string]result) []result {
	results := make([]result, len(todo))
	next := make(chan int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range max(1, r.workers) {
		wg.Go(func() {
			for i := range next {
				d := todo[i]
				res, known := old[d.Name]
				if !known || res.Digest != d.digest() || !res.Counts || res.Checker == "" {
					res = r.one(ctx, d, r.trust && known && res.Digest == d.digest() && res.Counts)
				}
				mu.Lock()
				results[i] = res
				fmt.Fprintln(os.Stderr, res.line())
				if r.results != "" && ctx.Err() == nil {
					old[d.Name] = res
					if err := writeResults(r.results, sorted(old)); err != nil {
						fmt.Fprintln(os.Stderr, "mutants:", err)
					}
				}
				mu.Unlock()
			}
		})
	}
	for i := range todo {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return results
}

// Command ledger keeps the list of what the RFCs ask for: it writes docs/rfc.md
// from rows/*.txt, tries that tests fail where what a row says is taken away, and
// compares the quotes with the texts of the RFCs.
//
//	go run ./internal/ledger                     write docs/rfc.md
//	go run ./internal/ledger -try 20             try 20 rows at random; -1: all
//	go run ./internal/ledger -try -1 -only 5321  try the rows whose name matches
//	go run ./internal/ledger -texts DIR          look for quotes and requirements in DIR/rfcNNNN.txt
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"

	"github.com/postrider/postrider/internal/edit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "ledger:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	n := flag.Int("try", 0, "try so many rows at random; -1: all")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the draw")
	only := flag.String("only", "", "try only rows whose name matches this regular expression")
	texts := flag.String("texts", "", "compare with the texts of the RFCs in this folder")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	all, err := books()
	if err != nil {
		return err
	}
	root, err := edit.ModuleRoot(ctx)
	if err != nil {
		return err
	}
	switch {
	case *texts != "":
		faults, err := compare(all, *texts)
		if err == nil && len(faults) > 0 {
			err = fmt.Errorf("%d faults", len(faults))
		}
		for _, f := range faults {
			fmt.Println(f)
		}
		return err
	case *n != 0:
		rows := pick(all, *n, *seed, match)
		fmt.Printf("%d rows, drawn with -seed %d\n", len(rows), *seed)
		bad, err := try(ctx, root, rows, os.Stdout)
		if err == nil && bad > 0 {
			err = fmt.Errorf("%d of %d rows do not hold", bad, len(rows))
		}
		return err
	}
	return os.WriteFile(filepath.Join(root, "docs", "rfc.md"), []byte(page(all)), 0o644)
}

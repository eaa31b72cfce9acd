package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"github.com/postrider/postrider/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // bad usage or configuration
)

// cli is the grammar of the command line.
type cli struct {
	Config  string `help:"Configuration. Else $$POSTRIDER_CONFIG, /etc/postrider/postrider.hcl, or ./postrider.hcl." placeholder:"FILE"`
	DataDir string `help:"Data directory, in place of the one in the configuration." placeholder:"DIR"`
	JSON    bool   `help:"Print one JSON object a line."`

	Serve  serveCmd  `cmd:"" help:"Run the server. Without any configuration it serves loopback, and holds what would leave the machine."`
	Check  checkCmd  `cmd:"" help:"Tell what is wrong with the configuration."`
	Reload reloadCmd `cmd:"" help:"Have the running server apply its configuration, all of it or, when it is wrong, nothing."`
	Send   sendCmd   `cmd:"" help:"Send a message to a server."`
	Queue  struct {
		Ls      queueLsCmd      `cmd:"" help:"List messages. Works with the server down too."`
		Show    queueShowCmd    `cmd:"" help:"Show one message."`
		Stat    queueStatCmd    `cmd:"" help:"Count what waits, by destination and state."`
		Retry   queueRetryCmd   `cmd:"" help:"Try messages now."`
		Hold    queueHoldCmd    `cmd:"" help:"Keep messages back: no attempt, and no expiry."`
		Release queueReleaseCmd `cmd:"" help:"Let messages go that are held, now. What its route holds goes to the hosts that DNS names."`
		Bounce  queueBounceCmd  `cmd:"" help:"Give messages up, and tell the sender."`
		Drop    queueDropCmd    `cmd:"" help:"Give messages up, and tell nobody."`
	} `cmd:"" help:"Look at the queue, and steer it."`
	Where whereCmd `cmd:"" help:"Tell what became of a message, and what happens next. Works with the server down too."`
	User  struct {
		Add    userAddCmd    `cmd:"" help:"Make an account."`
		Passwd userPasswdCmd `cmd:"" help:"Give an account another password."`
		Rm     userRmCmd     `cmd:"" help:"Take an account away."`
		Ls     userLsCmd     `cmd:"" help:"List accounts."`
	} `cmd:"" help:"Look after the accounts of users who send mail. A password comes from the terminal, or from standard input."`
	Sink        sinkCmd        `cmd:"" help:"Take all mail, and count it or keep it, or misbehave as told."`
	Bench       benchCmd       `cmd:"" help:"Load a server with mail, and tell how fast it takes it."`
	Conformance conformanceCmd `cmd:"" help:"Ask any server whether it keeps what the RFCs ask of one, and print what it does not keep."`
}

// An app is one run of the program.
type app struct {
	ctx    context.Context // ends with SIGINT or SIGTERM
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	cli    *cli
}

// A usageError is a mistake of the caller.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errTold is the error of a command that has told already what is wrong.
var errTold = errors.New("told already")

// exit is how kong asks for the end of the program after --help.
type exit int

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	var c cli
	parser, err := kong.New(&c, kong.Name("postrider"),
		kong.Description("A mail server. Start it with \"postrider serve\"."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exit(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		panic(err) // the grammar above is wrong
	}
	defer func() {
		switch e := recover().(type) {
		case nil:
		case exit:
			code = int(e)
		default:
			panic(e)
		}
	}()
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "postrider: %v\nRun \"postrider --help\" to see what there is.\n", err)
		return exitUsage
	}
	a := &app{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, cli: &c}
	return a.exitCode(parsed.Run(a))
}

// exitCode tells an error, and what the program ends with for it.
func (a *app) exitCode(err error) int {
	var usage usageError
	var found config.Diagnostics
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errTold):
		return exitFailed
	case errors.As(err, &found):
		fmt.Fprintf(a.stderr, "%v\n", found)
		return exitUsage
	}
	fmt.Fprintf(a.stderr, "postrider: %v\n", err)
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// printf writes to standard output. Who closed it has seen enough.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.stdout, format, args...) }

// printJSON writes one object in one line.
func (a *app) printJSON(v any) error { return writeJSON(a.stdout, v) }

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// A table has its columns aligned when it is flushed, and is written in few pieces: a
// tabwriter alone writes each cell.
type table struct {
	*tabwriter.Writer
	pieces *bufio.Writer
}

func (a *app) table() table {
	out := bufio.NewWriter(a.stdout)
	return table{tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), out}
}

// Flush writes what there is.
func (t table) Flush() error {
	if err := t.Writer.Flush(); err != nil {
		return err
	}
	return t.pieces.Flush()
}

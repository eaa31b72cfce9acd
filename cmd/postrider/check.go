package main

import (
	"errors"
	"fmt"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/node"
	"github.com/postrider/postrider/vfs"
)

type checkCmd struct {
	Spool bool `help:"Read every message that waits, and tell what cannot be read and what was set aside."`
}

// mistake is a diagnostic under --json.
type mistake struct {
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	Help     string `json:"help"`
}

// Run tells everything that is wrong with the configuration that serve would
// take.
func (c checkCmd) Run(a *app) error {
	cfg, err := a.loadConfig(true)
	var wrong config.Diagnostics
	if err != nil && !errors.As(err, &wrong) {
		return err
	}
	if a.cli.JSON && !(c.Spool && wrong == nil) {
		for _, d := range cfg.warnings {
			m := mistake{d.File, d.Line, d.Column, "error", d.Message, d.Help}
			if d.Warning {
				m.Severity = "warning"
			}
			if err := a.printJSON(m); err != nil {
				return err
			}
		}
		if wrong != nil {
			return usageError{errors.New(cfg.file + " is wrong")}
		}
		return nil
	}
	if wrong != nil {
		return wrong
	}
	if c.Spool {
		return a.checkSpool(cfg)
	}
	a.printf("%s", cfg.warnings)
	if cfg.file == "" {
		a.printf("There is no configuration file: serve takes the built-in one, which is right.\n")
		return nil
	}
	a.printf("%s: ok\n", cfg.file)
	return nil
}

// checkSpool tells what the spool holds, and what is wrong with it.
func (a *app) checkSpool(cfg found) error {
	s, err := node.CheckSpool(a.ctx, cfg.Config, vfs.OS())
	if err != nil {
		return err
	}
	if a.cli.JSON {
		if err := a.printJSON(s); err != nil {
			return err
		}
	} else {
		a.printf("%d messages, %s, read whole.\n", s.Messages, config.FormatSize(s.Octets))
		for _, what := range s.Wrong {
			a.printf("wrong: %s\n", what)
		}
		for _, name := range s.Aside {
			a.printf("set aside by a recovery: %s\n", name)
		}
	}
	if len(s.Wrong) > 0 {
		return fmt.Errorf("%s wrong with the spool: what can be read still leaves; the sender of a content that has rotted is told, and nobody of a message whose record is lost",
			plural(len(s.Wrong), "thing is", "things are"))
	}
	return nil
}

package main

import (
	"errors"

	"github.com/postrider/postrider/config"
)

type checkCmd struct{}

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
func (checkCmd) Run(a *app) error {
	cfg, err := a.loadConfig(true)
	var wrong config.Diagnostics
	if err != nil && !errors.As(err, &wrong) {
		return err
	}
	if a.cli.JSON {
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
	a.printf("%s", cfg.warnings)
	if cfg.file == "" {
		a.printf("There is no configuration file: serve takes the built-in one, which is right.\n")
		return nil
	}
	a.printf("%s: ok\n", cfg.file)
	return nil
}

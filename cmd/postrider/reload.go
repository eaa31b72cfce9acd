package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/postrider/postrider/admin"
)

type reloadCmd struct{}

// Run has the running server apply its configuration.
func (reloadCmd) Run(a *app) error {
	cfg, err := a.loadConfig(false)
	if err != nil {
		return err
	}
	client, up := controlClient(a.ctx, cfg.Config)
	if !up {
		return fmt.Errorf("no server runs on %s: it reads its configuration when it starts", cfg.DataDir)
	}
	done, err := client.Reload(a.ctx)
	if errors.Is(err, admin.ErrConfig) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if a.cli.JSON {
		return a.printJSON(done)
	}
	a.printf("The configuration is applied.\n")
	if len(done.Later) > 0 {
		a.printf("Not before the next start: %s.\n", strings.Join(done.Later, ", "))
	}
	return nil
}

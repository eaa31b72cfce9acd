package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/node"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/vfs"
)

// Where the configuration is looked for when nobody names it.
const (
	systemConfig = "/etc/postrider/postrider.hcl"
	localConfig  = "postrider.hcl" // in the working directory
	configMax    = 16 << 20        // octets
)

// found is a configuration, and where it came from.
type found struct {
	*config.Config
	file     string             // empty: the built-in one
	warnings config.Diagnostics // what was found, when it is no error
}

// loadConfig finds and reads the configuration. Only commands that are asked to
// run or to check it take the one of the working directory (local), and look at
// the files that it names: others may not be allowed to.
//
// A file that was named and is not there is an error, and so is no file at all
// when a service manager started us: a server that quietly serves another
// configuration than it was meant to would be worse than none.
func (a *app) loadConfig(local bool) (found, error) {
	name, src, err := a.findConfig(local)
	if err != nil {
		return found{}, err
	}
	if name == "" {
		if os.Getenv("NOTIFY_SOCKET") != "" {
			return found{}, usagef("no configuration: write %s, or name one with --config FILE", systemConfig)
		}
		return found{Config: config.Builtin(a.cli.DataDir)}, nil
	}
	return a.parse(name, src, local)
}

// parse makes a configuration of the content of its file, and looks at the files
// that it names where it is asked to.
func (a *app) parse(name string, src []byte, look bool) (found, error) {
	var files route.Files
	if look {
		files = node.Files(vfs.OS())
	}
	cfg, said := config.Load(name, src, os.LookupEnv, files)
	if said.HasErrors() {
		return found{file: name, warnings: said}, said
	}
	if a.cli.DataDir != "" {
		cfg.DataDir, cfg.DataDirPos = a.cli.DataDir, config.Pos{}
	}
	if cfg.Hostname == "" {
		host, err := os.Hostname()
		if err != nil || host == "" {
			host = "localhost"
		}
		cfg.Hostname = host
	}
	return found{cfg, name, said}, nil
}

// reread reads the file of a running server again.
func (a *app) reread(name string) (*config.Config, error) {
	src, err := readConfig(name, name == localConfig)
	if err != nil {
		return nil, err
	}
	f, err := a.parse(name, src, true)
	return f.Config, err
}

// findConfig returns the name and the content of the first configuration that
// is there, or no name.
func (a *app) findConfig(local bool) (name string, src []byte, err error) {
	for _, named := range []struct{ file, by string }{
		{a.cli.Config, "--config"}, {os.Getenv("POSTRIDER_CONFIG"), "$POSTRIDER_CONFIG"},
	} {
		if named.file == "" {
			continue
		}
		src, err := readConfig(named.file, false)
		if err != nil {
			return "", nil, usagef("the configuration that %s names: %w", named.by, err)
		}
		return named.file, src, nil
	}
	src, err = readConfig(systemConfig, false)
	name = systemConfig
	if errors.Is(err, fs.ErrNotExist) && local {
		src, err = readConfig(localConfig, true)
		name = localConfig
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, nil
	case err != nil:
		return "", nil, usageError{err}
	}
	return name, src, nil
}

// readConfig reads a file. One that merely lies in the working directory must be
// ours alone to write: what others can write there, they could have us run.
func readConfig(name string, ours bool) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if ours {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if why := notOurs(info); why != "" {
			return nil, fmt.Errorf("./%s %s, so it is not taken: make it yours alone to write, or name it with --config %s", name, why, name)
		}
	}
	src, err := io.ReadAll(io.LimitReader(f, configMax+1))
	if err == nil && len(src) > configMax {
		err = fmt.Errorf("%s is larger than %s", name, config.FormatSize(configMax))
	}
	return src, err
}

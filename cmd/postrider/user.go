package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/postrider/postrider/account"
	"github.com/postrider/postrider/config"
	"github.com/postrider/postrider/node"
	"github.com/postrider/postrider/vfs"
)

type userAddCmd struct {
	Address string   `arg:"" help:"What the user logs in with, such as alice@example.org."`
	SendAs  []string `help:"What else the user may send as: an address, or *@DOMAIN. May be given again." placeholder:"PATTERN" sep:"none"`
}

type userPasswdCmd struct {
	Address string `arg:"" help:"Account."`
}

type userRmCmd struct {
	Address string `arg:"" help:"Account."`
}

type userLsCmd struct {
	Address string `arg:"" optional:"" help:"This account alone."`
}

// passwordMax bounds a password, in octets.
const passwordMax = 1024

// accounts opens the accounts of the configuration; a server that runs sees what
// is changed.
func (a *app) accounts(make bool) (*account.Store, *config.Config, error) {
	cfg, err := a.loadConfig(false)
	if err != nil {
		return nil, nil, err
	}
	if make {
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return nil, nil, err
		}
	}
	s, err := account.Open(vfs.OS(), node.AccountsFile(cfg.Config), account.Options{})
	return s, cfg.Config, err
}

// Run makes an account. Its password comes from the terminal, or from standard
// input.
func (c userAddCmd) Run(a *app) error {
	s, cfg, err := a.accounts(true)
	if err != nil {
		return err
	}
	password, err := a.newPassword(c.Address)
	if err != nil {
		return err
	}
	if err := s.Add(c.Address, password, c.SendAs...); err != nil {
		return userError(c.Address, err)
	}
	if err := giveToOwner(node.AccountsFile(cfg), cfg.DataDir); err != nil {
		return err
	}
	return a.say("%s may send mail now.\n", c.Address)
}

// Run gives an account another password.
func (c userPasswdCmd) Run(a *app) error {
	s, cfg, err := a.accounts(false)
	if err != nil {
		return err
	}
	password, err := a.newPassword(c.Address)
	if err != nil {
		return err
	}
	if err := s.SetPassword(c.Address, password); err != nil {
		return userError(c.Address, err)
	}
	if err := giveToOwner(node.AccountsFile(cfg), cfg.DataDir); err != nil {
		return err
	}
	return a.say("%s has another password.\n", c.Address)
}

// Run takes an account away.
func (c userRmCmd) Run(a *app) error {
	s, cfg, err := a.accounts(false)
	if err != nil {
		return err
	}
	if err := s.Remove(c.Address); err != nil {
		return userError(c.Address, err)
	}
	if err := giveToOwner(node.AccountsFile(cfg), cfg.DataDir); err != nil {
		return err
	}
	return a.say("%s is no account any more.\n", c.Address)
}

// Run lists the accounts.
func (c userLsCmd) Run(a *app) error {
	s, _, err := a.accounts(false)
	if err != nil {
		return err
	}
	shown, unproved := 0, s.Unproved()
	for _, u := range s.List() {
		if c.Address != "" && !strings.EqualFold(u.Address.String(), c.Address) {
			continue
		}
		shown++
		scram := !slices.ContainsFunc(unproved, func(other account.Account) bool { return other.Name() == u.Name() })
		if a.cli.JSON {
			line := struct {
				Address string   `json:"address"`
				SendAs  []string `json:"send_as"`
				SCRAM   bool     `json:"scram"`
			}{u.Address.String(), append([]string{}, u.SendAs...), scram}
			if err := a.printJSON(line); err != nil {
				return err
			}
			continue
		}
		a.printf("%s", u.Address)
		if len(u.SendAs) > 0 {
			a.printf("  sends as %s too", strings.Join(u.SendAs, ", "))
		}
		if !scram {
			a.printf("  has no keys for SCRAM until \"postrider user passwd %s\"", u.Address)
		}
		a.printf("\n")
	}
	switch {
	case c.Address != "" && shown == 0:
		return userError(c.Address, account.ErrNoAccount)
	case shown == 0 && !a.cli.JSON:
		a.printf("No accounts: make one with \"postrider user add ADDRESS\".\n")
	}
	return nil
}

// say tells people what was done; programs have the exit code.
func (a *app) say(format string, args ...any) error {
	if !a.cli.JSON {
		a.printf(format, args...)
	}
	return nil
}

func userError(address string, err error) error {
	switch {
	case errors.Is(err, account.ErrExists):
		return fmt.Errorf("there is an account %s: \"postrider user passwd %s\" gives it another password", address, address)
	case errors.Is(err, account.ErrNoAccount):
		return fmt.Errorf("there is no account %s", address)
	}
	return err
}

// newPassword asks for a password, twice at a terminal.
func (a *app) newPassword(address string) (string, error) {
	f, ok := a.stdin.(*os.File)
	if !ok || !isTerminal(f) {
		line, err := bufio.NewReader(io.LimitReader(a.stdin, passwordMax+2)).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return checkPassword(strings.TrimRight(line, "\r\n"))
	}
	first, err := a.hidden(f, "Password for "+address+": ")
	if err != nil {
		return "", err
	}
	again, err := a.hidden(f, "Again: ")
	if err == nil && first != again {
		err = usagef("these were two passwords")
	}
	if err != nil {
		return "", err
	}
	return checkPassword(first)
}

func checkPassword(p string) (string, error) {
	switch {
	case p == "":
		return "", usagef("no password: write it on the terminal, or as one line of standard input")
	case len(p) > passwordMax:
		return "", usagef("a password of more than %d octets", passwordMax)
	}
	return p, nil
}

// hidden asks for a line that is not shown.
func (a *app) hidden(f *os.File, prompt string) (string, error) {
	fmt.Fprint(a.stderr, prompt)
	restore, err := hideInput(f)
	if err != nil {
		return "", fmt.Errorf("hide the password: %w", err)
	}
	defer func() {
		restore()
		fmt.Fprintln(a.stderr)
	}()
	type read struct {
		line string
		err  error
	}
	got := make(chan read, 1)
	go func() { // ends with the process, if nobody writes a line
		var line []byte
		b := make([]byte, 1)
		for len(line) <= passwordMax {
			if _, err := f.Read(b); err != nil || b[0] == '\n' {
				got <- read{string(line), err}
				return
			}
			line = append(line, b[0])
		}
		got <- read{string(line), nil}
	}()
	select {
	case r := <-got:
		if r.err != nil && r.err != io.EOF {
			return "", fmt.Errorf("read the password: %w", r.err)
		}
		return r.line, nil
	case <-a.ctx.Done():
		return "", context.Cause(a.ctx)
	}
}

// randomPassword is one of 80 bits that can be written off a screen.
func randomPassword() string {
	const letters = "abcdefghijkmnpqrstuvwxyz23456789" // 32, without those that look alike
	b := make([]byte, 16)
	rand.Read(b) // never fails
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b[:4]) + "-" + string(b[4:8]) + "-" + string(b[8:12]) + "-" + string(b[12:])
}

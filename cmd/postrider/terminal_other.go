//go:build !linux

package main

import (
	"errors"
	"os"
)

// isTerminal reports whether a person writes into f.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// hideInput is not to be had here.
func hideInput(*os.File) (restore func(), err error) {
	return nil, errors.New("this system is not known: write the password as one line of standard input that is no terminal")
}

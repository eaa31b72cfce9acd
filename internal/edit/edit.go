// Package edit lays a small wrong edit over a file of the module, with the
// -overlay of the go command, so that tests can be measured by what they find and
// the tree is never changed.
package edit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// An Edit puts one text in the place of another.
type Edit struct {
	File string // from the root of the module, slash separated
	Old  string // whole lines, or parts of them; in the file once
	New  string
}

// Pkg is the package of the file, as the go command wants it.
func (e Edit) Pkg() string { return "./" + path.Dir(e.File) }

// Apply returns the source with the edit in it. The old text must be there once.
func (e Edit) Apply(src string) (string, error) {
	if n := strings.Count(src, e.Old); n != 1 {
		return "", fmt.Errorf("the old text is %d times in %s, and must be there once", n, e.File)
	}
	return strings.Replace(src, e.Old, e.New, 1), nil
}

// Fits reports whether Apply will do for the module at root.
func (e Edit) Fits(root string) error {
	src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(e.File)))
	if err != nil {
		return err
	}
	_, err = e.Apply(string(src))
	return err
}

// Overlay writes into dir what the go command needs to see the module at root
// with the edit, and returns the file for -overlay.
func (e Edit) Overlay(root, dir string) (string, error) {
	name := filepath.Join(root, filepath.FromSlash(e.File))
	src, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	text, err := e.Apply(string(src))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	with := filepath.Join(dir, "with.go")
	if err := os.WriteFile(with, []byte(text), 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{name: with}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}

// ModuleRoot is the folder with go.mod of the module that we are in.
func ModuleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return "", fmt.Errorf("no module here")
	}
	return filepath.Dir(mod), nil
}

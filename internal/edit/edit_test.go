package edit

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestOverlay(t *testing.T) {
	root, dir := t.TempDir(), filepath.Join(t.TempDir(), "new")
	if err := os.MkdirAll(filepath.Join(root, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "a", "x.go")
	if err := os.WriteFile(file, []byte("one\ntwo\nthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := Edit{File: "a/x.go", Old: "two\n", New: "2\n"}
	if e.Pkg() != "./a" {
		t.Errorf("package %s", e.Pkg())
	}
	if err := e.Fits(root); err != nil {
		t.Error(err)
	}
	name, err := e.Overlay(root, dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var overlay struct{ Replace map[string]string }
	if err := json.Unmarshal(text, &overlay); err != nil {
		t.Fatal(err)
	}
	with, err := os.ReadFile(overlay.Replace[file])
	if err != nil || string(with) != "one\n2\nthree\n" {
		t.Errorf("%s: %q, %v", text, with, err)
	}
	if was, err := os.ReadFile(file); err != nil || string(was) != "one\ntwo\nthree\n" {
		t.Errorf("the file itself is %q, %v", was, err)
	}
}

func TestFits(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "x.go"), []byte("one\none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, e := range []Edit{
		{File: "x.go", Old: "one"},
		{File: "x.go", Old: "two"},
		{File: "y.go", Old: "one"},
	} {
		if e.Fits(root) == nil {
			t.Errorf("%+v fits", e)
		}
		if _, err := e.Overlay(root, t.TempDir()); err == nil {
			t.Errorf("%+v is laid over", e)
		}
	}
}

//go:build unix

package maildir_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/postrider/postrider/vfs"
)

// Links that the owner of a Maildir has planted under the names of a message lead
// no octet of it to another file, and take none of it away from others.
func TestPlantedLinks(t *testing.T) {
	for _, target := range []string{"../../precious", "../../absent"} {
		dir := t.TempDir()
		precious := filepath.Join(dir, "precious")
		if err := os.WriteFile(precious, []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
		// The first delivery shows the names.
		box := filepath.Join(dir, "bob")
		wantDelivered(t, transport(vfs.OS()).Deliver(t.Context(), delivery(box, "bob@example.org")))
		names, err := os.ReadDir(filepath.Join(box, "new"))
		if err != nil || len(names) != 1 {
			t.Fatal(names, err)
		}
		name := names[0].Name()
		if err := os.Remove(filepath.Join(box, "new", name)); err != nil {
			t.Fatal(err)
		}
		for _, planted := range []string{name, name + ",0"} {
			if err := os.Symlink(target, filepath.Join(box, "tmp", planted)); err != nil {
				t.Fatal(err)
			}
		}
		wantDelivered(t, transport(vfs.OS()).Deliver(t.Context(), delivery(box, "bob@example.org")))
		if got, err := os.ReadFile(precious); string(got) != "kept" || err != nil {
			t.Errorf("the file behind the link has %q, %v", got, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "absent")); err == nil {
			t.Error("a file was made through a link")
		}
		made := filepath.Join(box, "new", name)
		if info, err := os.Lstat(made); err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 {
			t.Errorf("the delivered file is %v, %v", info, err)
		}
		if got, err := os.ReadFile(made); string(got) != want("bob@example.org") || err != nil {
			t.Errorf("the delivered file has %q, %v", got, err)
		}
	}
}

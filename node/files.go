package node

import (
	"io"
	"io/fs"
	"os"

	"github.com/postrider/postrider/dns"
	"github.com/postrider/postrider/route"
	"github.com/postrider/postrider/vfs"
)

// Spellings are the ways to write a domain: in A-labels and in U-labels.
func Spellings(domain string) []string {
	ascii, err := dns.ToASCII(domain)
	if err != nil {
		return nil
	}
	return []string{ascii, dns.ToUnicode(ascii)}
}

// Files reads the files that a configuration names from a file system.
func Files(fsys vfs.FS) route.Files { return files{fsys} }

type files struct{ fs vfs.FS }

// Stat implements route.Files.
func (f files) Stat(name string) (fs.FileInfo, error) { return f.fs.Stat(name) }

// ReadFile implements route.Files.
func (f files) ReadFile(name string, max int64) ([]byte, error) {
	file, err := f.fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, max))
}

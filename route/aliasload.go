package route

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Files is how files are read that a configuration names.
type Files interface {
	Stat(name string) (fs.FileInfo, error)
	// ReadFile returns a file, or its first max octets.
	ReadFile(name string, max int64) ([]byte, error)
}

// Bounds of what alias files may ask for.
const (
	aliasFileMax    = 16 << 20 // octets of one file
	aliasFilesMax   = 64 << 20 // octets of an alias file and all that it includes
	includeDepthMax = 8        // files that include each other
	includesMax     = 1000     // files that one alias file includes
	expansionMax    = 10_000   // addresses looked at for one recipient
	aliasDepthMax   = 100      // aliases that lead to each other
)

// Why an address is refused.
var (
	errEmpty  = errors.New("it is empty")
	errQuotes = errors.New("some of its characters need quotes around it")
)

// settleTime is how long after a change a file may change again without showing
// it: file systems tell the time of a change in steps.
const settleTime = 2 * time.Second

// A stamp is what a file looked like from outside when it was read.
type stamp struct {
	name string
	size int64 // -1: it could not be looked at
	mod  time.Time
	// unsettled: it was read so soon after its last change that one more change may
	// look the same; or it could not be read, and that it can be does not show.
	unsettled bool
}

func stampOf(name string, info fs.FileInfo, err error, now time.Time) stamp {
	if err != nil {
		return stamp{name: name, size: -1}
	}
	age := now.Sub(info.ModTime())
	return stamp{name, info.Size(), info.ModTime(), age > -settleTime && age < settleTime}
}

// changed reports whether the file is to be read again.
func (s stamp) changed(files Files, now time.Time) bool {
	info, err := files.Stat(s.name)
	is := stampOf(s.name, info, err, now)
	return s.unsettled || is.size != s.size || !is.mod.Equal(s.mod)
}

// An aliasFile is an alias file as it was read, with what it includes.
type aliasFile struct {
	entries map[string]*aliasEntry
	stamps  []stamp
	wrong   string // what was told when entries are older than stamps
}

// A loader reads one alias file and what it includes.
type loader struct {
	files    Files
	now      time.Time
	stamps   []stamp
	faults   AliasFaults
	octets   int64
	path     []string            // files that are being read, each included by the one before
	includes map[string][]target // files that have been
}

// loadAliases reads an alias file. Where there are errors, the stamps are still
// those of all that was looked at.
func loadAliases(files Files, name string, now time.Time) (*aliasFile, AliasFaults) {
	l := &loader{files: files, now: now, includes: map[string][]target{}}
	p := &parser{loader: l, entries: map[string]*aliasEntry{}}
	text, err := l.read(name)
	if err != nil {
		l.faults.add(AliasFault{File: name, Message: fmt.Sprintf("cannot read the alias file: %v", err), Help: "Make the file, or take the key aliases away."})
		return &aliasFile{stamps: l.stamps}, l.faults
	}
	l.path = []string{name}
	p.src = &source{name, text}
	p.parseAliases()
	delete(p.entries, "")
	return &aliasFile{entries: p.entries, stamps: l.stamps}, l.faults
}

// read returns the text of a file.
func (l *loader) read(name string) (string, error) {
	info, err := l.files.Stat(name)
	l.stamps = append(l.stamps, stampOf(name, info, err, l.now))
	if err != nil {
		return "", plainError(err)
	}
	max := min(aliasFileMax, aliasFilesMax-l.octets)
	switch {
	case !info.Mode().IsRegular():
		return "", errors.New("it is no regular file")
	case info.Size() > max:
		return "", fmt.Errorf("it is larger than %d octets", max)
	case info.Mode().Perm()&0o002 != 0:
		l.faults.add(AliasFault{File: name, Warning: true, Message: "everybody may write to this alias file", Help: "Take that right away: chmod o-w " + name})
	}
	text, err := l.files.ReadFile(name, max+1)
	if err != nil {
		l.stamps[len(l.stamps)-1].unsettled = true
		return "", plainError(err)
	}
	if int64(len(text)) > max {
		return "", fmt.Errorf("it is larger than %d octets", max)
	}
	l.octets += int64(len(text))
	return string(text), nil
}

// plainError is err without the name of the file, which is told beside it.
func plainError(err error) error {
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// include returns the addresses of a file that ":include:" at a place names.
func (l *loader) include(name string, at place) []target {
	refuse := func(help, format string, args ...any) []target {
		l.faults.add(at.fault(help, format, args...))
		return nil
	}
	switch {
	case !path.IsAbs(name):
		return refuse("Write it so: :include:/etc/postrider/list.", ":include: wants the name of a file from the root, not %q", name)
	case slices.Contains(l.path, name):
		return refuse("Take one of them away.", "the file includes itself: %s", strings.Join(append(slices.Clone(l.path), name), " -> "))
	case l.includes[name] != nil:
		return l.includes[name]
	case len(l.path) > includeDepthMax:
		return refuse("Include fewer files in each other.", "more than %d files that include each other", includeDepthMax)
	case len(l.includes) >= includesMax:
		return refuse("Put some of them together.", "more than %d files are included", includesMax)
	}
	l.includes[name] = []target{} // of a file that is wrong, the fault is told once
	text, err := l.read(name)
	if err != nil {
		return refuse("Make the file, or take the :include: away.", "cannot include %q: %v", name, err)
	}
	p := &parser{loader: l, src: &source{name, text}}
	l.path = append(l.path, name)
	p.parseInclude()
	l.path = l.path[:len(l.path)-1]
	l.includes[name] = append(l.includes[name], p.open.targets...)
	return l.includes[name]
}

// lineOf is the number of the line of a place.
func lineOf(p place) string {
	return strconv.Itoa(1 + strings.Count(p.src.text[:p.from], "\n"))
}

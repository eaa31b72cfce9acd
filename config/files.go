package config

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/postrider/postrider/route"
)

// Sizes of the files that a configuration names, in octets.
const (
	pemMax      = 1 << 20
	passwordMax = 1 << 10
	tokenMax    = 8 << 10
)

// rights are those that a file should give to nobody.
type rights fs.FileMode

const (
	readByAll  rights = 0o004
	writeByAll rights = 0o002
)

// readFile returns a file of at most max octets, and what rights it gives to
// everybody.
func readFile(files route.Files, name string, max int64) ([]byte, rights, error) {
	info, err := files.Stat(name)
	if err != nil {
		return nil, 0, plainError(err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, errors.New("it is no regular file")
	}
	src, err := files.ReadFile(name, max+1)
	if err != nil {
		return nil, 0, plainError(err)
	}
	if int64(len(src)) > max {
		return nil, 0, fmt.Errorf("it is larger than %s", FormatSize(max))
	}
	return src, rights(info.Mode().Perm()) & (readByAll | writeByAll), nil
}

// plainError is err without the name of the file, which is told beside it.
func plainError(err error) error {
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// secret reads a password of at most max octets from the one line of a file; "" is
// a mistake, or that no file is looked at.
func (r *reader) secret(key string, t text, max int64) string {
	if r.files == nil {
		return ""
	}
	src, open, err := readFile(r.files, t.s, max)
	line := strings.TrimSuffix(strings.TrimSuffix(string(src), "\n"), "\r")
	switch {
	case err != nil:
		r.errorf(t.rng, "Write the name of a file with the password in one line, which "+
			"the server may read.", "%s: cannot read %s: %v", key, t.s, err)
	case line == "":
		r.errorf(t.rng, "Write the password into it.", "%s: %s is empty", key, t.s)
	case strings.ContainsAny(line, "\x00\r\n"):
		r.errorf(t.rng, "Write the password alone into it.", "%s: %s holds more than one line", key, t.s)
		return ""
	case open != 0:
		r.warnf(t.rng, "Take that right away: chmod o-rw "+t.s, "%s: everybody on this machine may read or write %s", key, t.s)
	}
	return line
}

// aliases reads the keys of a domain that are about aliases.
func (b body) aliases(d *Domain) {
	if t, ok := b.text("aliases"); ok {
		d.Aliases, d.aliasesPos = t.s, b.pos(t.rng)
		if t.s == "" {
			b.errorf(t.rng, `Write the name of a file, such as "/etc/postrider/aliases".`, "aliases is empty")
		}
	}
	if allow, rng := b.flag("allow_programs"); allow {
		b.errorf(rng, "Write false, or take it away.", "allow_programs: this version delivers to no programs")
	}
}

// aliases looks at the alias files, once nothing else is wrong.
func (r *reader) aliases(c *Config) {
	if r.files == nil || r.diags.HasErrors() {
		return
	}
	table := c.Table()
	table.Files = r.files
	router, err := route.New(table)
	faults, told := err.(route.AliasFaults)
	if err != nil && !told {
		r.say(Pos{File: r.file}, "Look at the domains and routes.", "%v", err)
		return
	}
	if err == nil {
		faults = router.Warnings()
	}
	for _, f := range faults {
		p := Pos{File: f.File, Line: f.Line, Column: f.Column, source: f.Source, mark: f.Mark}
		if f.Line == 0 {
			p = c.aliasesPos(f.File)
			f.Message = f.File + ": " + f.Message
		}
		d := p.Error(f.Message, f.Help)
		d.Warning = f.Warning
		r.diags = append(r.diags, d)
	}
}

// aliasesPos is where an alias file is named first; of a file that one includes
// it is the file itself.
func (c *Config) aliasesPos(file string) Pos {
	for _, d := range c.Domains {
		if d.Aliases == file {
			return d.aliasesPos
		}
	}
	return Pos{File: file}
}

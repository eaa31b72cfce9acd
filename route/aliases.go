package route

import (
	"time"
)

// catchAll is the alias of every name that has nothing else.
const catchAll = "*"

// lookEvery is how often alias files are looked at, at most.
const lookEvery = time.Second

// An aliasSet is all alias files as they hold now. It does not change.
type aliasSet struct {
	files map[string]*aliasFile
	// stale: some entries are older than their stamps, because the files did not
	// fit each other. All are read again when one changes.
	stale bool
	wrong string // what was told of that
}

// of returns the entries of a domain; nil: there are none.
func (s *aliasSet) of(d *domain) map[string]*aliasEntry {
	if s == nil || s.files[d.aliases] == nil {
		return nil
	}
	return s.files[d.aliases].entries
}

// openAliases reads all alias files for the first time.
func (r *Router) openAliases() error {
	if r.files == nil || len(r.names) == 0 {
		return nil
	}
	now := r.now()
	set := &aliasSet{files: map[string]*aliasFile{}}
	var faults AliasFaults
	for _, name := range r.names {
		file, wrong := loadAliases(r.files, name, now)
		set.files[name] = file
		for _, f := range wrong {
			faults.add(f)
		}
	}
	if !faults.hasErrors() {
		faults = append(faults, r.checkAliases(set)...)
	}
	if faults.hasErrors() {
		return faults
	}
	r.warnings = faults
	r.aliases.Store(set)
	r.checked.Store(now.UnixNano())
	return nil
}

// Warnings are what a person should know of the alias files as New read them.
func (r *Router) Warnings() AliasFaults { return r.warnings }

// look looks at the alias files, unless that was done within lookEvery. While one
// goroutine does so the others go on with what there is.
func (r *Router) look() {
	if len(r.names) == 0 || r.files == nil {
		return
	}
	if age := r.now().UnixNano() - r.checked.Load(); age >= 0 && age < int64(lookEvery) {
		return
	}
	r.Refresh()
}

// Refresh looks at the alias files now, and takes those that have changed. One
// that is wrong is told to Table.Alarm, once, and what it held before stays. When
// another goroutine is at it already, Refresh does nothing.
func (r *Router) Refresh() {
	if r.files == nil || len(r.names) == 0 || !r.checking.CompareAndSwap(false, true) {
		return
	}
	defer r.checking.Store(false)
	now := r.now()
	r.checked.Store(now.UnixNano())
	old := r.aliases.Load()
	next := &aliasSet{files: map[string]*aliasFile{}}
	var changed []string
	for _, name := range r.names {
		next.files[name] = old.files[name]
		if old.files[name].changed(r.files, now) {
			changed = append(changed, name)
		}
	}
	if len(changed) == 0 {
		return
	}
	if old.stale {
		changed = r.names
	}
	var faults AliasFaults
	for _, name := range changed {
		file, wrong := loadAliases(r.files, name, now)
		if wrong.hasErrors() {
			file.entries, file.wrong = old.files[name].entries, wrong.Error()
			if file.wrong != old.files[name].wrong {
				faults = append(faults, wrong...)
			}
		}
		next.files[name] = file
	}
	if wrong := r.checkAliases(next); wrong.hasErrors() {
		for name, file := range next.files {
			next.files[name] = &aliasFile{old.files[name].entries, file.stamps, file.wrong}
		}
		next.stale, next.wrong = true, wrong.Error()
		if next.wrong != old.wrong {
			faults = append(faults, wrong...)
		}
	}
	r.aliases.Store(next)
	if faults.hasErrors() {
		r.alarm(faults)
	}
}

// changed reports whether the file, or one that it includes, is to be read again.
func (f *aliasFile) changed(files Files, now time.Time) bool {
	for _, s := range f.stamps {
		if s.changed(files, now) {
			return true
		}
	}
	return false
}

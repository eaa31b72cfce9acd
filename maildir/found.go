package maildir

import (
	"errors"
	"io/fs"
)

// A found is a file that an earlier attempt, or another, put there.
type found struct{ folder, name string }

// find looks for what an earlier attempt delivered. It looks in new first: mail
// is moved from new to cur and never back, so that none slips past.
func (t *Transport) find(a *attempt) error {
	want := make(map[string]bool, len(a.Rcpts))
	for _, i := range a.Rcpts {
		want[stem(a.Message, i)] = true
	}
	a.found = make(map[string]found)
	for _, folder := range [...]string{"new", "cur"} {
		list, err := t.fs.ReadDir(a.dir + "/" + folder)
		if err != nil {
			return err
		}
		for _, e := range list {
			if s := stemOf(e.Name()); want[s] {
				a.found[s] = found{folder, e.Name()}
			}
		}
	}
	return nil
}

// renewMax is how often a file is looked for that others move at the same time.
const renewMax = 4

// renew makes the name of a file anew that is there already. Nobody knows whether a
// sync of its folder has failed: then it may go with the power, though each later
// sync succeeds, for what is synced are changes. So it is changed: in new it has
// the next name from now on, and who is about to take the old one back takes
// nothing. In cur the name is the owner's, and comes back at once. It reports
// false for a file that has gone.
func (t *Transport) renew(a *attempt, s string) (bool, error) {
	for range renewMax {
		it, ok := a.found[s]
		if !ok {
			return false, nil
		}
		a.touched["new"] = true
		a.touched[it.folder] = true
		name, other := a.dir+"/"+it.folder+"/"+it.name, a.dir+"/"+it.folder+"/"+nextName(it.name)
		err := t.fs.Rename(name, other)
		if err == nil && it.folder == "cur" {
			err = t.fs.Rename(other, name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
		if err := t.find(a); err != nil { // the owner has moved it
			return false, err
		}
	}
	return false, errMoved
}

var errMoved = errors.New("a file is moved again and again")

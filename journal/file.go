package journal

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider"
)

// A dayFile is one file of the journal, and its index where there is one.
type dayFile struct {
	day  string // YYYY-MM-DD
	part int
	size int64 // octets that count
	idx  int64 // octets of the index; 0: none known
}

const dayLayout = "2006-01-02"

func (d dayFile) stem() string {
	if d.part == 0 {
		return d.day
	}
	return fmt.Sprintf("%s.%04d", d.day, d.part)
}

func (j *Journal) dataName(d dayFile) string  { return path.Join(j.opt.Dir, d.stem()+".jnl") }
func (j *Journal) indexName(d dayFile) string { return path.Join(j.opt.Dir, d.stem()+".idx") }

func compareFiles(a, b dayFile) int {
	return cmp.Or(strings.Compare(a.day, b.day), cmp.Compare(a.part, b.part))
}

// parseStem reads what stem wrote.
func parseStem(s string) (dayFile, bool) {
	day, part, more := strings.Cut(s, ".")
	d := dayFile{day: day}
	if _, err := time.Parse(dayLayout, day); err != nil {
		return d, false
	}
	if more {
		d.part, _ = strconv.Atoi(part)
	}
	return d, d.stem() == s
}

// list finds the files, and removes what a crash has left of an index. It leaves
// out empty ones, and takes them away if it can: nobody knows whether their names
// are durable, and they are not written into.
func (j *Journal) list() error {
	names, err := j.opt.FS.ReadDir(j.opt.Dir)
	if errors.Is(err, fs.ErrNotExist) && j.opt.ReadOnly {
		return nil
	}
	if err != nil {
		return fmt.Errorf("journal: read folder: %w", err)
	}
	indexes := map[string]int64{}
	for _, entry := range names {
		name := entry.Name()
		stem, ext := strings.TrimSuffix(name, path.Ext(name)), path.Ext(name)
		info, err := j.opt.FS.Stat(path.Join(j.opt.Dir, name))
		if err != nil {
			continue // it was removed meanwhile
		}
		d, ok := parseStem(stem)
		switch {
		case ext == ".tmp" && !j.opt.ReadOnly:
			j.opt.FS.Remove(path.Join(j.opt.Dir, name))
		case ok && ext == ".jnl" && info.Size() == 0 && !j.opt.ReadOnly:
			j.opt.FS.Remove(path.Join(j.opt.Dir, name))
		case ok && ext == ".jnl":
			d.size = info.Size()
			j.files = append(j.files, d)
		case ok && ext == ".idx":
			indexes[stem] = info.Size()
		}
	}
	slices.SortFunc(j.files, compareFiles)
	for i := range j.files {
		stem := j.files[i].stem()
		j.files[i].idx = indexes[stem]
		delete(indexes, stem)
	}
	for stem := range indexes {
		if !j.opt.ReadOnly {
			j.opt.FS.Remove(path.Join(j.opt.Dir, stem+".idx"))
		}
	}
	return nil
}

// recover reads the last file: what was written last must not be written again.
// It cuts off what a crash has torn, and makes the rest durable.
func (j *Journal) recover(ctx context.Context) error {
	if len(j.files) == 0 {
		return ctx.Err()
	}
	d := &j.files[len(j.files)-1]
	flag := os.O_RDONLY
	if !j.opt.ReadOnly {
		flag = os.O_RDWR
	}
	f, err := j.opt.FS.OpenFile(j.dataName(*d), flag, 0)
	if err != nil {
		return fmt.Errorf("journal: open: %w", err)
	}
	found, err := j.survey(ctx, f, *d, true)
	if err == nil && !found.ours {
		err = known(f, d.stem())
	}
	if err == nil {
		d.size = found.end
		j.size, j.synced, j.live = found.end, found.end, true
		j.entries.add(found.entries)
		for at, print := range found.recent {
			j.recent[at] = print
			j.last = max(j.last, at.lsn)
		}
	}
	if j.opt.ReadOnly {
		return errors.Join(err, f.Close())
	}
	j.f = f
	if err == nil {
		err = j.cut(found.proven)
	}
	if err != nil {
		return fmt.Errorf("journal: recover %s: %w", d.stem(), err)
	}
	return nil
}

// known refuses a file of another format, whose records would all look torn: what
// is torn is cut off. It is asked where there is no record of ours.
func known(f io.ReaderAt, name string) error {
	var head [4]byte
	if n, err := f.ReadAt(head[:], 0); n < len(head) && err != io.EOF {
		return fmt.Errorf("journal: read %s: %w", name, err)
	}
	ours := binary.LittleEndian.AppendUint32(nil, recordMagic)
	if family := len(ours) - 1; string(head[:family]) == string(ours[:family]) && head[family] != ours[family] {
		return fmt.Errorf("journal: %s has format %q, and this program knows format %q: start the program that wrote it, or a newer one, "+
			"or move the folder of the journal away", name, head, ours)
	}
	return nil
}

// A survey is what a file holds.
type survey struct {
	end     int64 // up to where it counts
	proven  int64 // up to where it is known to be durable
	entries []entry
	recent  map[seq]uint64
	ours    bool // there is a record of our format
}

// survey reads a whole file. Holes are damage, but in the last file, and in one that
// was given up after an error, those after what was known to be durable: there a
// crash has torn a write that nobody was told of, and from there on nothing counts:
// what a given up file held there is in the next one again.
func (j *Journal) survey(ctx context.Context, f io.ReaderAt, d dayFile, last bool) (survey, error) {
	sc := &scanner{f: f, size: d.size}
	found := survey{recent: map[seq]uint64{}}
	type mark struct {
		off int64
		seq
	}
	var marks []mark
	var holes []int64
	for {
		r, err := sc.next()
		if err == nil {
			err = ctx.Err()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return found, err
		}
		found.ours = true
		ev, err := decodeEvent(&r)
		if r.off != found.end || err != nil {
			holes = append(holes, found.end)
		}
		found.end, found.proven = r.end(), max(found.proven, r.synced)
		if err != nil {
			continue
		}
		found.entries = appendEntries(found.entries, &ev, r.off)
		if r.lsn != 0 {
			found.recent[r.seq] = fingerprint(&ev)
			marks = append(marks, mark{r.off, r.seq})
		}
	}
	whole := !last && d.idx > 0 // it was full, and closed in good order
	if len(holes) > 0 && (whole || holes[0] < found.proven) {
		j.alarm("%s is damaged: some of what became of messages on that day is lost", d.stem())
	}
	if i := slices.IndexFunc(holes, func(off int64) bool { return off >= found.proven }); !whole && i >= 0 {
		found.end = holes[i]
		found.entries = slices.DeleteFunc(found.entries, func(e entry) bool { return int64(e.off) >= found.end })
		for _, m := range marks {
			if m.off >= found.end {
				delete(found.recent, m.seq)
			}
		}
	}
	return found, nil
}

// cut makes the end of the last file durable. What is beyond proven is written
// again: the process before us may have died after a sync of it had failed. Then
// the system has it in memory, believes that it is on the disk, and would not
// write it out for a sync of ours.
func (j *Journal) cut(proven int64) error {
	if err := j.f.Truncate(j.size); err != nil {
		return err
	}
	for off := proven; off < j.size; off += writeMax {
		b := make([]byte, min(writeMax, j.size-off))
		if _, err := j.f.ReadAt(b, off); err != nil {
			return err
		}
		if _, err := j.f.WriteAt(b, off); err != nil {
			return err
		}
	}
	return j.f.Sync()
}

// fingerprint tells an event from one that has its place in the feed of another
// spool, which took the place of the first.
func fingerprint(ev *postrider.Event) uint64 {
	return uint64(newHash(byte(ev.Kind)).addNumber(uint64(ev.Time.UnixNano())).add(string(ev.ID)))
}

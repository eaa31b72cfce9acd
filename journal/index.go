package journal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

// An index says where in a file the events are that have a key: an ID, a
// Message-ID or an address. It is the sorted hashes of the keys, each with the
// offset of a record, in blocks:
//
//	"PRIDX001" | octets of the data file u64 | entries u64 | CRC u32 | zeros to 4096
//	340 times (hash u64 | offset u32) | zeros | CRC u32 in the last 4 of 4096
//
// It can be made anew from its file, which is done when it is missing or does
// not fit. The record that an entry leads to has the last word.
type entry struct {
	hash uint64
	off  uint32
}

const (
	indexMagic   = "PRIDX001"
	blockLen     = 4096
	entryLen     = 12
	blockEntries = (blockLen - 4) / entryLen
)

// The kinds of a key.
const (
	keyID      = 'i'
	keyHeader  = 'm'
	keyAddress = 'a'
)

// A hash is an FNV-1a of 64 bits on its way.
type hash uint64

func newHash(kind byte) hash { return (fnvOffset ^ hash(kind)) * fnvPrime }

const (
	fnvOffset hash = 14695981039346656037
	fnvPrime  hash = 1099511628211
)

func (h hash) add(s string) hash {
	for i := 0; i < len(s); i++ {
		h = (h ^ hash(s[i])) * fnvPrime
	}
	return h
}

// addLower adds ASCII in lower case.
func (h hash) addLower(s string) hash {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		h = (h ^ hash(c)) * fnvPrime
	}
	return h
}

// addNumber adds eight octets.
func (h hash) addNumber(n uint64) hash {
	for range 8 {
		h = (h ^ hash(n&0xff)) * fnvPrime
		n >>= 8
	}
	return h
}

func hashOf(kind byte, key string) uint64 { return uint64(newHash(kind).add(key)) }

// hashAddress is hashOf the addressKey.
func hashAddress(p smtp.Path) uint64 {
	if !p.IsASCII() || p.Domain == "" || p.Local != "" && p.Local[0] == '"' {
		return hashOf(keyAddress, addressKey(p))
	}
	return uint64(newHash(keyAddress).addLower(p.Local).add("@").addLower(p.Domain))
}

// addressKey is the form in which addresses are compared: without quotes, and in
// lower case.
func addressKey(p smtp.Path) string {
	return strings.ToLower(smtp.Path{Local: p.LocalUnquoted(), Domain: p.Domain}.String())
}

// addresses yields every address of an event.
func addresses(ev *postrider.Event, yield func(smtp.Path)) {
	for _, p := range [...]smtp.Path{ev.From, ev.To} {
		if !p.IsNull() {
			yield(p)
		}
	}
	for _, p := range ev.Tos {
		if !p.IsNull() {
			yield(p)
		}
	}
}

// appendEntries appends the entries of an event whose record is at off.
func appendEntries(all []entry, ev *postrider.Event, off int64) []entry {
	from := len(all)
	add := func(hash uint64) {
		e := entry{hash, uint32(off)}
		if len(all)-from > 64 || !slices.Contains(all[from:], e) {
			all = append(all, e)
		}
	}
	for _, k := range [...]struct {
		kind byte
		key  string
	}{{keyID, string(ev.ID)}, {keyID, string(ev.Report)}, {keyHeader, ev.HeaderID}} {
		if k.key != "" {
			add(hashOf(k.kind, k.key))
		}
	}
	addresses(ev, func(p smtp.Path) { add(hashAddress(p)) })
	return all
}

// entries are those of the file that grows, in blocks, so that what is there need
// not be copied when more comes.
type entries struct{ blocks [][]entry }

// entriesBlock is how many entries a block has.
const entriesBlock = 4096

func (l *entries) add(more []entry) {
	for len(more) > 0 {
		last := len(l.blocks) - 1
		if last < 0 || len(l.blocks[last]) == entriesBlock {
			l.blocks = append(l.blocks, make([]entry, 0, entriesBlock))
			last++
		}
		b := &l.blocks[last]
		n := min(len(more), entriesBlock-len(*b))
		*b = append(*b, more[:n]...)
		more = more[n:]
	}
}

// clone returns what is there now, whatever comes.
func (l *entries) clone() entries { return entries{slices.Clone(l.blocks)} }

// flat returns a copy.
func (l *entries) flat() []entry { return slices.Concat(l.blocks...) }

// encodeIndex writes the index of a file of that size, and returns how long it is.
// It sorts the entries.
func encodeIndex(w io.Writer, sorted []entry, size int64) (int64, error) {
	slices.SortFunc(sorted, func(a, b entry) int { return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.off, b.off)) })
	b := make([]byte, 0, indexWrite+blockLen)
	b = append(b, indexMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(sorted)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crcTable))
	b = append(b, make([]byte, blockLen-len(b))...)
	written := int64(0)
	for block := range slices.Chunk(sorted, blockEntries) {
		if len(b) >= indexWrite {
			if _, err := w.Write(b); err != nil {
				return written, err
			}
			written += int64(len(b))
			b = b[:0]
		}
		start := len(b)
		for _, e := range block {
			b = binary.LittleEndian.AppendUint64(b, e.hash)
			b = binary.LittleEndian.AppendUint32(b, e.off)
		}
		b = append(b, make([]byte, start+blockLen-4-len(b))...)
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], crcTable))
	}
	n, err := w.Write(b)
	return written + int64(n), err
}

// indexWrite is how many octets of an index are written at once.
const indexWrite = 64 << 10

var errIndex = errors.New("journal: an index does not fit its file")

// An indexFile looks keys up in an index on disk.
type indexFile struct {
	f     io.ReaderAt
	count int // entries
	block []byte
	at    int // number of the block in block; -1: none
}

// openIndex checks that an index is that of a file of the given size.
func openIndex(f io.ReaderAt, size int64) (*indexFile, error) {
	x := &indexFile{f: f, block: make([]byte, blockLen), at: -1}
	if _, err := f.ReadAt(x.block, 0); err != nil {
		return nil, errIndex
	}
	b := x.block
	if !bytes.Equal(b[:8], []byte(indexMagic)) || binary.LittleEndian.Uint64(b[8:]) != uint64(size) ||
		binary.LittleEndian.Uint32(b[24:]) != crc32.Checksum(b[:24], crcTable) {
		return nil, errIndex
	}
	x.count = int(binary.LittleEndian.Uint64(b[16:]))
	return x, nil
}

// entry returns the i-th entry.
func (x *indexFile) entry(i int) (entry, error) {
	if n := i / blockEntries; n != x.at {
		x.at = -1
		if _, err := x.f.ReadAt(x.block, int64(n+1)*blockLen); err != nil && err != io.EOF {
			return entry{}, fmt.Errorf("journal: read index: %w", err)
		}
		if binary.LittleEndian.Uint32(x.block[blockLen-4:]) != crc32.Checksum(x.block[:blockLen-4], crcTable) {
			return entry{}, errIndex
		}
		x.at = n
	}
	b := x.block[i%blockEntries*entryLen:]
	return entry{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])}, nil
}

// lookup returns the offsets of a hash.
func (x *indexFile) lookup(hash uint64) (offs []uint32, err error) {
	from, to := 0, x.count // the first of them lies in [from, to]
	for from < to {
		mid := (from + to) / 2
		e, err := x.entry(mid)
		if err != nil {
			return nil, err
		}
		if e.hash < hash {
			from = mid + 1
		} else {
			to = mid
		}
	}
	for ; from < x.count; from++ {
		e, err := x.entry(from)
		if err != nil || e.hash != hash {
			return offs, err
		}
		offs = append(offs, e.off)
	}
	return offs, nil
}

// A lookup finds the offsets of a hash in one file.
type lookup func(hash uint64) ([]uint32, error)

func lookupIn(blocks ...[]entry) lookup {
	return func(hash uint64) (offs []uint32, err error) {
		for _, block := range blocks {
			for _, e := range block {
				if e.hash == hash {
					offs = append(offs, e.off)
				}
			}
		}
		return offs, nil
	}
}

// writeIndex writes the index of a file that will not grow any more, and sorts its
// entries.
func (j *Journal) writeIndex(d dayFile, fresh []entry) error {
	name := j.indexName(d)
	tmp := name + ".tmp"
	f, err := j.opt.FS.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("journal: index: %w", err)
	}
	length, err := encodeIndex(f, fresh, d.size)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = j.opt.FS.Rename(tmp, name)
	}
	if err != nil {
		j.opt.FS.Remove(tmp)
		return fmt.Errorf("journal: index: %w", err)
	}
	j.mu.Lock()
	for i := range j.files {
		if compareFiles(j.files[i], d) == 0 {
			j.files[i].idx = length
		}
	}
	j.mu.Unlock()
	return nil
}

// withIndex calls fn with what looks keys up in a file that does not grow. An
// index that is missing, or does not fit, is made anew, by one query at a time.
func (j *Journal) withIndex(ctx context.Context, d dayFile, f vfs.File, fn func(lookup) error) error {
	err := j.withIndexFile(d, fn)
	if err == nil || !errors.Is(err, errIndex) {
		return err
	}
	select {
	case j.indexing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-j.indexing }()
	if err := j.withIndexFile(d, fn); err == nil || !errors.Is(err, errIndex) {
		return err // another query has made it
	}
	found, err := j.survey(ctx, f, d, false)
	if err != nil {
		return err
	}
	if !j.opt.ReadOnly {
		if err := j.writeIndex(d, found.entries); err != nil {
			j.alarm("%v", err)
		}
	}
	return fn(lookupIn(found.entries))
}

func (j *Journal) withIndexFile(d dayFile, fn func(lookup) error) error {
	f, err := j.opt.FS.OpenFile(path.Clean(j.indexName(d)), os.O_RDONLY, 0)
	if err != nil {
		return errIndex
	}
	defer f.Close()
	x, err := openIndex(f, d.size)
	if err != nil {
		return err
	}
	return fn(x.lookup)
}

package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"runtime"
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

// encodeIndex writes the index of a file of that size, and returns how long it is.
// To sort half a million entries takes a processor for tens of milliseconds, and no
// message waits for that: it is done in small parts, and what is ready to run goes
// between them.
func encodeIndex(w io.Writer, all *entries, size int64) (int64, error) {
	out := indexWriter{w: w, b: make([]byte, 0, indexWrite+blockLen)}
	out.header(size, all.count())
	var part, spare []entry
	for i := range all {
		part = all[i].appendTo(part[:0])
		spare = slices.Grow(spare[:0], len(part))
		sortEntries(part, spare, 64-entryPartBits-8)
		for _, e := range part {
			out.add(e)
		}
		runtime.Gosched()
	}
	return out.end()
}

// An indexWriter writes an index, block by block.
type indexWriter struct {
	w       io.Writer
	b       []byte // what is not written yet
	block   int    // where in b the last block begins
	written int64
	err     error
}

func (x *indexWriter) header(size int64, count int) {
	x.b = append(x.b, indexMagic...)
	x.b = binary.LittleEndian.AppendUint64(x.b, uint64(size))
	x.b = binary.LittleEndian.AppendUint64(x.b, uint64(count))
	x.b = binary.LittleEndian.AppendUint32(x.b, crc32.Checksum(x.b, crcTable))
	x.b = append(x.b, make([]byte, blockLen-len(x.b))...)
	x.block = len(x.b)
}

func (x *indexWriter) add(e entry) {
	x.b = binary.LittleEndian.AppendUint64(x.b, e.hash)
	x.b = binary.LittleEndian.AppendUint32(x.b, e.off)
	if len(x.b)-x.block == blockEntries*entryLen {
		x.seal()
	}
}

// seal ends a block.
func (x *indexWriter) seal() {
	x.b = append(x.b, make([]byte, x.block+blockLen-4-len(x.b))...)
	x.b = binary.LittleEndian.AppendUint32(x.b, crc32.Checksum(x.b[x.block:], crcTable))
	if x.block = len(x.b); x.block >= indexWrite {
		x.flush()
	}
}

func (x *indexWriter) flush() {
	if x.err == nil {
		var n int
		n, x.err = x.w.Write(x.b)
		x.written += int64(n)
	}
	x.b, x.block = x.b[:0], 0
}

func (x *indexWriter) end() (int64, error) {
	if len(x.b) > x.block {
		x.seal()
	}
	x.flush()
	return x.written, x.err
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
	if !bytes.Equal(b[:8], []byte(indexMagic)) || binary.LittleEndian.Uint32(b[24:]) != crc32.Checksum(b[:24], crcTable) {
		return nil, errIndex
	}
	if of := int64(binary.LittleEndian.Uint64(b[8:])); of != size {
		return nil, &otherSizeError{of}
	}
	x.count = int(binary.LittleEndian.Uint64(b[16:]))
	return x, nil
}

// An otherSizeError is errIndex of an index that was made when its file had another size.
type otherSizeError struct{ size int64 }

func (e *otherSizeError) Error() string {
	return fmt.Sprintf("%v: it is of %d octets", errIndex, e.size)
}
func (e *otherSizeError) Unwrap() error { return errIndex }

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

// writeIndex writes the index of a file that will not grow any more.
func (j *Journal) writeIndex(d dayFile, all *entries) error {
	name := j.indexName(d)
	tmp := name + ".tmp"
	f, err := j.opt.FS.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("journal: index: %w", err)
	}
	length, err := encodeIndex(f, all, d.size)
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
	err = j.withIndexFile(d, fn)
	if err == nil || !errors.Is(err, errIndex) {
		return err // another query has made it
	}
	if e, ok := errors.AsType[*otherSizeError](err); ok && e.size < d.size {
		d.idx = 0 // a file that was given up when it was indexed, and came back longer after a power cut
	}
	found, err := j.survey(ctx, f, d, false)
	if err != nil {
		return err
	}
	var all entries
	all.add(found.entries)
	if !j.opt.ReadOnly {
		if err := j.writeIndex(d, &all); err != nil {
			j.alarm("%v", err)
		}
	}
	return fn(all.lookup)
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

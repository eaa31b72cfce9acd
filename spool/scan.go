package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/postrider/postrider/vfs"
)

// A scanner reads the records of a segment in order, without their bodies. Where
// it meets something else it goes on at the next record that is whole.
type scanner struct {
	f     vfs.File
	epoch uint32
	off   int64 // of the next record
	size  int64 // where to stop
	lsn   uint64
	buf   []byte // of the file, from at on
	at    int64
	lend  bool // the meta of a record is good until the next
}

// windowLen is how much a scanner reads at once.
const windowLen = 256 << 10

// A scanned is a record that a scanner met.
type scanned struct {
	header
	off  int64
	meta []byte
	gap  bool // something before it was no record, or is missing
}

// next returns the next record; io.EOF: there is none.
func (sc *scanner) next() (scanned, error) {
	r, err := sc.record(sc.off)
	if err == nil {
		r.gap = r.lsn != sc.lsn
		sc.off, sc.lsn = r.off+r.size(), r.lsn+1
		return r, nil
	}
	if !errors.Is(err, errNoRecord) {
		return scanned{}, err
	}
	for off := sc.off + 8; ; off += 8 {
		if off, err = sc.findMagic(off); err != nil {
			return scanned{}, err
		}
		r, err := sc.record(off)
		if err == nil {
			r.gap = true
			sc.off, sc.lsn = r.off+r.size(), r.lsn+1
			return r, nil
		}
		if !errors.Is(err, errNoRecord) {
			return scanned{}, err
		}
	}
}

// record reads the record at off, if one is there whose LSN can come now.
func (sc *scanner) record(off int64) (scanned, error) {
	b, err := sc.window(off, headerLen)
	if err != nil {
		return scanned{}, err
	}
	h, err := parseHeader(b, sc.epoch)
	if err != nil {
		return scanned{}, err
	}
	if h.lsn < sc.lsn || off+h.size() > sc.size {
		return scanned{}, errNoRecord
	}
	if b, err = sc.window(off+headerLen, h.metaLen); err != nil {
		return scanned{}, err
	}
	if checksum(b) != h.metaCRC {
		return scanned{}, errNoRecord
	}
	if !sc.lend {
		b = bytes.Clone(b)
	}
	return scanned{header: h, off: off, meta: b}, nil
}

// findMagic returns the next place from off on that may begin a record.
func (sc *scanner) findMagic(off int64) (int64, error) {
	magic := []byte{recordMagic & 0xff, recordMagic >> 8}
	for off+headerLen <= sc.size {
		n := int(min(windowLen, sc.size-off))
		b, err := sc.window(off, n)
		if err != nil {
			return 0, err
		}
		i := bytes.Index(b, magic)
		switch {
		case i < 0:
			off += int64(n) &^ 7
			if n < 8 {
				return 0, io.EOF
			}
		case i%8 == 0:
			return off + int64(i), nil
		default:
			off += int64(i)&^7 + 8
		}
	}
	return 0, io.EOF
}

// window returns n octets at off. What does not lie before size is no record.
func (sc *scanner) window(off int64, n int) ([]byte, error) {
	if off+int64(n) > sc.size {
		return nil, errNoRecord
	}
	if off < sc.at || off+int64(n) > sc.at+int64(len(sc.buf)) {
		want := int(min(max(int64(n), windowLen), sc.size-off))
		if cap(sc.buf) < want {
			sc.buf = make([]byte, want)
		}
		sc.buf, sc.at = sc.buf[:want], off
		_, err := sc.f.ReadAt(sc.buf, off)
		if err != nil && err != io.EOF && want > n { // what is wanted may be whole, before a sector that is not
			sc.buf = sc.buf[:n]
			_, err = sc.f.ReadAt(sc.buf, off)
		}
		if err != nil && err != io.EOF {
			sc.buf = sc.buf[:0]
			return nil, fmt.Errorf("spool: read segment: %w", err)
		}
	}
	i := off - sc.at
	return sc.buf[i : i+int64(n)], nil
}

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/postrider/postrider/vfs"
)

// A day file is a sequence of records, one for each event:
//
//	magic u32 | payload length u32 | LSN u64 | ordinal u32 | synced u32 | CRC u32 | payload | zeros to 8
//
// in little endian. The ordinal counts the events of one LSN. Synced is up to
// where the file was known to be durable when the record was written, so that
// what is wrong before it is damage, and what is wrong after it is the torn end
// of a write that nobody waited for any more. The CRC is of the 24 octets before
// it and of the payload (codec.go).
const (
	recordMagic = 0x314a5250 // "PRJ1": another format has another magic
	headerLen   = 28
	payloadMax  = 64 << 20
	align       = 8
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// A seq is the place of an event in the feed.
type seq struct {
	lsn uint64
	n   uint32
}

// A record is one that was read.
type record struct {
	seq
	off     int64
	synced  int64
	payload []byte // of the scanner: valid until its next call
}

func (r *record) end() int64 { return r.off + sizeOf(len(r.payload)) }

func sizeOf(payload int) int64 { return (headerLen + int64(payload) + align - 1) &^ (align - 1) }

// appendRecord appends a record to b, whose length is a multiple of align.
func appendRecord(b []byte, at seq, synced int64, payload []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, recordMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint64(b, at.lsn)
	b = binary.LittleEndian.AppendUint32(b, at.n)
	b = binary.LittleEndian.AppendUint32(b, uint32(synced))
	crc := crc32.Update(crc32.Checksum(b[start:], crcTable), crcTable, payload)
	b = binary.LittleEndian.AppendUint32(b, crc)
	b = append(b, payload...)
	for (len(b)-start)%align != 0 {
		b = append(b, 0)
	}
	return b
}

var errNoRecord = errors.New("no record here")

// A scanner reads the records of a file in order.
type scanner struct {
	f    io.ReaderAt
	size int64 // where the file ends
	off  int64 // of what comes next
	buf  []byte
	at   int64 // of buf in the file
}

// windowLen is how much a scanner reads at once.
const windowLen = 256 << 10

// read returns the record at off, or errNoRecord.
func (sc *scanner) read(off int64) (record, error) {
	b, err := sc.window(off, headerLen)
	if err != nil {
		return record{}, err
	}
	length := int64(binary.LittleEndian.Uint32(b[4:]))
	if binary.LittleEndian.Uint32(b) != recordMagic || length > payloadMax {
		return record{}, errNoRecord
	}
	if b, err = sc.window(off, headerLen+length); err != nil {
		return record{}, err
	}
	r := record{off: off, payload: b[headerLen:],
		seq:    seq{binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:])},
		synced: int64(binary.LittleEndian.Uint32(b[20:]))}
	if binary.LittleEndian.Uint32(b[24:]) != crc32.Update(crc32.Checksum(b[:24], crcTable), crcTable, r.payload) {
		return record{}, errNoRecord
	}
	return r, nil
}

// next returns the next record, from where it can find one; io.EOF: there is
// none. A record begins before sc.off only if nothing was lost.
func (sc *scanner) next() (record, error) {
	for off := sc.off; off+headerLen <= sc.size; off += align {
		r, err := sc.read(off)
		if err == nil {
			sc.off = r.end()
			return r, nil
		}
		if !errors.Is(err, errNoRecord) {
			return record{}, err
		}
	}
	return record{}, io.EOF
}

// window returns n octets at off. What does not lie before size is no record.
func (sc *scanner) window(off, n int64) ([]byte, error) {
	if off+n > sc.size {
		return nil, errNoRecord
	}
	if off < sc.at || off+n > sc.at+int64(len(sc.buf)) {
		want := min(max(n, windowLen), sc.size-off)
		if int64(cap(sc.buf)) < want {
			sc.buf = make([]byte, want)
		}
		sc.buf, sc.at = sc.buf[:want], off
		if _, err := sc.f.ReadAt(sc.buf, off); err != nil && err != io.EOF {
			sc.buf = sc.buf[:0]
			return nil, fmt.Errorf("journal: read: %w", err)
		}
	}
	i := off - sc.at
	return sc.buf[i : i+n], nil
}

// recordAt reads one record of a file of which size octets count.
func recordAt(f vfs.File, size, off int64) (record, error) {
	var head [headerLen]byte
	if off+headerLen > size {
		return record{}, errNoRecord
	}
	if _, err := f.ReadAt(head[:], off); err != nil && err != io.EOF {
		return record{}, fmt.Errorf("journal: read: %w", err)
	}
	length := int64(binary.LittleEndian.Uint32(head[4:]))
	if binary.LittleEndian.Uint32(head[:]) != recordMagic || length > payloadMax || off+headerLen+length > size {
		return record{}, errNoRecord
	}
	sc := &scanner{f: f, size: off + headerLen + length}
	return sc.read(off)
}

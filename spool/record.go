package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// The log is a sequence of records in segments. Every record is
//
//	magic u16 | kind u8 | version u8 | meta length u32 | body length u32 | epoch u32 |
//	LSN u64 | CRC of meta u32 | CRC of the 28 octets before u32 | meta | body | zeros to 8
//
// in little endian. LSNs rise by one from record to record, over the borders of
// segments too. A body has a CRC for each block of it, which stand in the meta
// of its record, so that an index can be built without reading bodies.
//
// A commit record ends each group: what was gathered and written at once. A
// group counts only whole, so that what a Batch holds is true together.
const (
	recordMagic   = 0x5250
	recordVersion = 1
	headerLen     = 32
	blockLen      = 64 << 10 // of a body, for one CRC
)

// The kinds of a record.
const (
	kindAccept  = iota + 1 // a new message, with its body or the name of its big file
	kindMove               // a message written again with what became of it, from a segment that goes
	kindState              // what became of recipients
	kindAmend              // what an operator wants of waiting recipients
	kindCommit             // the end of a group
	kindCursor             // how far a reader of the feed has read
	kindDamaged            // what a recovery had to set aside, told once to the feed
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, crcTable) }

func crcUpdate(crc uint32, b []byte) uint32 { return crc32.Update(crc, crcTable, b) }

// A header is the fixed part of a record.
type header struct {
	kind    uint8
	metaLen int
	bodyLen int
	epoch   uint32
	lsn     uint64
	metaCRC uint32
}

// size is what the whole record takes in the segment.
func (h *header) size() int64 {
	return (headerLen + int64(h.metaLen) + int64(h.bodyLen) + 7) &^ 7
}

var errNoRecord = errors.New("no record here")

// appendRecord appends a whole record to b.
func appendRecord(b []byte, kind uint8, epoch uint32, lsn uint64, meta, body []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint16(b, recordMagic)
	b = append(b, kind, recordVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(meta)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = binary.LittleEndian.AppendUint32(b, epoch)
	b = binary.LittleEndian.AppendUint64(b, lsn)
	b = binary.LittleEndian.AppendUint32(b, checksum(meta))
	b = binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
	b = append(b, meta...)
	b = append(b, body...)
	for (len(b)-start)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// anyEpoch is the epoch of a segment whose own header is lost.
const anyEpoch = 0

// parseHeader reads the fixed part of a record of the given epoch.
func parseHeader(b []byte, epoch uint32) (header, error) {
	if len(b) < headerLen || binary.LittleEndian.Uint16(b) != recordMagic || b[3] != recordVersion {
		return header{}, errNoRecord
	}
	if binary.LittleEndian.Uint32(b[28:]) != checksum(b[:28]) {
		return header{}, errNoRecord
	}
	h := header{
		kind:    b[2],
		metaLen: int(binary.LittleEndian.Uint32(b[4:])),
		bodyLen: int(binary.LittleEndian.Uint32(b[8:])),
		epoch:   binary.LittleEndian.Uint32(b[12:]),
		lsn:     binary.LittleEndian.Uint64(b[16:]),
		metaCRC: binary.LittleEndian.Uint32(b[24:]),
	}
	if epoch != anyEpoch && h.epoch != epoch {
		return header{}, errNoRecord
	}
	return h, nil
}

// blockSums appends a CRC for each block of body.
func blockSums(sums []uint32, body []byte) []uint32 {
	for len(body) > 0 {
		n := min(len(body), blockLen)
		sums = append(sums, checksum(body[:n]))
		body = body[n:]
	}
	return sums
}

// An encoder appends the fields of a meta.
type encoder struct{ b []byte }

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) str(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}
func (e *encoder) bytes(p []byte) {
	e.uint(uint64(len(p)))
	e.b = append(e.b, p...)
}

// A decoder reads the fields of a meta. After the first field that is not there
// it returns zeros, and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) str() string { return string(d.bytes()) }

// count reads the length of a list whose elements take at least one octet each.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

package spool

import (
	"testing"
	"unsafe"

	"github.com/postrider/postrider"
)

// entryOf returns the entry of a message; nil: it is not there.
func (s *Spool) entryOf(id postrider.ID) *entry { return s.slab.find(id) }

// placeOf returns where the record of a message lies.
func (s *Spool) placeOf(id postrider.ID) location { return s.location(s.slab.find(id).at) }

// names returns the messages that are there.
func (s *Spool) names() (all []postrider.ID) {
	s.slab.each(func(e *entry) { all = append(all, e.id.name()) })
	return all
}

// What a queued recipient costs, most of all: an entry, with its first recipient.
func TestEntryIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(entry{}); n > 128 {
		t.Errorf("an entry has %d octets", n)
	}
	if n := unsafe.Sizeof(rcptState{}); n > 40 {
		t.Errorf("a recipient has %d octets", n)
	}
	if n := unsafe.Sizeof(*page{}.slots); n > 32<<10 {
		t.Errorf("a page has %d octets, and takes the next larger size", n)
	}
}

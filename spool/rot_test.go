package spool

import (
	"context"
	"hash/crc32"
	"io"
	"path"
	"testing"
	"testing/synctest"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// A place is an octet of a record in the log.
type place struct {
	name string
	off  int64
	kind uint8
	body bool
	id   postrider.ID // whom the record is about
}

// places returns, of each record of a spool that is open, an octet of its
// header, of its meta and of its body.
func places(s *Spool) (all []place) {
	for _, g := range s.segments {
		sc := &scanner{f: g.f, epoch: g.epoch, off: segmentHeaderLen, size: g.end, lsn: g.first}
		for {
			rec, err := sc.next()
			if err != nil {
				break
			}
			p := place{name: path.Join("data/spool/seg", segmentName(g.n)), off: rec.off + 17, kind: rec.kind}
			switch rec.kind {
			case kindAccept, kindMove:
				a, _ := decodeAccepted(rec.meta)
				p.id = a.msg.ID
			case kindState:
				st, _ := decodeState(rec.meta)
				p.id = st.id
			case kindAmend:
				a, _ := decodeAmendment(rec.meta)
				p.id = a.id
			}
			all = append(all, p)
			p.off = rec.off + headerLen + int64(rec.metaLen)/2
			all = append(all, p)
			if rec.bodyLen > 0 {
				p.off, p.body = rec.off+headerLen+int64(rec.metaLen)+int64(rec.bodyLen)/2, true
				all = append(all, p)
			}
		}
	}
	return all
}

// An octet of any record may rot: its message may be gone, or be as it was
// before the record; every other is as it was, no content is read wrong, and
// the operator is told.
func TestAnyRecordMayRot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDriver(3, vfs.NewMem())
		d.fs.SetHook(d.hook)
		d.start()
		cycle := []int{0, 1, 2, 3, 3, 4, 5, 7, 8, 3} // no ends of the process
		for n := range 90 {
			if d.step(cycle[n%len(cycle)]); d.over() {
				t.Fatal(d.err)
			}
		}
		d.close()
		d.fs.SetHook(nil)
		base := d.survivor(d.fs.Image(vfs.KeepAll), 1)
		s, err := Open(context.Background(), base.options())
		if err != nil {
			t.Fatal(err)
		}
		all := places(s)
		s.Close(context.Background())
		kinds := map[uint8]int{}
		// The group that a stop in good order ends with proves the rest, and nothing proves it.
		// Nor is one before it missed that has no record of its own.
		proven := len(all) - 4
		if all[proven-1].kind == kindCommit && all[proven-3].kind == kindCommit {
			proven -= 2
		}
		for i, p := range all {
			kinds[p.kind]++
			d.rotted(t, p, i < proven)
		}
		t.Logf("%d places, by kind %v", len(all), kinds)
		for _, k := range []uint8{kindAccept, kindMove, kindState, kindAmend, kindCommit, kindCursor} {
			if kinds[k] == 0 {
				t.Errorf("no record of kind %d", k)
			}
		}
	})
}

// rotted opens a copy of the spool in which one octet is wrong.
func (d *driver) rotted(t *testing.T, p place, told bool) {
	c := d.survivor(d.fs.Image(vfs.KeepAll), 2)
	c.flip(p.name, p.off, 0x20)
	c.fs.Remove("data/spool/index.snap")
	s, err := Open(context.Background(), c.options())
	if err != nil {
		t.Errorf("%+v: %v", p, err)
		return
	}
	defer s.Close(context.Background())
	for id, w := range d.now.restarted().msgs {
		o, err := s.Open(context.Background(), id)
		if err != nil {
			if id != p.id {
				t.Errorf("%+v: message %s: %v", p, id, err)
			}
			continue
		}
		all, rerr := io.ReadAll(o.Reader())
		m := o.Message()
		o.Close()
		if rerr == nil && crc32.ChecksumIEEE(all) != w.body || rerr != nil && (id != p.id || !p.body) {
			t.Errorf("%+v: the content of %s: %v", p, id, rerr)
		}
		if id != p.id && !same(m, &w.m) {
			t.Errorf("%+v: message %s\n%s", p, id, different(describe(&w.m, w.body), describe(m, w.body)))
		}
	}
	// What rots of a content is told to who reads it.
	if p.body {
		_, told = d.now.restarted().msgs[p.id]
	}
	if len(c.alarms) == 0 && told {
		t.Errorf("%+v: nobody is told", p)
	}
}

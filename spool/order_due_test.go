package spool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/vfs"
)

// An order to try now holds though the message is just being looked at; also where the
// look has something to say of the recipient, and after a crash.
func TestRetryDuringALook(t *testing.T) {
	for _, tells := range []bool{false, true} {
		for _, restart := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, vfs.NewMem())
				id := b.add([]byte("x"), "a@x.example")
				late := deferred(0, time.Now().Add(4*time.Hour))
				b.settle(b.mustClaim(postrider.Attempt, 0), late)
				time.Sleep(time.Hour)
				lw := b.mustClaim(postrider.Wake, 0)
				now := time.Now()
				b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDue, Due: now})
				if late.Delayed = true; tells {
					b.settle(lw, late)
				} else {
					b.settle(lw)
				}
				if restart {
					b.reopen()
				}
				if m, _ := readBody(t, b.s, id); m.Recipients[0].Delayed != tells || !m.Recipients[0].Due.Equal(now) {
					t.Errorf("tells %v, restart %v: %+v", tells, restart, m.Recipients[0])
				}
				b.settle(b.mustClaim(postrider.Attempt, 0), deferred(0, now.Add(time.Hour)))
				b.noClaim()
				b.s.Close(context.Background())
			})
		}
	}
}

// What is under way when it is ordered for a time is due then if its attempt is given
// back as not made, and else when the attempt says; after a crash as before it.
func TestRetryDuringAnAttempt(t *testing.T) {
	for _, made := range []bool{false, true} {
		for _, restart := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, vfs.NewMem())
				id := b.add([]byte("x"), "a@x.example")
				l := b.mustClaim(postrider.Attempt, 0)
				want := time.Now().Add(time.Minute)
				b.amend(postrider.Amendment{ID: id, Do: postrider.AmendDue, Due: want})
				if made {
					want = time.Now().Add(time.Hour)
					b.settle(l, deferred(0, want))
				} else {
					b.settle(l)
				}
				if restart {
					b.reopen()
				}
				b.noClaim()
				if m, _ := readBody(t, b.s, id); !m.Recipients[0].Due.Equal(want) {
					t.Errorf("made %v, restart %v: due %v, want %v", made, restart, m.Recipients[0].Due, want)
				}
				b.s.Close(context.Background())
			})
		}
	}
}

// What an operator releases is looked at: also when it is just being looked at, and when
// the look ends in the same group, and after a crash.
func TestReleasedIsLookedAt(t *testing.T) {
	for _, do := range []postrider.Amend{postrider.AmendRelease, postrider.AmendPass} {
		for _, how := range []string{"", "during a look", "as a look ends", "before a look ends"} {
			for _, restart := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					disk := vfs.NewMem()
					b := newBench(t, disk)
					id := b.add([]byte("x"), "a@x.example")
					b.settle(b.mustClaim(postrider.Attempt, 0), deferred(0, time.Now()))
					b.amend(postrider.Amendment{ID: id, Do: postrider.AmendHold})
					time.Sleep(time.Hour)
					lw := b.mustClaim(postrider.Wake, 0)
					look := postrider.Batch{Settle: []postrider.Settlement{{Lease: lw, Wake: time.Now().Add(24 * time.Hour)}}}
					release := postrider.Batch{Amend: []postrider.Amendment{{ID: id, Do: do}}}
					var errs []error
					switch how {
					case "":
						errs = append(errs, b.s.Commit(context.Background(), look), b.s.Commit(context.Background(), release))
					case "during a look":
						errs = append(errs, b.s.Commit(context.Background(), release), b.s.Commit(context.Background(), look))
					case "as a look ends":
						errs = b.together(look, release)
					case "before a look ends":
						errs = b.together(release, look)
					}
					for _, err := range errs {
						if err != nil {
							t.Fatal(err)
						}
					}
					if restart {
						b.next(disk.Kill())
					}
					b.settle(b.mustClaim(postrider.Attempt, 0))
					for l, ok := b.claim(); l.Why != postrider.Wake; l, ok = b.claim() {
						if !ok {
							t.Fatalf("amendment %d %s, restart %v: not looked at", do, how, restart)
						}
						b.settle(l, deferred(0, time.Now().Add(time.Hour)))
					}
					b.s.Close(context.Background())
				})
			}
		}
	}
}

// So is what a reload takes off hold, and it is due from then on.
func TestRekeyedOffHoldIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, vfs.NewMem())
		b.s.Rekey(holdAll)
		id := b.add([]byte("x"), "a@x.example")
		time.Sleep(time.Hour)
		l := b.mustClaim(postrider.Wake, 0)
		b.s.Rekey(holdAll)
		err := b.s.Commit(context.Background(), postrider.Batch{Settle: []postrider.Settlement{{Lease: l, Wake: time.Now().Add(24 * time.Hour)}}})
		if err != nil {
			t.Fatal(err)
		}
		b.noClaim()
		time.Sleep(time.Hour)
		b.s.Rekey(destOf)
		if m, _ := readBody(t, b.s, id); !m.Recipients[0].Due.Equal(time.Now()) {
			t.Errorf("due at %v", m.Recipients[0].Due)
		}
		b.settle(b.mustClaim(postrider.Attempt, 0), deferred(0, time.Now().Add(4*time.Hour)))
		b.settle(b.mustClaim(postrider.Wake, 0))
		b.s.Rekey(destOf) // nothing new
		b.noClaim()
		b.s.Close(context.Background())
	})
}

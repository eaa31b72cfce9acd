package account

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/smtp"
	"github.com/postrider/postrider/vfs"
)

var client = netip.MustParseAddr("192.0.2.1")

// quick is a line with a hash that costs little, for a password.
func quick(address, password string) string {
	h := hash{memory: 64, time: 1, threads: 1, salt: []byte("some salt of ours")}
	h.key = h.of(password, keySize)
	return (&entry{Account: Account{Address: mustPath(address)}, hash: h}).String() + "\n"
}

func mustPath(s string) smtp.Path {
	p, err := smtp.ParsePath(s)
	if err != nil {
		panic(err)
	}
	return p
}

// put writes a file as an editor does.
func put(t *testing.T, fsys vfs.FS, name, text string) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte(text))
	f.Close()
}

// open opens a store, whose dummy costs as little as the hashes of quick.
func open(t *testing.T, fsys vfs.FS, o Options) *Store {
	t.Helper()
	s, err := Open(fsys, "accounts", o)
	if err != nil {
		t.Fatal(err)
	}
	s.hasher.dummy.memory, s.hasher.dummy.time = 64, 1
	return s
}

func verify(t *testing.T, s *Store, user, password string) int {
	t.Helper()
	a, r := s.Verify(t.Context(), client, user, password)
	if r.Positive() != (a != nil) {
		t.Fatalf("%s: %+v, %v", user, a, r)
	}
	return r.Code
}

func TestVerify(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "accounts", quick("alice@our.example", "s3cret")+quick("büro@our.example", "pass:word,1"))
	s := open(t, fsys, Options{Exempt: func(a netip.Addr) bool { return a == client }})
	for _, tt := range []struct {
		user, password string
		want           int
	}{
		{"alice@our.example", "s3cret", 235},
		{"ALICE@our.EXAMPLE", "s3cret", 235},
		{"BÜRO@our.example", "pass:word,1", 235},
		{"bu\u0308ro@our.example", "pass:word,1", 235},
		{"alice@our.example", "S3cret", 535},
		{"alice@our.example", "", 535},
		{"alice@our.example", "s3cret\x00", 535},
		{"alice@our.example", strings.Repeat("x", 1<<20), 535},
		{"alice", "s3cret", 535},
		{"", "", 535},
		{"alice@our.example\x00", "s3cret", 535},
		{"alice@our.example:", "s3cret", 535},
		{"nobody@our.example", "s3cret", 535},
		{strings.Repeat("x", 1<<20), "s3cret", 535},
	} {
		if got := verify(t, s, tt.user, tt.password); got != tt.want {
			t.Errorf("%.30q %.30q: %d", tt.user, tt.password, got)
		}
	}
	if a, _ := s.Verify(t.Context(), client, "ALICE@our.example", "s3cret"); a == nil || a.Name() != "alice@our.example" || !a.MaySend(mustPath("alice@our.example")) {
		t.Errorf("the account is %v", a)
	}
}

// An unknown name and a wrong password are answered in the same words, and cost
// the same: one hash, with the same parameters.
func TestUnknownNameIsLikeWrongPassword(t *testing.T) {
	fsys := vfs.NewMem()
	s := open(t, fsys, Options{})
	if err := s.Add("alice@our.example", "right"); err != nil {
		t.Fatal(err)
	}
	before := s.hasher.count.Load()
	_, wrong := s.Verify(t.Context(), client, "alice@our.example", "wrong")
	between := s.hasher.count.Load()
	_, unknown := s.Verify(t.Context(), client, "nobody@our.example", "wrong")
	if wrong != unknown || wrong.String() != "535 5.7.8 Authentication credentials invalid" {
		t.Errorf("%v and %v", wrong, unknown)
	}
	if between-before != 1 || s.hasher.count.Load()-between != 1 {
		t.Error("not one hash each")
	}
	s.hasher.dummy = s.current().byName["alice@our.example"].hash
	if _, r := s.Verify(t.Context(), client, "nobody@our.example", "right"); r != wrong {
		t.Errorf("nobody logs in: %v", r)
	}
	have, dummy := s.current().byName["alice@our.example"].hash, dummyHash()
	if have.memory != dummy.memory || have.time != dummy.time || have.threads != dummy.threads || len(have.key) != len(dummy.key) || len(have.salt) != len(dummy.salt) {
		t.Errorf("%s costs other than %s", have, dummy)
	}
}

func TestChanges(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "accounts", "# ours\n"+quick("carol@our.example", "c"))
	s, other := open(t, fsys, Options{}), open(t, fsys, Options{})
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(s.Add("alice@our.example", "one", "*@lists.example"))
	if err := s.Add("Alice@our.example", "two"); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if got := verify(t, other, "alice@our.example", "one"); got != 235 {
		t.Errorf("another process has not noticed: %d", got)
	}
	ok(other.SetPassword("ALICE@our.example", "two"))
	if a, b := verify(t, s, "alice@our.example", "one"), verify(t, s, "alice@our.example", "two"); a != 535 || b != 235 {
		t.Errorf("after a new password: %d, %d", a, b)
	}
	if all := s.List(); len(all) != 2 || all[1].Address.String() != "alice@our.example" || all[1].SendAs[0] != "*@lists.example" {
		t.Errorf("%+v", all)
	}
	if !s.Has(mustPath(`"alice"@OUR.example`)) || s.Has(mustPath("bob@our.example")) || s.Has(mustPath("postmaster")) {
		t.Error("who has an account")
	}
	ok(s.Remove("alice@our.example"))
	if err := s.Remove("alice@our.example"); !errors.Is(err, ErrNoAccount) {
		t.Error(err)
	}
	if err := s.SetPassword("alice@our.example", "x"); !errors.Is(err, ErrNoAccount) {
		t.Error(err)
	}
	if got := verify(t, other, "alice@our.example", "two"); got != 535 {
		t.Errorf("after the end: %d", got)
	}
	data, err := vfs.ReadFile(fsys, "accounts")
	rest, secret, _ := strings.Cut(string(data), secretPrefix)
	if err != nil || rest != "# ours\n"+quick("carol@our.example", "c") || strings.Count(secret, "\n") != 1 || len(secret) != 44 {
		t.Errorf("%q", data)
	}
	for _, err := range []error{s.Add("a:b@c", "hunter2"), s.Add("a@b", "hunter2\x00"), s.Add("a@b", "hunter2", "x y"), s.SetPassword("carol@our.example", "")} {
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
	lock, err := fsys.Lock("accounts.lock")
	ok(err)
	if err := s.Add("x@y", "z"); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("while another changes it: %v", err)
	}
	ok(lock.Close())
	ok(s.Add("x@y", "z"))
}

// A broken line: the accounts stay as they were, and the Alarm is told once which
// line it is.
func TestBrokenFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		put(t, fsys, "accounts", quick("alice@our.example", "one"))
		var alarms []string
		s := open(t, fsys, Options{Alarm: func(err error) { alarms = append(alarms, err.Error()) }})
		check := func(user, password string, want, told int) {
			t.Helper()
			for range 3 {
				if got := verify(t, s, user, password); got != want || len(alarms) != told {
					t.Fatalf("%s: %d; %q", user, got, alarms)
				}
				time.Sleep(time.Minute)
			}
		}
		time.Sleep(time.Hour)
		check("alice@our.example", "one", 235, 0)
		put(t, fsys, "accounts", "# x\nalice:topsecret\n")
		check("alice@our.example", "one", 235, 1)
		if !strings.Contains(alarms[0], "accounts:2: ") || strings.Contains(alarms[0], "topsecret") {
			t.Errorf("%q", alarms[0])
		}
		if _, err := Open(fsys, "accounts", Options{}); err == nil || !strings.Contains(err.Error(), "accounts:2: ") {
			t.Errorf("opened: %v", err)
		}
		if err := s.Add("x@y", "z"); err == nil {
			t.Error("a broken file was changed")
		}
		put(t, fsys, "accounts", quick("bob@our.example", "two"))
		check("bob@our.example", "two", 235, 1)
		if err := fsys.Remove("accounts"); err != nil {
			t.Fatal(err)
		}
		check("bob@our.example", "two", 235, 2)
		put(t, fsys, "accounts", quick("carol@our.example", "3"))
		check("carol@our.example", "3", 235, 2)
		check("bob@our.example", "two", 535, 2)
	})
}

// Whatever fails while the file is replaced, the old one or the new one is there.
func TestFailedChange(t *testing.T) {
	old := quick("alice@our.example", "one")
	for _, kind := range []vfs.OpKind{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir} {
		mem := vfs.NewMem()
		put(t, mem, "accounts", old)
		s := open(t, mem, Options{})
		if l, err := mem.Lock("accounts.lock"); err != nil || l.Close() != nil {
			t.Fatal(err)
		}
		mem.SetHook(func(op vfs.Op) error {
			if op.Kind == kind {
				return syscall.EIO
			}
			return nil
		})
		if err := s.Add("bob@our.example", "two"); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", kind, err)
		}
		mem.SetHook(nil)
		data, err := vfs.ReadFile(mem, "accounts")
		if err != nil || kind != vfs.OpSyncDir && string(data) != old {
			t.Errorf("%s: %q %v", kind, data, err)
		}
		if _, err := mem.Stat("accounts.new"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the new file is still there: %v", kind, err)
		}
	}
}

// A crash anywhere leaves the old file or the new one, and what Add has returned
// nil for is there.
func TestCrash(t *testing.T) {
	for n := 0; ; n++ {
		mem := vfs.NewMem()
		s := open(t, mem, Options{})
		if err := s.write([]byte(quick("alice@our.example", "one"))); err != nil {
			t.Fatal(err)
		}
		mem.SetHook(vfs.CrashAt(n))
		err := s.Add("bob@our.example", "two")
		died := mem.Dead()
		for after := range mem.Crashes(16) {
			again, openErr := Open(after, "accounts", Options{})
			if openErr != nil {
				t.Fatalf("crash at %d: %v", n, openErr)
			}
			if all := again.List(); !again.Has(mustPath("alice@our.example")) || err == nil && len(all) != 2 {
				t.Fatalf("crash at %d: %v, then %+v", n, err, all)
			}
			if err := again.Remove("alice@our.example"); err != nil {
				t.Fatalf("crash at %d: %v", n, err)
			}
		}
		if !died {
			if err != nil || n < 5 {
				t.Fatalf("%d operations: %v", n, err)
			}
			return
		}
	}
}

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		put(t, fsys, "accounts", quick("alice@our.example", "one"))
		s := open(t, fsys, Options{})
		for range 5 {
			verify(t, s, "alice@our.example", "one")
		}
		if n := s.hasher.count.Load(); n != 1 {
			t.Errorf("%d hashes for five logins", n)
		}
		if verify(t, s, "alice@our.example", "two") != 535 || s.hasher.count.Load() != 2 {
			t.Error("a wrong password is not looked at")
		}
		put(t, fsys, "accounts", quick("alice@our.example", "new"))
		time.Sleep(lookEvery) // the file has the length and the time that it had
		if verify(t, s, "alice@our.example", "one") != 535 {
			t.Error("an old password is still good")
		}
		verify(t, s, "alice@our.example", "new")
		before := s.hasher.count.Load()
		time.Sleep(cacheFor)
		if verify(t, s, "alice@our.example", "new") != 235 || s.hasher.count.Load() != before+1 {
			t.Error("a success is good for ever")
		}
		var c = newCache()
		for i := range 3 * cacheMax {
			c.add([32]byte{byte(i), byte(i >> 8)}, time.Now())
		}
		if len(c.until) > cacheMax {
			t.Errorf("%d successes are kept", len(c.until))
		}
	})
}

// A thousand guesses from one address, on a hundred connections at once: a few
// are looked at, the others cost nothing, and somebody else logs in meanwhile.
func TestThousandGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.NewMem()
		put(t, fsys, "accounts", quick("alice@our.example", "one"))
		s := open(t, fsys, Options{})
		guess := func(codes map[int]int, mu *sync.Mutex) {
			for range 10 {
				_, r := s.Verify(t.Context(), netip.MustParseAddr("203.0.113.9"), "alice@our.example", "guess")
				mu.Lock()
				codes[r.Code]++
				mu.Unlock()
			}
		}
		codes, mu := map[int]int{}, sync.Mutex{}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { guess(codes, &mu) })
		}
		synctest.Wait() // all that are let in wait now
		if at := s.guard.order.Front(); at == nil || at.Value.(*suspect).users != turnWaiters+1 {
			t.Error("not as many wait as may")
		}
		start := time.Now()
		if verify(t, s, "alice@our.example", "one") != 235 || time.Since(start) != 0 {
			t.Errorf("an honest client waited %v", time.Since(start))
		}
		all.Wait()
		if codes[535] != refuseAfter || codes[454] != 1000-refuseAfter || s.hasher.count.Load() != refuseAfter+1 {
			t.Errorf("%v, %d hashes", codes, s.hasher.count.Load())
		}
		if verify(t, s, "alice@our.example", "one") != 235 {
			t.Error("the owner is refused")
		}
		// The right password does not come through either, and says nothing.
		before := s.hasher.count.Load()
		_, r := s.Verify(t.Context(), netip.MustParseAddr("::ffff:203.0.113.9"), "alice@our.example", "one")
		if r.String() != "454 4.7.0 Too many failed logins from your address, try again later" || s.hasher.count.Load() != before {
			t.Error(r)
		}
		time.Sleep(refuseFor)
		if _, r := s.Verify(t.Context(), netip.MustParseAddr("203.0.113.9"), "alice@our.example", "one"); !r.Positive() {
			t.Errorf("after a while: %v", r)
		}
		if _, r := s.Verify(t.Context(), netip.MustParseAddr("203.0.113.9"), "alice@our.example", "guess"); r.Code != 535 {
			t.Error(r)
		}
		if _, r := s.Verify(t.Context(), netip.MustParseAddr("203.0.113.9"), "alice@our.example", "guess"); r.Code != 454 {
			t.Error(r)
		}
	})
}

// Too many clients at once, each from its own address: the first are served, the
// rest come again, and nobody waits for ever.
func TestManyAtOnce(t *testing.T) {
	fsys := vfs.NewMem()
	put(t, fsys, "accounts", quick("alice@our.example", "one"))
	s := open(t, fsys, Options{})
	s.hasher.slots <- struct{}{}
	s.hasher.slots <- struct{}{} // both are taken
	ctx, cancel := context.WithCancel(t.Context())
	replies := make(chan smtp.Reply)
	const n = 100
	for i := range n {
		go func() {
			_, r := s.Verify(ctx, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), "alice@our.example", "one")
			replies <- r
		}()
	}
	// Of all, only those who may wait do.
	for range n - hashesAtOnce - hashWaiters {
		if r := <-replies; r.Code != 454 {
			t.Fatal(r)
		}
	}
	cancel()
	for range hashesAtOnce + hashWaiters {
		if r := <-replies; r.Code != 454 {
			t.Fatal(r)
		}
	}
	<-s.hasher.slots
	if verify(t, s, "alice@our.example", "one") != 235 || len(s.hasher.places) != 0 || len(s.guard.byKey) != 0 || s.guard.order.Len() != 0 {
		t.Error("something is left over")
	}
}

func TestGuardDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(netip.MustParsePrefix("10.0.0.0/8").Contains)
		try := func(addr string) (time.Duration, smtp.Reply) {
			start := time.Now()
			p, r := g.enter(t.Context(), netip.MustParseAddr(addr), time.Now)
			took := time.Since(start)
			if r.IsZero() {
				p.leave(true, time.Now())
			}
			return took, r
		}
		want := []time.Duration{0, 0, 0, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 8 * time.Second, 8 * time.Second}
		for i, d := range want {
			if took, r := try("2001:db8::" + string(rune('1'+i%9))); took != d || !r.IsZero() {
				t.Errorf("guess %d waited %v, %v", i, took, r)
			}
		}
		if took, r := try("2001:db8::ffff:1"); took != 0 || r != tooMany {
			t.Errorf("waited %v, %v", took, r)
		}
		if took, r := try("2001:db8:0:1::1"); took != 0 || !r.IsZero() {
			t.Errorf("the next network waited %v, %v", took, r)
		}
		for range 50 {
			if took, r := try("10.1.2.3"); took != 0 || !r.IsZero() {
				t.Fatal("an exempt network waits")
			}
		}
		time.Sleep(forgetAfter)
		if took, r := try("2001:db8::1"); took != 0 || !r.IsZero() {
			t.Errorf("after a long while: %v, %v", took, r)
		}
	})
}

func TestGuardIsBounded(t *testing.T) {
	synctest.Test(t, testGuardIsBounded)
}

func testGuardIsBounded(t *testing.T) {
	g := newGuard(nil)
	fail := func(i int) smtp.Reply {
		p, r := g.enter(t.Context(), netip.AddrFrom4([4]byte{1, byte(i >> 16), byte(i >> 8), byte(i)}), time.Now)
		if r.IsZero() {
			p.leave(true, time.Now())
		}
		return r
	}
	for i := range 2 * guardMax {
		if r := fail(i); !r.IsZero() {
			t.Fatal(r)
		}
		if i%1000 == 0 {
			fail(0) // who goes on is not forgotten
		}
	}
	if len(g.byKey) != guardMax || g.order.Len() != guardMax {
		t.Errorf("%d addresses are kept", len(g.byKey))
	}
	if r := fail(0); r != tooMany {
		t.Error(r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, r := g.enter(ctx, netip.MustParseAddr("9.9.9.9"), time.Now); r != busy {
		t.Error(r)
	}
	if len(g.byKey) > guardMax {
		t.Errorf("%d addresses are kept", len(g.byKey))
	}
}
